"""Rows as columns of text that fit the terminal; whole where no terminal is, for other programs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterator, Sequence

GAP = "  "
LEAST = 8  # characters that are left of a shortened column


def table(
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    right: Collection[int] = (),
    shorten: Sequence[int] = (),
) -> Iterator[str]:
    """Lines of `rows`, the first of which is the head, at most `width` wide.

    Columns in `right` hold numbers; those in `shorten` lose characters, the first of them first,
    where that is too narrow.
    """
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    over = sum(widths) + len(GAP) * (len(widths) - 1) - width
    for column in shorten:
        less = max(0, min(over, widths[column] - LEAST))
        widths[column] -= less
        over -= less
    for row in rows:
        cells = [
            cut(cell, wide).rjust(wide) if column in right else cut(cell, wide).ljust(wide)
            for column, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        yield GAP.join(cells).rstrip()


def terminal_width() -> int:
    """Columns of the terminal that standard output is; no limit where it is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return 1 << 30
    return shutil.get_terminal_size().columns


def cut(text: str, width: int) -> str:
    """`text` on one line, at most `width` wide; three dots stand for what is left out."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def size(count: int) -> str:
    """`312 B`, `4.5 kB`, `38 MB`."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return (
                f"{number:.0f} {unit}" if number >= 9.95 or unit == "B" else f"{number:.1f} {unit}"
            )
        number /= 1000
    return f"{number:.1f} TB"


def age(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h`, `9 d`: of a list that is read at a glance."""
    for most, unit, of in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < most:
            return f"{max(0, seconds) // of:.0f} {unit}"
    return f"{seconds // 86_400:.0f} d"
