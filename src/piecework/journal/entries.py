"""What is written to a journal: entries as they come, and the rows that they become.

Neighbours that are written together are one row, whatever pieces they came in.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence

from piecework.bases import NamedTuple
from piecework.journal.identity import digests
from piecework.journal.rows import INPUT_BYTES, Mark, packed, place
from piecework.journal.sql import sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROW_TASKS = 1 << 16
ROW_BYTES = 4 << 20


class Drawn(NamedTuple):
    """Inputs that were handed out. `payloads` where nobody can change them, else `pickled`."""

    start: int
    number: int
    payloads: Sequence[Any] | None
    pickled: bytes | None
    ids: bytes | None


class Done(NamedTuple):
    """Neighbours that are done; `values` are pickled, or None where they cannot be."""

    start: int
    number: int
    values: bytes | None
    timings: Sequence[tuple[int, float]]
    attempt: int
    worker: str


class Failed(NamedTuple):
    """A task that failed for good."""

    task: int
    state: str
    attempt: int
    worker: str
    seconds: float
    type: str | bytes
    message: str | bytes
    cause: str
    failure: bytes
    input: bytes | None


class Statement(NamedTuple):
    """Anything else: it is carried out in its place among the others."""

    sql: str
    values: Sequence[Any]


Entry = Drawn | Done | Failed | Statement


def write(db: sqlite3.Connection, session: int, entries: Iterable[Entry]) -> None:
    """Carry them out, in a transaction that is open already."""
    drawn: list[Drawn] = []
    done: list[Done] = []
    for entry in entries:
        if type(entry) is Drawn:
            drawn.append(_settled_inputs(entry))
        elif type(entry) is Done:
            done.append(entry)
        elif type(entry) is Failed:
            db.execute(_INSERT_FAILED, (place(session, entry.task), *entry[1:]))
        elif type(entry) is Statement:
            db.execute(entry.sql, entry.values)
    db.executemany(_INSERT_DRAWN, (_drawn_row(session, group) for group in _groups(drawn)))
    done.sort(key=_start)
    db.executemany(_INSERT_DONE, (_done_row(session, group) for group in _groups(done)))


_INSERT_FAILED = "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_DRAWN = "INSERT INTO draws VALUES (?, ?, ?, ?)"
_INSERT_DONE = "INSERT INTO pieces VALUES (?, ?, ?, ?)"


def _start(entry: Done) -> int:
    return entry.start


def _settled_inputs(entry: Drawn) -> Drawn:
    """With its inputs pickled, or their ids in their place where they are large."""
    if entry.payloads is None:
        return entry
    pickled = pickle.dumps(entry.payloads, 5)
    if len(pickled) <= INPUT_BYTES * entry.number:
        return entry._replace(payloads=None, pickled=pickled)
    return entry._replace(payloads=None, ids=digests(entry.payloads))


def _groups(entries: Sequence[Any]) -> Iterable[list[Any]]:
    """Neighbours of one kind that become one row."""
    group: list[Any] = []
    number = nbytes = 0
    for entry in entries:
        if group and not (_joins(group[-1], entry) and number < ROW_TASKS and nbytes < ROW_BYTES):
            yield group
            group, number, nbytes = [], 0, 0
        group.append(entry)
        number += entry.number
        nbytes += len((entry.pickled if type(entry) is Drawn else entry.values) or b"")
    if group:
        yield group


def _joins(before: Any, entry: Any) -> bool:
    if before.start + before.number != entry.start:
        return False
    if type(entry) is Done:
        # One that is not kept has its row for itself: it is taken away when the task runs again.
        return before.values is not None and entry.values is not None
    kinds = (before.pickled is None, before.ids is None)
    return kinds == (entry.pickled is None, entry.ids is None)


def _drawn_row(session: int, group: Sequence[Drawn]) -> tuple[Any, ...]:
    number = sum(entry.number for entry in group)
    pickled = [entry.pickled for entry in group if entry.pickled is not None]
    ids = [entry.ids for entry in group if entry.ids is not None]
    return (
        place(session, group[0].start),
        number,
        packed(pickled, number) if pickled else None,
        b"".join(ids) if ids else None,
    )


def _done_row(session: int, group: Sequence[Done]) -> tuple[Any, ...]:
    number = sum(entry.number for entry in group)
    values = [entry.values for entry in group if entry.values is not None]
    marks = [
        pickle.dumps(tuple(Mark(entry.number, list(entry.timings), entry.attempt, entry.worker)), 5)
        for entry in group
    ]
    return (
        place(session, group[0].start),
        number,
        packed(values, number) if values else None,
        packed(marks, number),
    )
