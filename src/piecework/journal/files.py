"""Opening a journal's file: what it must be, and what to tell where it is not."""

from __future__ import annotations

from pathlib import Path

from piecework.errors import JournalError, JournalInvalid
from piecework.journal import directory
from piecework.journal.rows import APPLICATION_ID, VERSION
from piecework.journal.sql import sqlite3

_MAGIC = b"SQLite format 3\0"
_WAIT_SECONDS = 5.0


def check_file(path: Path) -> None:
    """Refuse what is no journal of this version, before SQLite touches it."""
    try:
        with open(path, "rb") as file:
            head = file.read(100)
            size = file.seek(0, 2)
    except FileNotFoundError:
        raise JournalError(f"no journal {path}. See which there are: piecework runs") from None
    except OSError as error:
        raise JournalError(
            f"the journal {path} cannot be read: {error.strerror}. Give another name, or see which "
            "there are: piecework runs"
        ) from None
    if len(head) < 100 and (_MAGIC.startswith(head[:16]) or not size):
        raise JournalInvalid(damaged(path, f"it has {size} bytes and ends in its head"))
    if not head.startswith(_MAGIC) or int.from_bytes(head[68:72]) != APPLICATION_ID:
        what = "a SQLite database of another program" if head.startswith(_MAGIC) else "no journal"
        raise JournalInvalid(
            f"{path} is {what}, and is left as it is. Give another name or journal=PATH."
        )
    version = int.from_bytes(head[60:64])
    if version > VERSION:
        raise JournalInvalid(
            f"{path} was written by a newer version of piecework (format {version}, this one knows "
            f"{VERSION}). Update piecework, or give another name."
        )
    pages, page = int.from_bytes(head[28:32]), int.from_bytes(head[16:18])
    page = 65536 if page == 1 else page
    if size < pages * page and not _has_wal(path):
        raise JournalInvalid(damaged(path, f"{size} bytes are left of {pages * page}"))


def _has_wal(path: Path) -> bool:
    return directory.size_of(path) > directory.size_of_file(path)


def damaged(path: Path, what: str) -> str:
    return (
        f"the journal {path} is damaged ({what}). It is left as it is: begin anew under another "
        f"name, or remove it with piecework rm {directory.name_of(path)}"
    )


def unreadable(path: Path, error: sqlite3.Error) -> JournalError:
    text = str(error)
    if isinstance(error, sqlite3.OperationalError) and "locked" in text:
        return JournalError(f"the journal {path} is busy: {text}. Try again.")
    return JournalInvalid(damaged(path, text))


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Read-only. Where not even SQLite's own files can be made, as one that nobody writes to."""
    quoted = path.absolute().as_uri()
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        db = sqlite3.connect(
            f"{quoted}?{mode}",
            uri=True,
            timeout=_WAIT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.DatabaseError as error:
            db.close()
            if mode.endswith("immutable=1") or not isinstance(error, sqlite3.OperationalError):
                raise unreadable(path, error) from error
        else:
            return db
    raise AssertionError
