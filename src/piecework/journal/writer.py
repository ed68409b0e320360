"""Writes the journal, in a thread of its own: nobody waits for the disk, everything is in order.

    control loop ── put(entry) ──▶ entries ──▶ gather 50 ms of them ──▶ one transaction, synced

What settled in those 50 ms is merged: neighbours are one row. A kill loses what is gathered and
not committed, and those tasks run again. Four times a second the thread looks whether somebody
asks, from another terminal, to end the run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from piecework.journal import directory
from piecework.journal.entries import Entry, Statement, write
from piecework.journal.sql import sqlite3
from piecework.journal.store import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GATHER_SECONDS = 0.05
LOOK_SECONDS = 0.25
FULL_BYTES = 64 << 20


class Writer:
    """The thread, and what waits for it. The callbacks are called from the thread."""

    def __init__(
        self,
        db: sqlite3.Connection,
        path: Path,
        session: int,
        *,
        counts: Callable[[], dict[str, Any]],
        on_error: Callable[[Exception], object],
        on_room: Callable[[], object],
        on_cancel: Callable[[str], object],
        on_end: Callable[[], object],
    ) -> None:
        self.error: Exception | None = None
        self.ended = False
        self._db = db
        self._path = path
        self._session = session
        self._counts = counts
        self._on_error = on_error
        self._on_room = on_room
        self._on_cancel = on_cancel
        self._on_end = on_end
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._taken = 0
        self._changed = threading.Condition()
        self._asleep = False
        self._ending: dict[str, Any] | None = None
        self._last = 0.0
        # A daemon, for the interpreter must end whatever happens; wiring waits for it at exit.
        self._thread = threading.Thread(target=self._run, name="piecework-journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, entry: Entry, nbytes: int) -> None:
        """Have it written; from any thread, never waits."""
        self._entries.append(entry)
        self._bytes += nbytes
        if self._asleep:
            with self._changed:
                self._changed.notify()

    @property
    def full(self) -> bool:
        """Too much waits for the disk: nothing new should begin. `on_room` is called after it."""
        return self._bytes - self._taken > FULL_BYTES

    def end(self, values: dict[str, Any]) -> None:
        """Commit what is there, note how the session ended, close. `on_end` is called then."""
        with self._changed:
            if self._ending is None:
                self._ending = values
                self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        looked = 0.0
        while self._ending is None:
            self._sleep()
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                self._look()
            if self._entries and self.error is None:
                self._commit()
        self._end(self._ending)

    def _sleep(self) -> None:
        """Until there is something to write and the last commit is a while ago."""
        with self._changed:
            if self._ending is None and (not self._entries or self.error is not None):
                self._asleep = True
                if not self._entries or self.error is not None:  # one may have come just now
                    self._changed.wait(LOOK_SECONDS)
                self._asleep = False
            rest = self._last + GATHER_SECONDS - time.monotonic()
            if self._ending is None and self._entries and rest > 0:
                self._changed.wait(rest)

    def _look(self) -> None:
        asked = directory.cancel_requested(self._path)
        if asked:
            self._on_cancel(asked)
            directory.forget_cancel(self._path)  # whoever asked sees that it was heard

    def _commit(self, ending: dict[str, Any] | None = None, most: int | None = None) -> bool:
        """One transaction of all that waits, or of the `most` oldest; after an error all of them
        still wait."""
        upto = self._bytes
        number = len(self._entries) if most is None else min(most, len(self._entries))
        try:
            self._db.execute("BEGIN IMMEDIATE")
            entries = [self._entries[i] for i in range(number)]
            write(self._db, self._session, entries)
            self._write_counts(ending)
            self._db.execute("COMMIT")
        except Exception as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._failed(error)
            return False
        for _ in range(number):
            self._entries.popleft()
        was_full = self.full
        self._taken = upto
        self._last = time.monotonic()
        if was_full:
            self._on_room()
        return True

    def _write_counts(self, ending: dict[str, Any] | None) -> None:
        values = self._counts() | (ending or {})
        names = ", ".join(f"{name} = ?" for name in values)
        sql = f"UPDATE sessions SET {names} WHERE id = ?"  # names of ours
        self._db.execute(sql, [*values.values(), self._session])

    def _failed(self, error: Exception) -> None:
        first, self.error = self.error is None, error
        if first:
            self._on_error(refusal(self._path, error))

    def _end(self, values: dict[str, Any]) -> None:
        """A disk that was full may have room by now: try once more."""
        complete = values.pop("complete", False)
        values.setdefault("ended", time.time())
        self.error = None
        try:
            self._put_complete(complete)
            if not self._commit(values):
                self._commit_what_fits()
        finally:
            self._close()
            self.ended = True
            self._on_end()

    def _commit_what_fits(self) -> None:
        """The oldest of what waits, as far as the disk takes it: it is done, after all."""
        number = len(self._entries) // 2
        while number:
            if not (self._entries and self._commit(most=number)):
                number //= 2

    def _put_complete(self, complete: bool) -> None:
        if complete:
            self._entries.append(
                Statement("INSERT OR REPLACE INTO meta VALUES ('complete', 1)", ())
            )

    def _close(self) -> None:
        """Leave one plain file behind: without a log beside it, it can be copied and mounted."""
        try:
            if self.error is None:
                self._db.execute("PRAGMA busy_timeout = 200")
                self._db.execute("PRAGMA journal_mode = DELETE").fetchall()
        except sqlite3.Error:  # somebody reads it: the log stays, and is no harm
            pass
        finally:
            self._db.close()
