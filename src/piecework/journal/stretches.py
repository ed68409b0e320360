"""Stretches of the journal as pieces: what was done at neighbouring places, and its inputs.

Rows are unpickled whole and the ones read last are kept, so that reading in the order they lie in
unpickles each once. Scattered ones are read row by row, whatever order they are wanted in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate

from piecework.bases import NamedTuple
from piecework.delivery import Piece
from piecework.errors import JournalInvalid
from piecework.journal.rows import (
    ID_BYTES,
    NOT_KEPT,
    Mark,
    Unreadable,
    index_of,
    marks_of,
    opened,
    session_of,
    unpacked,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KEPT_BYTES = 4 << 20  # of rows, as they are pickled
_UNKEPT = "the value could not be kept in the journal"


class Found(NamedTuple):
    """A stretch of results in the journal."""

    place: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


class _Row(NamedTuple):
    """One row of `pieces`, unpickled."""

    place: int
    number: int
    values: list[Any]
    marks: Sequence[Mark]
    starts: Sequence[int]  # of the marks

    def mark(self, position: int) -> tuple[Mark, int]:
        """How the task at a position was done, and where in that mark it stands."""
        number = bisect_right(self.starts, position) - 1
        return self.marks[number], position - self.starts[number]


class Stretches:
    """Reads through `many` and `one`, which run a statement and give its rows, or its one row."""

    def __init__(self, many: Callable[..., list[Any]], one: Callable[..., Any]) -> None:
        self._many = many
        self._one = one
        self._kept: dict[tuple[str, int], tuple[Any, int]] = {}
        self._bytes = 0

    def pieces(self, found: Found) -> Iterator[Piece]:
        """A stretch of done tasks as pieces of what settled together, or less."""
        at, left = found
        while left > 0:
            row = self._row_at(at)
            start, stop = at - row.place, min(at - row.place + left, row.number)
            yield from self._pieces_of(row, start, stop)
            left -= stop - start
            at += stop - start

    def scattered(self, places: Sequence[int]) -> Iterator[Piece]:
        """Done tasks from anywhere, in the order of `places`; their inputs are left out."""
        found: list[tuple[Any, float, int, str]] = [(None, 0.0, 0, "")] * len(places)
        row: _Row | None = None
        for number in sorted(range(len(places)), key=places.__getitem__):
            at = places[number]
            if row is None or at >= row.place + row.number:
                row = self._row_at(at)
            mark, position = row.mark(at - row.place)
            seconds = _seconds_at(mark, position)
            found[number] = row.values[at - row.place], seconds, mark.attempt, mark.worker
        first = 0
        for stop in range(1, len(found) + 1):
            if stop < len(found) and found[stop][2] == found[first][2]:
                continue
            some = found[first:stop]
            yield Piece(
                start=0,
                values=[one[0] for one in some],
                failures={},
                inputs=(),
                timings=[(1, one[1]) for one in some],
                attempt=some[0][2],
                workers=[one[3] for one in some],
                recalled=True,
                places=places[first:stop],
            )
            first = stop

    def _pieces_of(self, row: _Row, start: int, stop: int) -> Iterator[Piece]:
        inputs = self.inputs(row.place + start, stop - start)
        for mark, first in zip(row.marks, row.starts, strict=True):
            low, high = max(start, first), min(stop, first + mark.count)
            if low >= high:
                continue
            before, after = [None] * (low - first), [None] * (first + mark.count - high)
            piece = Piece(
                start=index_of(row.place) + first,
                values=row.values[first : first + mark.count],
                failures={},
                inputs=[*before, *inputs[low - start : high - start], *after],
                timings=mark.timings,
                attempt=mark.attempt,
                worker=mark.worker,
                recalled=True,
                places=range(row.place + first, row.place + first + mark.count),
            )
            yield piece.part(low - first, high - first) if before or after else piece

    def _row_at(self, at: int) -> _Row:
        """The row that a done task lies in."""
        found = self._many(
            "SELECT place, count FROM pieces WHERE place <= ? ORDER BY place DESC LIMIT 1", at
        )
        if not found or found[0][0] + found[0][1] <= at:
            raise JournalInvalid(f"no result at place {at}: the journal is damaged")
        row, number = found[0]
        made: _Row = self._get("pieces", row, partial(self._read_row, row, number))
        return made

    def _read_row(self, row: int, number: int) -> tuple[_Row, int]:
        vals, marks = self._one("SELECT vals, marks FROM pieces WHERE place = ?", row)
        pickles = b"" if vals is None else opened(vals)
        values = [Unreadable(_UNKEPT)] * number if vals is None else _values(pickles, number)
        found = list(marks_of(marks, number))
        starts = [0, *accumulate(mark.count for mark in found)][:-1]
        return _Row(row, number, values, found, starts), len(pickles) + len(marks)

    def inputs(self, at: int, count: int) -> Sequence[Any]:
        """The inputs of a stretch that was handed out; NOT_KEPT for those that were not kept."""
        found: list[Any] = []
        for row, number, start, stop in self.draws(at, count):
            values = self._get("draws", row, partial(self._read_inputs, row, number))
            found += [NOT_KEPT] * (row + start - at - len(found))
            found += values[start:stop] if values is not None else [NOT_KEPT] * (stop - start)
        return found + [NOT_KEPT] * (count - len(found))

    def _read_inputs(self, row: int, count: int) -> tuple[list[Any] | None, int]:
        (inputs,) = self._one("SELECT inputs FROM draws WHERE place = ?", row)
        if inputs is None:
            return None, 0
        pickles = opened(inputs)
        return _values(pickles, count), len(pickles)

    def draws(self, at: int, count: int) -> list[tuple[int, int, int, int]]:
        """The draws that a stretch lies in: (row, its count, from, to inside of it)."""
        rows = self._many(
            "SELECT place, count FROM draws WHERE place < ? AND place >= "
            "coalesce((SELECT max(place) FROM draws WHERE place <= ?), ?) ORDER BY place",
            at + count,
            at,
            at,
        )
        return [
            (row, number, max(at - row, 0), min(at + count - row, number))
            for row, number in rows
            if row + number > at and session_of(row) == session_of(at)
        ]

    def ids(self, row: int) -> bytes | None:
        """The ids of a whole draw, where they were stored; else they follow from the inputs."""
        (ids,) = self._one("SELECT ids FROM draws WHERE place = ?", row)
        assert ids is None or len(ids) % ID_BYTES == 0
        return None if ids is None else bytes(ids)

    def _get(self, table: str, row: int, make: Callable[[], tuple[Any, int]]) -> Any:
        """A row as it was made before, or is made now."""
        key = table, row
        if key not in self._kept:
            made, nbytes = make()
            while self._kept and self._bytes + nbytes > _KEPT_BYTES:
                self._bytes -= self._kept.pop(next(iter(self._kept)))[1]
            self._kept[key] = made, nbytes
            self._bytes += nbytes
        return self._kept[key][0]


def _seconds_at(mark: Mark, position: int) -> float:
    for tasks, seconds in mark.timings:
        if position < tasks:
            return seconds / tasks
        position -= tasks
    return 0.0


def _values(pickles: bytes, count: int) -> list[Any]:
    try:
        return unpacked(pickles, count)
    except Exception as error:  # a class that is not there any more, or is in another __main__
        what = f"cannot be made here: {type(error).__name__}: {error}"
        return [Unreadable(what)] * count
