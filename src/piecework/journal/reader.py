"""What a journal holds, for `runs`, `show` and `results`, and for a run that goes on.

It can be read while the run is live, and never holds up its writer. Nothing is read that is not
asked for: results come one piece after the other, from the disk.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

from piecework.bases import NamedTuple
from piecework.errors import JournalInvalid
from piecework.groups import FailureGroup, Failures
from piecework.journal import directory
from piecework.journal.files import check_file, connect_to_read, damaged, unreadable
from piecework.journal.rows import (
    NOT_KEPT,
    SESSION_BITS,
    Unreadable,
    as_text,
    index_of,
    marks_of,
    place,
)
from piecework.journal.sql import sqlite3
from piecework.journal.stretches import Found, Stretches
from piecework.record import record
from piecework.summary import Timings
from piecework.task import Failure, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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


class Reader:
    """Reads one journal. Close it, or use it as a context."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        check_file(self.path)
        self._db = connect_to_read(self.path)
        self.stretches = Stretches(self._all, self._one)

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
                for piece in self.stretches.pieces(Found(at, count)):
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
        return next(next(self.stretches.pieces(Found(at, 1))).results())

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
            failure=why if isinstance(why, Failure) else Failure(as_text(kind), as_text(message)),
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
    values: list[Any] = [*row[:6], tuple(json.loads(row[6])), as_text(row[7]), *row[8:]]
    return Session(*values)


def _unpickled(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        return Unreadable(f"cannot be made here: {type(error).__name__}: {error}")
