"""The tables of a journal, and what stands in their columns.

    draws      inputs that were handed out      session, start, count: their values, or their ids
    pieces     neighbours that are done         session, start, count: their values, their marks
    failures   one task that failed             session, index: the failure, the input
    sessions   one start of the run             when, where, why it ended, its counts
    written    results in the output file       session, start, count
    meta       name, function, output file

A place is one number, `session << 44 | index`: rows lie on disk in the order of the input, and a
stretch is found without another index. A task's place is where it was handed out last, and never
changes: it is known by its input, not by its place, when the run is resumed.

Columns of many values hold one pickle after the other, of a list each: what settled together is
one pickle, and what was written together is one row. The first byte says whether it is compressed.
"""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Iterable, Sequence
from itertools import chain

from piecework.bases import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

APPLICATION_ID = 0x70776A6C  # "pwjl"
VERSION = 1
ID_BYTES = 16

SESSION_BITS = 44
_INDEX = (1 << SESSION_BITS) - 1

INPUT_BYTES = 1024  # a task: of larger inputs only the ids are kept
COMPRESS_BYTES = 16  # a task: smaller ones are small anyway, and zlib costs more than the disk
_SAMPLE = 1 << 16

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, started REAL, ended REAL, why TEXT DEFAULT '', pid INTEGER, host TEXT,
    argv TEXT, cwd TEXT, python TEXT, run_on TEXT DEFAULT '', inputs INTEGER,
    seconds REAL DEFAULT 0,
    drawn INTEGER DEFAULT 0, fresh INTEGER DEFAULT 0, done INTEGER DEFAULT 0,
    failed INTEGER DEFAULT 0, quarantined INTEGER DEFAULT 0, cancelled INTEGER DEFAULT 0,
    recalled INTEGER DEFAULT 0, executions INTEGER DEFAULT 0, retries INTEGER DEFAULT 0,
    repeats INTEGER DEFAULT 0, losses INTEGER DEFAULT 0, again INTEGER DEFAULT 0
);
CREATE TABLE draws (place INTEGER PRIMARY KEY, count INTEGER, inputs BLOB, ids BLOB);
CREATE TABLE pieces (place INTEGER PRIMARY KEY, count INTEGER, vals BLOB, marks BLOB);
CREATE TABLE failures (
    place INTEGER PRIMARY KEY, state TEXT, attempt INTEGER, worker TEXT, seconds REAL,
    type TEXT, message TEXT, cause TEXT, failure BLOB, input BLOB
);
CREATE TABLE written (place INTEGER PRIMARY KEY, count INTEGER);
"""


def stored(text: str) -> str | bytes:
    """A text for a column: names of files may hold what UTF-8 has no bytes for."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def as_text(column: str | bytes) -> str:
    """What `stored` was given."""
    return column if isinstance(column, str) else column.decode("utf-8", "surrogatepass")


def place(session: int, index: int) -> int:
    return session << SESSION_BITS | index


def session_of(place: int) -> int:
    return place >> SESSION_BITS


def index_of(place: int) -> int:
    return place & _INDEX


class Mark(NamedTuple):
    """How tasks were done that settled together."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    timings: Sequence[tuple[int, float]]
    attempt: int
    worker: str


class NotKept:
    """Stands for an input that was too large to be kept, or could not be pickled."""

    def __repr__(self) -> str:
        return "<input not kept in the journal>"


class Unreadable:
    """Stands for a value that is in the journal and cannot be made here, and says why."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __repr__(self) -> str:
        return f"<{self.why}>"


NOT_KEPT = NotKept()


def packed(pickles: Iterable[bytes], count: int) -> bytes:
    """The column for pickles of `count` tasks."""
    data = b"".join(pickles)
    if len(data) > COMPRESS_BYTES * count and _compresses(data):
        return b"\1" + zlib.compress(data, 1)
    return b"\0" + data


def _compresses(data: bytes) -> bool:
    if len(data) < 4 * _SAMPLE:
        return True
    middle = len(data) // 2
    return len(zlib.compress(data[middle : middle + _SAMPLE], 1)) < 0.9 * _SAMPLE


def opened(column: bytes) -> bytes:
    """The pickles of a column."""
    return zlib.decompress(column[1:]) if column[:1] == b"\1" else column[1:]


def unpacked(pickles: bytes, count: int) -> list[Any]:
    """Their values, `count` in all. A journal is a file of its user's own: it is unpickled."""
    return list(chain.from_iterable(_lists(pickles, count)))


def _lists(pickles: bytes, count: int) -> Iterable[Sequence[Any]]:
    file = io.BytesIO(pickles)
    while count > 0:
        values = pickle.load(file)
        count -= len(values)
        yield values


def marks_of(column: bytes, count: int) -> Iterable[Mark]:
    file = io.BytesIO(opened(column))
    while count > 0:
        mark = Mark(*pickle.load(file))
        count -= mark.count
        yield mark
