"""Sizes in bytes as people write them: "2GB", "512 MiB", "1.5G"."""

from __future__ import annotations

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size_from(text: str) -> int | None:
    """Bytes; None where it is no size. kB, MB, GB and TB are powers of 1000; K, M, G, T and KiB to
    TiB of 1024."""
    word = text.strip().lower()
    number = word.rstrip("bikmgt ")
    unit = word[len(number) :].strip()
    base = 1000 if unit.endswith("b") and not unit.endswith("ib") else 1024
    letter = unit.removesuffix("b").removesuffix("i")
    if letter not in _POWERS or (unit.endswith("i") or unit == "ib"):
        return None
    try:
        amount = float(number)
    except ValueError:
        return None
    return int(amount * base ** _POWERS[letter]) if 0 <= amount < 1e15 else None


def size_text(nbytes: float) -> str:
    """`1.4 GB`: three digits, powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if nbytes < 999.5 or unit == "TB":
            return f"{nbytes:.0f} bytes" if unit == "bytes" else f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    raise AssertionError
