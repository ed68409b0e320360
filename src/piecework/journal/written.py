"""Which recorded results are in the output file, and how long the file is with them.

    session 1: results ──▶ file, and in one transaction: places, length     ── killed ──
    session 2: file cut to that length ──▶ results that are not in it yet ──▶ file

So a result is in the file once, whatever instant a run ends at. A recalled result is known by its
place in the journal: its index may be another one today.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from pathlib import Path

from piecework.delivery import Piece
from piecework.journal.reader import Reader
from piecework.journal.rows import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Written:
    """Used from two threads: the one that reads results and the one that writes the file."""

    def __init__(self, path: Path, session: int) -> None:
        self._path = path
        self._session = session
        self._follows = False  # somebody writes a file, and asks
        self._anew = False  # what earlier sessions wrote does not count
        self._lock = threading.Lock()
        self._before: list[tuple[int, int]] = []  # places in the file, from ... to
        self._recalled: list[list[int]] = []  # [index, stop, place, how many are open], in order

    def output(self) -> tuple[str, int, bytes] | None:
        """Path, length and tail of the file as an earlier session left it."""
        with Reader(self._path) as reader, self._lock:
            self._follows = True
            known = None if self._anew else reader.meta("output")
            if known is None:
                return None
            rows = reader.execute("SELECT place, count FROM written ORDER BY place")
            self._before = list(_merged((at, at + count) for at, count in rows))
        path, length, tail = json.loads(known)
        return path, length, bytes.fromhex(tail)

    def recalled(self, piece: Piece) -> None:
        """The reader gets this piece now: `has` will be asked for each of its results."""
        if self._follows:
            index = piece.start
            with self._lock:
                for start, stop in _runs(piece.places):
                    insort(self._recalled, [index, index + stop - start, start, stop - start])
                    index += stop - start

    def keep_place(self, index: int, at: int) -> None:
        """The result of this index will have a place of its own."""
        with self._lock:
            insort(self._recalled, [index, index + 1, at, 1])

    def has(self, index: int) -> bool:
        """Whether this result is in the file already."""
        with self._lock:
            found = self._find(index)
            if found is None:
                return False
            at = found[2] + index - found[0]
            number = bisect_right(self._before, (at, 1 << 63)) - 1
            written = number >= 0 and at < self._before[number][1]
            if written:
                self._close_one(found)
            return written

    def add(
        self, path: str, length: int, tail: bytes, indexes: Sequence[int]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """The statements that note them."""
        with self._lock:
            places = sorted(map(self._place, indexes))
        for start, stop in _merged((at, at + 1) for at in places):
            yield "INSERT OR REPLACE INTO written VALUES (?, ?)", (start, stop - start)
        value = json.dumps([path, length, tail.hex()])
        yield "INSERT OR REPLACE INTO meta VALUES ('output', ?)", (value,)

    def forget(self) -> Iterator[tuple[str, Sequence[Any]]]:
        """The statements that forget all."""
        with self._lock:
            self._follows = True
            self._anew = True
            self._before.clear()
        yield "DELETE FROM written", ()
        yield "DELETE FROM meta WHERE key = 'output'", ()

    def _place(self, index: int) -> int:
        found = self._find(index)
        if found is None:
            return place(self._session, index)
        at = found[2] + index - found[0]
        self._close_one(found)
        return at

    def _find(self, index: int) -> list[int] | None:
        number = bisect_right(self._recalled, [index, 1 << 63]) - 1
        if number < 0 or index >= self._recalled[number][1]:
            return None
        return self._recalled[number]

    def _close_one(self, found: list[int]) -> None:
        found[3] -= 1
        if not found[3]:
            self._recalled.remove(found)


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbours that follow each other, in the order they come."""
    if isinstance(places, range):
        yield places.start, places.stop
        return
    first = 0
    for number in range(1, len(places) + 1):
        if number == len(places) or places[number] != places[number - 1] + 1:
            yield places[first], places[number - 1] + 1
            first = number


def _merged(stretches: Any) -> Iterator[tuple[int, int]]:
    """Sorted stretches, neighbours joined."""
    last: tuple[int, int] | None = None
    for start, stop in stretches:
        if last is not None and start <= last[1]:
            last = last[0], max(last[1], stop)
            continue
        if last is not None:
            yield last
        last = start, stop
    if last is not None:
        yield last
