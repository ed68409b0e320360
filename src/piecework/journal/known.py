"""Every record by the id of its input, on disk: for inputs that come in another order.

    known   one row a record, sorted by id: those of one id are neighbours
    ids     one row an id: its first row in `known`, and how many

The file is SQLite's own temporary one: it has no name and is gone with the process. In memory are
four bytes a record: how many of an id are claimed, so that a million equal inputs cost no more
than a million others.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from piecework.journal.rows import ID_BYTES
from piecework.journal.sql import sqlite3

_INSERT_ROWS = 10_000
_MADE = """
CREATE TABLE known AS SELECT id, place, kind FROM raw ORDER BY id, place;
DROP TABLE raw;
CREATE TABLE ids (id BLOB PRIMARY KEY, first INTEGER, number INTEGER) WITHOUT ROWID;
INSERT INTO ids SELECT id, min(rowid), count(*) FROM known GROUP BY id;
CREATE TEMP TABLE asked (position INTEGER PRIMARY KEY, id BLOB);
CREATE TEMP TABLE chosen (position INTEGER PRIMARY KEY, number INTEGER);
"""


class KnownTable:
    """Made once from (id, place, kind) of all records; equal ids are claimed in their order."""

    def __init__(self, records: Iterable[tuple[bytes, int, int]]) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("synchronous = OFF", "journal_mode = OFF", "temp_store = FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE raw (id BLOB, place INTEGER, kind INTEGER)")
        self._db.execute("BEGIN")
        for rows in _chunks(records):
            self._db.executemany("INSERT INTO raw VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")
        self._db.executescript(_MADE)
        count = self._db.execute("SELECT coalesce(max(rowid), 0) FROM known").fetchone()[0]
        self._db.execute("BEGIN")  # for good: a transaction for each row asked is what would cost
        self._claimed = array("I", bytes(4 * (count + 1)))  # by the first row of an id

    def claim(self, ids: bytes) -> Iterator[tuple[int, int, int]]:
        """For each id that is there and not claimed yet: its position in `ids`, place and kind."""
        count = len(ids) // ID_BYTES
        self._fill("asked", ((n, ids[n * ID_BYTES : (n + 1) * ID_BYTES]) for n in range(count)))
        # In one statement: one for each of them would take five times longer.
        found = self._db.execute(
            "SELECT position, first, number FROM asked CROSS JOIN ids USING (id) ORDER BY position"
        )
        self._fill("chosen", list(self._choose(found)))
        yield from self._db.execute(
            "SELECT position, place, kind FROM chosen CROSS JOIN known "
            "ON known.rowid = chosen.number ORDER BY position"
        )

    def _choose(self, found: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
        claimed = self._claimed
        for position, first, number in found:
            if claimed[first] < number:
                yield position, first + claimed[first]
                claimed[first] += 1

    def _fill(self, table: str, rows: Iterable[tuple[int, object]]) -> None:
        self._db.execute(f"DELETE FROM {table}")  # a name of ours
        self._db.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)

    def close(self) -> None:
        """Free the file."""
        self._db.close()


def _chunks(
    records: Iterable[tuple[bytes, int, int]],
) -> Iterator[list[tuple[bytes, int, int]]]:
    rows: list[tuple[bytes, int, int]] = []
    for record in records:
        rows.append(record)
        if len(rows) >= _INSERT_ROWS:
            yield rows
            rows = []
    yield rows
