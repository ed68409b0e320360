"""What of the inputs is done already: each is known by its identity, whatever its place is now.

    inputs as drawn ──▶ the same as then, at the same place? ── a stretch at once ──▶ Known
                          │ no: from here on one by one
                          └──▶ ids in a table on disk ── the n-th equal one ──▶ Known
                                                      └─ not there ──────────▶ Fresh

The table is made only when the order differs, in a file that SQLite removes, so memory is flat.
Equal inputs are told apart by their number: of three equal ones, two of them recorded, one is run.

It runs where inputs are drawn, in no control loop: it reads the disk and may run the user's code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from piecework.bases import NamedTuple
from piecework.batching import size_of
from piecework.delivery import Piece
from piecework.errors import JournalChanged, JournalError
from piecework.journal.identity import all_atomic, digests, same
from piecework.journal.known import KnownTable
from piecework.journal.reader import Reader
from piecework.journal.rows import (
    ID_BYTES,
    SESSION_BITS,
    Unreadable,
    index_of,
    place,
    session_of,
)
from piecework.journal.segments import Fresh, Known, Segment, pickled
from piecework.journal.sql import sqlite3
from piecework.journal.stretches import Found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DONE, _FAILED, _UNKEPT = range(3)
LOOKED_AT = 1000  # inputs, none of them known, before it is taken for another list


class _Record(NamedTuple):
    """A stretch of the journal that lies at a stretch of the inputs."""

    offset: int
    number: int
    place: int
    kind: int


class Recall:
    """Tells what of the inputs is recorded. Used by one thread at a time."""

    def __init__(
        self,
        reader: Reader,
        *,
        key: Callable[[Any], object] | None = None,
        failed_again: bool = False,
        strangers: bool = False,
    ) -> None:
        self._reader = reader
        self._key = key
        self._failed_again = failed_again
        self._strangers = strangers  # inputs none of which is known are welcome
        self._extents = {row[0]: row[1:] for row in _extents(reader)}
        self.recorded = sum(row[2] for row in self._extents.values())
        self.left = self.recorded  # records that no input has claimed yet
        self._drawn = 0
        self._shared = False  # some of the inputs are those of this run
        self._in_order = not _overlapping(reader)
        self._table: KnownTable | None = None

    def close(self) -> None:
        """Free the table and the journal."""
        if self._table is not None:
            self._table.close()
        self._reader.close()

    # -- asked --------------------------------------------------------------------------------

    def match(self, inputs: list[Any]) -> list[Segment]:
        """The next inputs, cut into what is known and what is not, in their order."""
        start = self._drawn
        self._drawn += len(inputs)
        if not inputs:
            return []
        if not self.left:
            return [self._fresh(inputs, self._ids_if_needed(inputs), {})]
        ids = self._ids_if_needed(inputs)
        if self._in_order:
            records = self._at_same_place(start, inputs, ids)
            if records is not None:
                return list(self._segments(inputs, ids, records))
            self._in_order = False
        known_by = digests(inputs) if ids is None else ids
        return list(self._segments(inputs, ids, self._claimed(start, known_by)))

    def check(self, *, ended: bool) -> None:
        """Raise where these seem to be the inputs of another run: none of them is known."""
        if self._shared or self._strangers or not self.recorded:
            return
        if self._drawn >= LOOKED_AT or (ended and self._drawn):
            count = f"the {self._drawn} inputs" if ended else f"the first {self._drawn} inputs"
            raise JournalChanged(
                f"none of {count} is among the {self.recorded} that the run {self._reader.name} "
                "has recorded: they seem to be the inputs of another run. Nothing was run. Give "
                'the inputs it was begun with, or resume="anyway" (--resume=anyway) to add these.'
            )

    @property
    def undecided(self) -> bool:
        """Whether nothing should be run yet: `check` may still raise."""
        return not (self._shared or self._strangers) and self.recorded > 0

    # -- at the same place --------------------------------------------------------------------

    def _at_same_place(
        self, start: int, inputs: list[Any], ids: bytes | None
    ) -> list[_Record] | None:
        """What is recorded of these, if they are what was drawn there before; else None."""
        covered: list[tuple[int, int]] = []
        for session in self._sessions_at(start, len(inputs)):
            at = place(session, start)
            for row, number, low, high in self._reader.stretches.draws(at, len(inputs)):
                first = row + low - at
                covered.append((first, first + high - low))
                if not self._same(inputs, ids, first, row, number, low, high):
                    return None
        last = max((high for _, high, _ in self._extents.values()), default=0)
        if _length(covered) < min(start + len(inputs), last) - start:
            return None  # some of them were never handed out at this place
        self._shared = self._shared or bool(covered)
        records = [
            record
            for session in self._sessions_at(start, len(inputs))
            for record in self._records(session, start, len(inputs))
        ]
        return sorted(records)

    def _same(
        self, inputs: list[Any], ids: bytes | None, first: int,
        row: int, number: int, low: int, high: int,
    ) -> bool:  # fmt: skip
        """Whether a stretch of the inputs, from `first` on, is what is in a stretch of a draw."""
        stored = self._reader.stretches.ids(row)
        part = inputs[first : first + high - low]
        if stored is not None:
            mine = ids[first * ID_BYTES :] if ids is not None else digests(part)
            length = (high - low) * ID_BYTES
            return mine[:length] == stored[low * ID_BYTES :][:length]
        return ids is None and same(part, self._reader.stretches.inputs(row + low, high - low))

    def _sessions_at(self, start: int, number: int) -> Iterator[int]:
        for session, (low, high, _) in self._extents.items():
            if low < start + number and high > start:
                yield session

    def _records(self, session: int, start: int, number: int) -> Iterator[_Record]:
        """What of this stretch is recorded by one session."""
        low, high = place(session, start), place(session, start + number)
        sql = (
            "SELECT place, count, vals IS NULL FROM pieces WHERE place < ? AND place >= "
            "coalesce((SELECT max(place) FROM pieces WHERE place <= ?), ?)"
        )
        for at, count, unkept in self._reader.execute(sql, high, low, low):
            first, last = max(at, low), min(at + count, high)
            if first < last and session_of(at) == session:
                kind = _UNKEPT if unkept else _DONE
                yield _Record(first - low, last - first, first, kind)
        sql = "SELECT place FROM failures WHERE place >= ? AND place < ?"
        for (at,) in self._reader.execute(sql, low, high):
            yield _Record(at - low, 1, at, _FAILED)

    # -- at any place -------------------------------------------------------------------------

    def _unclaimed(self, start: int) -> Iterator[tuple[bytes, int, int]]:
        for session, (_, high, _) in self._extents.items():
            for number in range(start, high, 1 << 16):
                for record in self._records(session, number, min(1 << 16, high - number)):
                    yield from self._with_ids(record)

    def _with_ids(self, record: _Record) -> Iterator[tuple[bytes, int, int]]:
        at = record.place
        for row, _number, low, high in self._reader.stretches.draws(at, record.number):
            stored = self._reader.stretches.ids(row)
            if stored is None:
                ids = digests(self._reader.stretches.inputs(row + low, high - low))
            else:
                ids = stored[low * ID_BYTES : high * ID_BYTES]
            for position in range(high - low):
                yield _one(ids, position), row + low + position, record.kind

    def _claimed(self, start: int, ids: bytes) -> list[_Record]:
        """What is recorded of these, wherever; those from `start` on are not claimed yet."""
        if self._table is None:
            try:
                self._table = KnownTable(self._unclaimed(start))
            except sqlite3.Error as error:
                raise JournalError(
                    f"the inputs come in another order, and the table to find them by cannot be "
                    f"made: {error}. Give them in the same order, or set TMPDIR to where there is "
                    "room."
                ) from error
        return [_Record(position, 1, at, kind) for position, at, kind in self._table.claim(ids)]

    # -- segments -----------------------------------------------------------------------------

    def _segments(
        self, inputs: list[Any], ids: bytes | None, records: Sequence[_Record]
    ) -> Iterator[Segment]:
        first = 0  # of those that are to be run and not handed over yet
        instead: dict[int, int] = {}
        for group in _together(records):
            record = group[0]
            number = sum(one.number for one in group)
            self.left -= number
            self._shared = True
            if record.kind == _UNKEPT or (record.kind == _FAILED and self._failed_again):
                for one in group:
                    instead.update((one.offset + n, one.place + n) for n in range(one.number))
                continue
            yield from self._run(inputs, ids, first, record.offset, instead)
            first = record.offset + number
            yield from self._recalled(group, inputs[record.offset : first])
        yield from self._run(inputs, ids, first, len(inputs), instead)

    def _run(
        self, inputs: list[Any], ids: bytes | None, start: int, stop: int, instead: dict[int, int]
    ) -> Iterator[Segment]:
        if start < stop:
            some = None if ids is None else ids[start * ID_BYTES : stop * ID_BYTES]
            moved = {position - start: at for position, at in instead.items()}
            instead.clear()
            yield self._fresh(inputs[start:stop], some, moved)

    def _recalled(self, group: Sequence[_Record], inputs: list[Any]) -> Iterator[Segment]:
        if group[0].kind == _FAILED:
            for record, input in zip(group, inputs, strict=True):
                yield self._failed(record.place, input)
        elif len(group) == 1:
            record = group[0]
            for piece in self._reader.stretches.pieces(Found(record.place, record.number)):
                self._check_readable(piece)
                start = piece.places[0] - record.place
                piece.inputs = inputs[start : start + len(piece)]
                piece.nbytes = size_of(piece.values) + size_of(piece.inputs)
                yield Known(piece)
        else:
            places = [record.place for record in group]
            for piece in self._reader.stretches.scattered(places):
                self._check_readable(piece)
                piece.inputs, inputs = inputs[: len(piece)], inputs[len(piece) :]
                piece.nbytes = size_of(piece.values) + size_of(piece.inputs)
                yield Known(piece)

    def _check_readable(self, piece: Piece) -> None:
        """A value that cannot be made here must not pass for the value of its task."""
        for value in piece.values:
            if type(value) is Unreadable:
                raise JournalError(
                    f"the values of the run {self._reader.name} cannot be read: one {value.why}. "
                    "Make what it names importable here, or begin anew under another name."
                )

    def _failed(self, at: int, input: Any) -> Known:
        result = self._reader.result_at(at)
        assert result is not None
        assert result.failure is not None
        piece = Piece(0, [None], {0: result.failure}, [input], [(1, result.seconds)])
        piece.attempt, piece.worker, piece.places = result.attempt, result.worker, [at]
        piece.recalled = True
        return Known(piece, self._reader.quarantined(at))

    def _fresh(self, inputs: list[Any], ids: bytes | None, instead: dict[int, int]) -> Fresh:
        return Fresh(inputs, ids, None if ids is None else pickled(inputs), instead)

    def _ids_if_needed(self, inputs: list[Any]) -> bytes | None:
        """The ids where inputs could be changed, or have a name; else they follow from them."""
        if self._key is None and all_atomic(inputs):
            return None
        return digests(inputs, self._key)


def _together(records: Sequence[_Record]) -> Iterator[list[_Record]]:
    """Neighbours among the inputs that are of one kind; a stretch of many stands alone."""
    group: list[_Record] = []
    for record in records:
        if group and not (
            record.kind == group[-1].kind
            and record.number == group[-1].number == 1
            and record.offset == group[-1].offset + 1
        ):
            yield group
            group = []
        group.append(record)
    if group:
        yield group


def _length(stretches: list[tuple[int, int]]) -> int:
    """How many they cover together."""
    total = upto = 0
    for low, high in sorted(stretches):
        total += max(0, high - max(low, upto))
        upto = max(upto, high)
    return total


def _one(ids: bytes, position: int) -> bytes:
    return ids[position * ID_BYTES : (position + 1) * ID_BYTES]


def _extents(reader: Reader) -> list[tuple[int, int, int, int]]:
    """Of each session: the first and the last place it handed out or recorded, and how many."""
    sql = f"""
        SELECT place >> {SESSION_BITS}, min(place), max(place + count), sum(number) FROM (
            SELECT place, count, 0 AS number FROM draws
            UNION ALL SELECT place, count, count FROM pieces
            UNION ALL SELECT place, 1, 1 FROM failures
        ) GROUP BY 1
    """  # numbers of ours
    return [(s, index_of(low), index_of(high), n) for s, low, high, n in reader.execute(sql)]


def _overlapping(reader: Reader) -> bool:
    """Whether two sessions recorded the same index: then the order was not the same in both."""
    sql = f"""
        SELECT place & {(1 << SESSION_BITS) - 1} AS low, count FROM pieces
        UNION ALL SELECT place & {(1 << SESSION_BITS) - 1}, 1 FROM failures ORDER BY low
    """  # numbers of ours
    stop = 0
    for low, count in reader.execute(sql):
        if low < stop:
            return True
        stop = low + count
    return False
