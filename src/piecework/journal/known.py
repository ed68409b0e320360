"""Every record by the id of its input, on disk: for inputs that come in another order.

The file is SQLite's own temporary one: it has no name and is gone with the process. In memory is
one byte a record, which says whether an input has claimed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from piecework.journal.rows import ID_BYTES
from piecework.journal.sql import sqlite3

_INSERT_ROWS = 10_000


class KnownTable:
    """Made once from (id, place, kind) of all records; equal ids are claimed in their order."""

    def __init__(self, records: Iterable[tuple[bytes, int, int]]) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("synchronous = OFF", "journal_mode = OFF", "temp_store = FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE known (id BLOB, place INTEGER, kind INTEGER)")
        self._db.execute("BEGIN")
        for rows in _chunks(records):
            self._db.executemany("INSERT INTO known VALUES (?, ?, ?)", rows)
        self._db.execute("CREATE INDEX known_id ON known (id, place, kind)")
        self._db.execute("COMMIT")
        count = self._db.execute("SELECT coalesce(max(rowid), 0) FROM known").fetchone()[0]
        self._claimed = bytearray(count + 1)

    def claim(self, ids: bytes) -> Iterator[tuple[int, int, int]]:
        """For each id that is there and not claimed yet: its position in `ids`, place and kind."""
        execute, claimed = self._db.execute, self._claimed
        sql = "SELECT rowid, place, kind FROM known WHERE id = ? ORDER BY place"
        for position in range(len(ids) // ID_BYTES):
            one = ids[position * ID_BYTES : (position + 1) * ID_BYTES]
            for row, place, kind in execute(sql, (one,)):
                if not claimed[row]:
                    claimed[row] = 1
                    yield position, place, kind
                    break

    def close(self) -> None:
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
