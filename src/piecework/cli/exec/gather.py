"""Several rows of arguments for one command: so many, or as many as fit. Pure.

a b c d e ── -n 2 ──▶ (a b) (c d) (e)
a b c d e ── -X with 2 slots ──▶ (a b c) (d e)     what fits in one is shared out at the end
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

Row = tuple[str, ...]

CHARACTERS_MAX = 1 << 17  # of one command line; the kernel takes no single word longer than that


def by_count(rows: Iterable[Row], count: int) -> Iterator[Row]:
    """`count` rows at a time; the last may have fewer."""
    held: list[str] = []
    rows_held = 0
    for row in rows:
        held += row
        rows_held += 1
        if rows_held == count:
            yield tuple(held)
            held, rows_held = [], 0
    if rows_held:
        yield tuple(held)


def by_size(
    rows: Iterable[Row],
    cost: Callable[[Row], int],
    limit: int,
    count: int | None = None,
    slots: int = 1,
) -> Iterator[Row]:
    """As many rows as cost no more than `limit`, at most `count`; one at least.

    With `slots`, what is left when the input ends is shared out among so many commands, so that
    all of them have something to do.
    """
    held: list[Row] = []
    spent = 0
    for row in rows:
        price = cost(row)
        if held and (spent + price > limit or len(held) == count):
            yield sum(held, ())
            held, spent = [], 0
        held.append(row)
        spent += price
    yield from _shared_out(held, slots)


def _shared_out(rows: list[Row], slots: int) -> Iterator[Row]:
    if rows:
        size = -(-len(rows) // max(1, slots))
        for start in range(0, len(rows), size):
            yield sum(rows[start : start + size], ())
