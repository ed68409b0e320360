"""What a journal holds, for `runs`, `show` and `results`, and for a run that goes on.

It can be read while the run is live, and never holds up its writer. Nothing is read that is not
asked for: results come one piece after the other, from the disk.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from piecework.delivery import Piece
from piecework.errors import JournalInvalid
from piecework.groups import FailureGroup, Failures
from piecework.journal import directory
from piecework.journal.files import check_file, connect_to_read, damaged, unreadable
from piecework.journal.rows import (
    ID_BYTES,
    NOT_KEPT,
    SESSION_BITS,
    Mark,
    Unreadable,
    index_of,
    marks_of,
    place,
    session_of,
    unpacked,
)
from piecework.record import record
from piecework.summary import Timings
from piecework.task import Failure, Result

_KEPT_ROWS = 8


@record(frozen=True, slots=True)
class Session:
    """One start of a run. `ended` is None while it lives, and where it was killed (`why`)."""

    id: int
    started: float
    ended: float | None
    why: str  # "" all inputs worked off, else as Summary.stopped; "killed" where it just ended
    pid: int
    host: str
    argv: tuple[str, ...]
    cwd: str
    python: str
    on: str
    inputs: int | None  # how many were known to come
    seconds: float
    drawn: int
    fresh: int  # of them handed out, not recalled
    done: int
    failed: int
    quarantined: int
    cancelled: int
    recalled: int
    executions: int
    retries: int
    repeats: int
    losses: int
    again: int  # were in flight when it was killed: they may have run, and run again


class Counts(NamedTuple):
    """What is recorded, over all sessions."""

    done: int
    failed: int
    quarantined: int
    unkept: int  # of those done: their value could not be kept, a resumed run does them again
    total: int | None  # how many inputs the newest session knew of
    drawn: int  # by the newest session
    executions: int
    retries: int
    repeats: int
    losses: int
    in_flight: int  # when sessions were killed: may have run twice
    sessions: int

    @property
    def open(self) -> int | None:
        """How many are not worked off; None where it is not known how many there are."""
        total = self.total
        return None if total is None else max(0, total - self.done - self.failed - self.quarantined)


class Found(NamedTuple):
    """A stretch of results in the journal."""

    place: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


class Reader:
    """Reads one journal. Close it, or use it as a context."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        check_file(self.path)
        self._db = connect_to_read(self.path)
        self._rows: dict[tuple[str, int], Any] = {}  # the ones read last, unpickled

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- about the run ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return directory.name_of(self.path)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return directory.size_of(self.path)

    @property
    def holder(self) -> directory.Holder | None:
        """Who writes to it now; None where the run is not live."""
        return directory.holder(self.path)

    @property
    def live(self) -> bool:
        return self.holder is not None

    def meta(self, key: str) -> Any:
        """`function`, `created`, `version`, `keyed`, `complete`, `output`; None where not set."""
        found = self._all("SELECT value FROM meta WHERE key = ?", key)
        return found[0][0] if found else None

    @property
    def function(self) -> str:
        """`module:name`."""
        return str(json.loads(self.meta("function") or '{"name": ""}')["name"])

    @property
    def parts(self) -> dict[str, str]:
        """What the function consisted of; see `version`."""
        found: dict[str, str] = json.loads(self.meta("function") or "{}").get("parts", {})
        return found

    @property
    def complete(self) -> bool:
        """Every input of the newest session is done, and nothing more is to come."""
        return bool(self.meta("complete"))

    def sessions(self) -> list[Session]:
        """Every start of the run, the oldest first."""
        columns = "id, started, ended, why, pid, host, argv, cwd, python, run_on, inputs, seconds"
        columns += ", drawn, fresh, done, failed, quarantined, cancelled, recalled, executions"
        columns += ", retries, repeats, losses, again"
        rows = self._all(f"SELECT {columns} FROM sessions ORDER BY id")  # names of ours
        found = [_session(row) for row in rows]
        if found and found[-1].ended is None and not found[-1].why and not self.live:
            found[-1] = _session([*rows[-1][:3], "killed", *rows[-1][4:]])
        return found

    # -- counts -------------------------------------------------------------------------------

    def counts(self) -> Counts:
        done, unkept = self._one(
            "SELECT coalesce(sum(count), 0), coalesce(sum(count * (vals IS NULL)), 0) FROM pieces"
        )
        states = dict(self._all("SELECT state, count(*) FROM failures GROUP BY state"))
        sums = self._one(
            "SELECT coalesce(sum(executions), 0), coalesce(sum(retries), 0), "
            "coalesce(sum(repeats), 0), coalesce(sum(losses), 0), coalesce(sum(again), 0), "
            "count(*) FROM sessions"
        )
        last = self._all("SELECT inputs, drawn FROM sessions ORDER BY id DESC LIMIT 1")
        total, drawn = last[0] if last else (None, 0)
        failed, quarantined = states.get("failed", 0), states.get("quarantined", 0)
        return Counts(done, failed, quarantined, unkept, total, drawn, *sums)

    def timings(self) -> Timings:
        """Durations of the tasks that are done: `.percentiles()`."""
        timings = Timings()
        for count, marks in self._each("SELECT count, marks FROM pieces"):
            for mark in marks_of(marks, count):
                timings.add(mark.timings)
        return timings

    def failures(self) -> Failures:
        """The failed tasks in groups, as a run has them."""
        failures = Failures()
        for result in self.failed():
            failures.add(result)
        return failures

    def groups(self) -> list[FailureGroup]:
        return self.failures().groups()

    def slowest(self, most: int = 10) -> list[Result]:
        """The tasks that took longest, of those that were timed alone or with few others."""
        found: list[tuple[float, int]] = []
        for row, count, marks in self._each("SELECT place, count, marks FROM pieces"):
            at = row
            for mark in marks_of(marks, count):
                for tasks, seconds in mark.timings:
                    found.append((seconds / tasks, at))
                    at += tasks
                at += mark.count - sum(tasks for tasks, _ in mark.timings)
            if len(found) > 1000:
                found = sorted(found, reverse=True)[:most]
        for row, seconds in self._each("SELECT place, seconds FROM failures"):
            found.append((seconds, row))
        found = sorted(found, reverse=True)[:most]
        results = [self.result_at(at) for _, at in found]
        return [result for result in results if result is not None]

    # -- results ------------------------------------------------------------------------------

    def results(self, *, failed: bool | None = None) -> Iterator[Result]:
        """Every recorded result, in the order of the inputs; with `failed` only those, or others.

        A value whose class cannot be imported here is an Unreadable that says so.
        """
        for at, count, good in self._order(failed):
            if good:
                for piece in self.pieces(Found(at, count)):
                    yield from piece.results()
            else:
                yield from (r for r in [self._failure_at(at)] if r is not None)

    def failed(self) -> Iterator[Result]:
        return self.results(failed=True)

    def _order(self, failed: bool | None) -> Iterator[tuple[int, int, int]]:
        """Where all of it lies, sorted by SQLite, which does it on disk where it is much."""
        parts = []
        if failed is not True:
            parts.append("SELECT place AS p, count AS c, 1 FROM pieces")
        if failed is not False:
            parts.append("SELECT place AS p, 1 AS c, 0 FROM failures")
        order = "ORDER BY p & 17592186044415, p >> 44"
        return self._each(f"SELECT * FROM ({' UNION ALL '.join(parts)}) {order}")  # text of ours

    def result(self, index: int) -> Result | None:
        """The newest result at that index; None where there is none."""
        for (session,) in self._all("SELECT id FROM sessions ORDER BY id DESC"):
            found = self.result_at(place(session, index))
            if found is not None:
                return found
        return None

    def result_at(self, at: int) -> Result | None:
        """The result at a place; None where there is none."""
        failure = self._failure_at(at)
        if failure is not None:
            return failure
        rows = self._all(
            "SELECT place, count FROM pieces WHERE place <= ? ORDER BY place DESC LIMIT 1", at
        )
        if not rows or rows[0][0] + rows[0][1] <= at:
            return None
        return next(next(self.pieces(Found(at, 1))).results())

    def _failure_at(self, at: int) -> Result | None:
        rows = self._all(
            "SELECT attempt, worker, seconds, type, message, failure, input FROM failures "
            "WHERE place = ?",
            at,
        )
        if not rows:
            return None
        attempt, worker, seconds, kind, message, failure, input = rows[0]
        why = _unpickled(failure)
        return Result(
            index=index_of(at),
            input=NOT_KEPT if input is None else _unpickled(input),
            ok=False,
            failure=why if isinstance(why, Failure) else Failure(kind, message),
            seconds=seconds,
            attempt=attempt,
            worker=worker,
            recalled=True,
        )

    def failed_places(self) -> Iterator[tuple[int, str]]:
        """Where the failed tasks are recorded, in the order of the inputs, each with its state."""
        order = f"ORDER BY place & {(1 << SESSION_BITS) - 1}, place"
        return self._each(f"SELECT place, state FROM failures {order}")  # a number of ours

    def quarantined(self, at: int) -> bool:
        return bool(
            self._all("SELECT 1 FROM failures WHERE place = ? AND state = 'quarantined'", at)
        )

    # -- stretches ----------------------------------------------------------------------------

    def pieces(self, found: Found) -> Iterator[Piece]:
        """A stretch of done tasks as pieces of what settled together, or less."""
        at, left = found
        while left > 0:
            row, count = self._one(
                "SELECT place, count FROM pieces WHERE place <= ? ORDER BY place DESC LIMIT 1", at
            )
            start, stop = at - row, min(at - row + left, count)
            if stop <= start:
                raise JournalInvalid(damaged(self.path, "a result is missing"))
            yield from self._pieces_of(row, count, start, stop)
            left -= stop - start
            at += stop - start

    def _pieces_of(self, row: int, count: int, start: int, stop: int) -> Iterator[Piece]:
        values, marks = self._outcomes(row, count)
        inputs = self.inputs(row + start, stop - start)
        first = 0
        for mark in marks:
            low, high = max(start, first), min(stop, first + mark.count)
            if low < high:
                whole = Piece(
                    start=index_of(row) + first,
                    values=values[first : first + mark.count],
                    failures={},
                    inputs=[None] * (low - first) + list(inputs[low - start : high - start]),
                    timings=mark.timings,
                    attempt=mark.attempt,
                    worker=mark.worker,
                    recalled=True,
                    place=row + first,
                )
                if low > first or high < first + mark.count:
                    whole.inputs = [*whole.inputs, *[None] * (first + mark.count - high)]
                    whole = whole.part(low - first, high - first)
                yield whole
            first += mark.count

    def _outcomes(self, row: int, count: int) -> tuple[list[Any], Sequence[Mark]]:
        return self._kept("pieces", row, lambda: self._read_outcomes(row, count))  # type: ignore[no-any-return]

    def _read_outcomes(self, row: int, count: int) -> tuple[list[Any], Sequence[Mark]]:
        vals, marks = self._one("SELECT vals, marks FROM pieces WHERE place = ?", row)
        if vals is None:
            values: list[Any] = [Unreadable("the value could not be kept in the journal")] * count
        else:
            values = _values(vals, count)
        return values, list(marks_of(marks, count))

    def inputs(self, at: int, count: int) -> Sequence[Any]:
        """The inputs of a stretch that was handed out; NOT_KEPT for those that were not kept."""
        found: list[Any] = []
        for row, number, start, stop in self.draws(at, count):
            values = self._kept("draws", row, lambda r=row, n=number: self._read_inputs(r, n))
            found += [NOT_KEPT] * (row + start - at - len(found))
            found += values[start:stop] if values is not None else [NOT_KEPT] * (stop - start)
        return found + [NOT_KEPT] * (count - len(found))

    def _read_inputs(self, row: int, count: int) -> list[Any] | None:
        (inputs,) = self._one("SELECT inputs FROM draws WHERE place = ?", row)
        return None if inputs is None else _values(inputs, count)

    def draws(self, at: int, count: int) -> list[tuple[int, int, int, int]]:
        """The draws that a stretch lies in: (row, its count, from, to inside of it)."""
        rows = self._all(
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

    def _kept(self, table: str, row: int, make: Any) -> Any:
        """A row that was made, or is made now; the ones made last are kept."""
        key = table, row
        if key not in self._rows:
            while len(self._rows) >= _KEPT_ROWS:
                del self._rows[next(iter(self._rows))]
            self._rows[key] = make()
        return self._rows[key]

    # -- SQLite -------------------------------------------------------------------------------

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise unreadable(self.path, error) from error

    def _each(self, sql: str, *values: Any) -> Iterator[Any]:
        try:
            yield from self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise unreadable(self.path, error) from error

    def _all(self, sql: str, *values: Any) -> list[Any]:
        return list(self._each(sql, *values))

    def _one(self, sql: str, *values: Any) -> Any:
        found = self._all(sql, *values)
        if not found:
            raise JournalInvalid(damaged(self.path, "a row is missing"))
        return found[0]


def _session(row: Sequence[Any]) -> Session:
    values: list[Any] = [*row[:6], tuple(json.loads(row[6])), *row[7:]]
    return Session(*values)


def _values(column: bytes, count: int) -> list[Any]:
    try:
        return unpacked(column, count)
    except Exception as error:  # a class that is not there any more, or is in another __main__
        what = f"cannot be made here: {type(error).__name__}: {error}"
        return [Unreadable(what)] * count


def _unpickled(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        return Unreadable(f"cannot be made here: {type(error).__name__}: {error}")
