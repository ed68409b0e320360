"""Durations, numbers and values as people read them, in one line."""

from __future__ import annotations

from reprlib import Repr

_repr = Repr()
_repr.maxstring = _repr.maxother = 80


def exact(seconds: float) -> str:
    """What was measured: `12.5 µs`, `3.2 ms`, `9.5 s`, `4 min 10 s`, `2 h 5 min`."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def about(seconds: float) -> str:
    """What is only estimated, in two figures: `9 s`, `4 min`, `2.5 h`, `3 days`."""
    number, unit = _rough(seconds)
    return f"{number} {unit}"


def between(low: float, high: float) -> str:
    """`4 to 6 min`, `50 s to 2 min`; one number where both ends read the same."""
    (first, unit), (last, other) = _rough(low), _rough(high)
    if unit != other:
        return f"{first} {unit} to {last} {other}"
    return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"


def _rough(seconds: float) -> tuple[str, str]:
    if seconds < 99.5:
        return f"{max(1, round(seconds))}", "s"
    if seconds < 99.5 * 60:
        return f"{round(seconds / 60)}", "min"
    hours = seconds / 3600
    if hours < 48:
        return f"{hours:.1f}".removesuffix(".0"), "h"
    return f"{round(hours / 24):,}", "days"


def counted(number: int, noun: str) -> str:
    """`1 input`, `1,234 inputs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shown(value: object) -> str:
    """A shortened repr, whatever the value's own one does."""
    try:
        return one_line(_repr.repr(value), 200)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def one_line(text: str, most: int) -> str:
    """Text of others for a terminal: its first line, without control characters, cut."""
    line = text.strip().split("\n", 1)[0]
    line = "".join(c if c.isprintable() else " " for c in line[: 2 * most]).strip()
    return line if len(line) <= most else line[: most - 1] + "…"
