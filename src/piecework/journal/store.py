"""The journal's file on the writing side: made, opened again, begun, or refused."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from piecework.bases import NamedTuple
from piecework.errors import JournalChanged, JournalError, JournalInvalid
from piecework.journal import directory, version
from piecework.journal.files import check_file, damaged
from piecework.journal.reader import Reader
from piecework.journal.rows import APPLICATION_ID, SCHEMA, VERSION, stored
from piecework.journal.sql import sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WAIT_SECONDS = 10.0
_CHECK_BYTES = 512 << 20  # a larger file is believed, as far as it is not read
_NAMES_MAX = 5


class About(NamedTuple):
    """What is noted of the run when its journal is made."""

    function: str
    parts: dict[str, str]
    keyed: bool
    inputs: int | None

    @property
    def described(self) -> str:
        """The function as text."""
        return json.dumps({"name": self.function, "parts": self.parts})


def make(path: Path, about: About) -> None:
    """A new journal, whole from its first moment: it is made beside its name, then renamed."""
    new = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        _fill(new, about)
        _sync(new)
        os.replace(new, path)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise directory.cannot_write(path, error) from error


def _fill(new: Path, about: About) -> None:
    db = sqlite3.connect(new, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")  # it is synced once, as a whole
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        values = {
            "created": time.time(),
            "function": about.described,
            "keyed": int(about.keyed),
            "python": sys.version.split()[0],
        }
        db.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        db.execute("PRAGMA journal_mode = WAL")  # here: later it costs half a dozen syncs
    finally:
        db.close()


def _sync(path: Path) -> None:
    """To disk. The rename follows with the first commit, which syncs the directory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_same(path: Path, about: About, *, anyway: bool) -> None:
    """Refuse to go on where the function or the way to name inputs is another one."""
    with Reader(path) as reader:
        _check_whole(path, reader)
        keyed = bool(reader.meta("keyed"))
        if keyed != about.keyed:
            had, has = ("with", "without") if keyed else ("without", "with")
            raise JournalChanged(
                f"the run {reader.name} was begun {had} key= and cannot go on {has}: its inputs "
                "would not be known again. Give the same key=, or another name."
            )
        changed = version.changed(reader.parts, about.parts)
        if not changed or anyway:
            return
        named = ", ".join(changed[:_NAMES_MAX])
        more = f" and {len(changed) - _NAMES_MAX} more" if len(changed) > _NAMES_MAX else ""
        was, now = reader.function, about.function
        python = reader.meta("python") or ""
        if python.rpartition(".")[0] != sys.version.split()[0].rpartition(".")[0]:
            more += f" (Python was {python})"
        done = reader.counts().done
    what = f"is of another function, {was}" if was != now else f"{now} has changed since"
    raise JournalChanged(
        f"the run {directory.name_of(path)}: {what}: {named}{more}. Its {done} results may not be "
        'what the function gives now. Go on all the same with resume="anyway" (--resume=anyway), '
        "or begin anew under another name."
    )


def _check_whole(path: Path, reader: Reader) -> None:
    if directory.size_of_file(path) > _CHECK_BYTES:
        return
    said = reader.execute("PRAGMA quick_check(1)").fetchall()
    if said and said[0][0] != "ok":
        raise JournalInvalid(damaged(path, str(said[0][0]).replace("\n", " ")))


class Begun(NamedTuple):
    """A journal that is open for writing."""

    db: sqlite3.Connection
    session: int
    again: int  # tasks that were in flight when earlier sessions were killed


def begin(path: Path, about: About, noted: tuple[int, int] | None, *, renew: bool = False) -> Begun:
    """Open a journal for writing and note that the run starts; may wait for the disk.

    `noted` is a session and how many tasks it had handed out. With `renew` the journal is of this
    function from now on, whichever it was of.
    """
    check_file(path)
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(
            path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        again = _judge_killed(db, noted)
        session = _insert_session(db, about)
        if renew:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('function', ?)", (about.described,))
        db.execute("DELETE FROM meta WHERE key = 'complete'")
        db.execute("COMMIT")
        return Begun(db, session, again)
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        raise refusal(path, error) from error


def carry_out(path: Path, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
    """Write to a journal that is closed already, in one transaction."""
    db: sqlite3.Connection | None = None
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        db = sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        for sql, values in statements:
            db.execute(sql, values)
        db.execute("COMMIT")
    except sqlite3.Error as error:
        raise refusal(path, error) from error
    finally:
        if db is not None:
            db.close()


def refusal(path: Path, error: Exception) -> JournalError:
    """What SQLite or the disk says, with the way out."""
    text = str(error)
    if isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a data" in text):
        return JournalInvalid(damaged(path, text))
    return directory.cannot_write(path, error)


def _judge_killed(db: sqlite3.Connection, noted: tuple[int, int] | None) -> int:
    """Note of the last session, where it just ended, how many tasks it left in flight."""
    row = db.execute("SELECT id, ended, fresh, why FROM sessions ORDER BY id DESC LIMIT 1")
    last = row.fetchone()
    if last is not None and last[1] is None and not last[3]:
        low, high = last[0] << 44, (last[0] + 1) << 44
        settled = 0
        for sql in (
            "SELECT coalesce(sum(count), 0) FROM pieces WHERE place >= ? AND place < ?",
            "SELECT count(*) FROM failures WHERE place >= ? AND place < ?",
        ):
            settled += db.execute(sql, (low, high)).fetchone()[0]
        handed_out = noted[1] if noted is not None and noted[0] == last[0] else 0
        again = max(0, max(handed_out, last[2]) - settled)
        db.execute("UPDATE sessions SET why = 'killed', again = ? WHERE id = ?", (again, last[0]))
    return int(db.execute("SELECT coalesce(sum(again), 0) FROM sessions").fetchone()[0])


def _insert_session(db: sqlite3.Connection, about: About) -> int:
    values: dict[str, Any] = {
        "started": time.time(),
        "pid": os.getpid(),
        "host": directory.host(),
        "argv": json.dumps(list(sys.argv)),
        "cwd": stored(_cwd()),
        "python": sys.executable,
        "inputs": about.inputs,
    }
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    sql = f"INSERT INTO sessions ({names}) VALUES ({marks})"  # names of ours
    return int(db.execute(sql, list(values.values())).lastrowid or 0)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # somebody took it away
        return ""


def prune(folder: Path) -> None:
    """Take away what is old and all done, and what is all done beyond the newest five hundred."""
    for path in directory.prunable(folder):
        with contextlib.suppress(JournalError):
            with Reader(path) as reader:
                complete = reader.complete
            if complete:
                directory.remove(path)
