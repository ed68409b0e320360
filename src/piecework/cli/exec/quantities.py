"""Numbers with units, as they are written on the command line; each refusal shows how."""

from __future__ import annotations

import math

from piecework.errors import UsageError

_SECONDS = {"ms": 0.001, "min": 60.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    letter: base**power
    for power, pair in enumerate(("kK", "mM", "gG", "tT"), 1)
    for letter, base in zip(pair, (1000, 1024), strict=True)
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "\\": "\\"}


def seconds(text: str) -> float:
    """`30`, `1.5s`, `10m`, `2h`, `1d`; GNU parallel's `1h30m` too."""
    total, rest = 0.0, text.strip()
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :].lstrip(" ")
        unit = next((unit for unit in _SECONDS if rest.startswith(unit)), "")
        rest = rest[len(unit) :]
        if (not unit and rest) or not _is_number(number):
            break
        total += float(number) * _SECONDS.get(unit, 1.0)
    else:
        if text.strip():
            return total
    raise UsageError(f"{text!r} is no duration. Write 30, 1.5s, 10m or 2h.")


def bytes_(text: str) -> int:
    """`100k` is 100,000 and `1M` is 1,048,576: small letters count in thousands, as GNU's do."""
    number = text.strip()
    factor = 1
    if number[-1:] in _BYTES:
        factor, number = _BYTES[number[-1]], number[:-1]
    if not _is_number(number) or not float(number) * factor >= 1:
        raise UsageError(f"{text!r} is no size. Write 100000, 100k, 10M or 2G.")
    return int(float(number) * factor)


def whole(least: int, most: float = math.inf, *, what: str = "") -> object:
    """A reader of whole numbers from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise UsageError(f"{text!r} is no number. Write a whole number from {least} on{what}.")
        return number

    return read


def jobs(text: str, cores: int, most: int) -> int:
    """`4`, `+2` and `-1` (more or fewer than there are cores), `200%` of them, `0` for `most`."""
    try:
        if text.endswith("%"):
            count = math.floor(float(text[:-1]) / 100 * cores)
        elif text.startswith(("+", "-")):
            count = cores + int(text)
        else:
            count = int(text) or most
    except (ValueError, OverflowError):
        raise UsageError(
            f"-j {text}: no number of jobs. Write 4, 200% of the cores, +1, -1, or 0 for all."
        ) from None
    return max(1, min(count, most))


def share(text: str) -> float | None:
    """0.5 for `50%`; None for what is no percentage."""
    if not text.endswith("%"):
        return None
    if not _is_number(text[:-1]) or not float(text[:-1]) > 0:
        raise UsageError(f"{text!r} is no percentage. Write 200%, or a number without %.")
    return float(text[:-1]) / 100


def load(text: str, cores: int) -> float:
    """`3.5`, or `80%` of the cores."""
    part = share(text)
    if part is not None:
        return part * cores
    if not _is_number(text) or not float(text) > 0:
        raise UsageError(f"{text!r} is no load. Write 3.5, or 80% of the cores.")
    return float(text)


def unescaped(written: str) -> str:
    r"""A text with `\n`, `\t`, `\0`, `\x1f` and the like in it."""
    parts = written.split("\\")
    made = [parts[0]]
    rest = iter(parts[1:])
    for part in rest:
        if not part:  # two backslashes
            made += ["\\", next(rest, "")]
        elif part[0] == "x" and len(part) >= 3 and _is_hex(part[1:3]):
            made += [chr(int(part[1:3], 16)), part[3:]]
        elif part[0] in "01234567":
            digits = part[:3]
            while not all(digit in "01234567" for digit in digits):
                digits = digits[:-1]
            made += [chr(int(digits, 8)), part[len(digits) :]]
        else:
            made += [_ESCAPES.get(part[0], "\\" + part[0]), part[1:]]
    return "".join(made)


def _is_hex(digits: str) -> bool:
    return all(digit in "0123456789abcdefABCDEF" for digit in digits)


def _is_number(written: str) -> bool:
    return written.replace(".", "", 1).isdigit() and written.isascii()
