"""Where journals lie, which of them are live, and which may go.

$XDG_STATE_HOME/piecework/runs/      else ~/.local/state/piecework/runs/, for its owner only
    NAME.journal                     the journal (and -wal, -shm of SQLite while it is open)
    NAME.journal.lock                held by the live run; what it has handed out
    NAME.journal.cancel              "stop" or "kill": asked for from another terminal
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from piecework.bases import NamedTuple
from piecework.errors import JournalError, JournalLocked, UsageError

try:
    import fcntl
except ImportError:  # Windows: nothing says that two runs write to one journal
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".journal"
KEPT_DAYS = 14
KEPT_RUNS = 500
_PRUNED_AT_ONCE = 50
_NAME_MAX = 200
_HEAD = 128  # of a lock file: who; after it the session and how many tasks it has handed out
_NOTE = b"%08d %020d\n"
_NOTE_BYTES = 30
_BUSY_TRIES = 20
_PARTS = ("", "-wal", "-shm", ".lock", ".cancel")


def default_directory() -> Path:
    """Where runs go by name. Nothing is made here."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "piecework" / "runs"


def path_of(name: str) -> Path:
    """The journal of a run by its name, or by its path, which has a slash or ends in .journal."""
    if "/" in name or name.endswith(SUFFIX):
        return Path(name)
    check_name(name)
    return default_directory() / f"{name}{SUFFIX}"


def name_of(path: Path) -> str:
    return path.name.removesuffix(SUFFIX)


def check_name(name: object) -> None:
    """Refuse what cannot be the name of a file in every file system."""
    if not isinstance(name, str) or not _is_name(name):
        raise UsageError(
            f"name is {name!r}, and names a file. Give up to {_NAME_MAX} printable characters, "
            "without / and without . or - in front."
        )


def _is_name(name: str) -> bool:
    if not 0 < len(name.encode("utf-8", "replace")) <= _NAME_MAX:
        return False
    return "/" not in name and name[0] not in ".-" and name.isprintable()


def fresh_name(function: str) -> str:
    """A name nobody has used: function, date, time and four characters of chance."""
    short = "".join(c if c.isalnum() or c in "._" else "-" for c in function)[:80].strip("-.")
    return f"{short or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"


def make_directory(directory: Path) -> None:
    """Make the default one, for its owner only; another one must be there."""
    if directory != default_directory():
        if not directory.is_dir():
            raise JournalError(
                f"no directory {directory}. Make it first: mkdir -p {directory}, or give another "
                "journal=PATH."
            )
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(directory, error) from None


def cannot_write(path: Path, error: Exception) -> JournalError:
    """What to tell where the disk refuses: no space, no permission, read-only."""
    directory = path if path.is_dir() else path.parent
    reason = getattr(error, "strerror", None) or str(error)
    number = getattr(error, "errno", None)
    text = str(error).lower()
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "full" in text:
        way = "Make room there, or put the journal elsewhere: journal=PATH or XDG_STATE_HOME."
        return JournalError(f"no space for the journal {path} ({reason}). {way}")
    way = "Give another place with journal=PATH or XDG_STATE_HOME, or journal=False to keep none."
    if number == errno.EROFS or "readonly" in text or "read-only" in text:
        kind = "read-only" if not os.access(directory, os.W_OK) else "not ours to write to"
        return JournalError(f"the journal {path} cannot be written: it is {kind}. {way}")
    return JournalError(f"the journal {path} cannot be written: {reason}. {way}")


# -- the lock -----------------------------------------------------------------------------------


class Lock:
    """Held by the one run that writes to a journal, and freed by the kernel when that dies.

    Its file says who holds it and how many tasks were handed out: written without waiting for the
    disk, so that it is exact however the process ends, as long as the machine goes on.
    """

    def __init__(self, journal: Path) -> None:
        self.path = Path(f"{journal}.lock")
        self._fd = self._locked(journal)
        os.set_inheritable(self._fd, False)
        _locks.add(self)

    def _locked(self, journal: Path) -> int:
        for attempt in range(_BUSY_TRIES):
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise cannot_write(journal, error) from None
            try:
                if fcntl is not None:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_ino == os.stat(self.path).st_ino:
                    return fd
            except FileNotFoundError:  # the run that held it has just ended and taken it away
                pass
            except BlockingIOError:
                if attempt == _BUSY_TRIES - 1:
                    os.close(fd)
                    raise _locked_by(journal) from None
                time.sleep(0.005)  # `runs` looks whether it is live, which holds it a moment
            except OSError as error:
                os.close(fd)
                raise JournalError(
                    f"{self.path} cannot be locked: {error.strerror}. Some network file systems "
                    "cannot. Give a journal=PATH on a local disk."
                ) from None
            os.close(fd)
        raise _locked_by(journal)

    def claim(self) -> tuple[int, int] | None:
        """Say who we are; returns which session noted last, and how many tasks it handed out."""
        before = _noted(os.pread(self._fd, _NOTE_BYTES, _HEAD))
        head = f"{os.getpid()}\n{host()}\n{time.time():.3f}\n".encode()[:_HEAD]
        try:
            os.pwrite(self._fd, head.ljust(_HEAD), 0)  # the note stays until it is replaced
        except OSError as error:
            raise cannot_write(self.path, error) from None
        return before

    def note(self, session: int, handed_out: int) -> None:
        """So many tasks may have begun in this session."""
        os.pwrite(self._fd, _NOTE % (session, handed_out), _HEAD)

    def free(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            self._forget()

    def _forget(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_all() -> None:
    """In a forked child: its copy would hold the lock when we are dead."""
    for lock in list(_locks):
        lock._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class Holder(NamedTuple):
    """The live run of a journal."""

    pid: int
    host: str
    since: float


def holder(journal: Path) -> Holder | None:
    """Who writes to the journal now; None where it is not live."""
    try:
        fd = os.open(f"{journal}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _holder(os.pread(fd, _HEAD, 0)) if _is_held(fd) else None
    finally:
        os.close(fd)


def _is_held(fd: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _holder(head: bytes) -> Holder:
    lines = head.decode("utf-8", "replace").split("\n")
    try:
        return Holder(int(lines[0]), lines[1], float(lines[2]))
    except (ValueError, IndexError):  # it has just begun
        return Holder(0, "", 0.0)


def _locked_by(journal: Path) -> JournalLocked:
    found = holder(journal)
    who = f"process {found.pid} on {found.host}" if found and found.pid else "another process"
    return JournalLocked(
        f"the run {name_of(journal)} is under way in {who}. Wait for its end, end it with "
        f"piecework cancel {name_of(journal)}, or give another name."
    )


def _noted(note: bytes) -> tuple[int, int] | None:
    try:
        session, handed_out = map(int, note.split())
    except ValueError:  # nothing yet, or torn when the machine went down
        return None
    return session, handed_out


def host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else ""


# -- asked from another terminal ----------------------------------------------------------------


def request_cancel(journal: Path, *, kill: bool = False) -> bool:
    """Ask the live run to end; False where there is none. It looks four times a second."""
    if holder(journal) is None:
        return False
    path, new = f"{journal}.cancel", f"{journal}.cancel.{os.getpid()}"
    try:
        with open(new, "w") as file:
            file.write("kill" if kill else "stop")
        os.replace(new, path)
    except OSError as error:
        raise cannot_write(journal, error) from None
    return True


def cancel_requested(journal: Path) -> str:
    """ "stop", "kill", or nothing."""
    try:
        with open(f"{journal}.cancel") as file:
            return file.read(10).strip()
    except OSError:
        return ""


def forget_cancel(journal: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(f"{journal}.cancel")


# -- which there are ----------------------------------------------------------------------------


def journals(directory: Path | None = None) -> list[Path]:
    """All of them, the newest first."""
    found: list[tuple[float, Path]] = []
    try:
        with os.scandir(directory or default_directory()) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    with contextlib.suppress(OSError):
                        found.append((entry.stat().st_mtime, Path(entry.path)))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise JournalError(
            f"the journals in {error.filename} cannot be listed: {error.strerror}. They are for "
            "their owner only; XDG_STATE_HOME says where others are."
        ) from None
    return [path for _, path in sorted(found, reverse=True)]


def size_of(journal: Path) -> int:
    """Bytes on disk, with what SQLite has beside the file."""
    total = 0
    for part in ("", "-wal"):
        with contextlib.suppress(OSError):
            total += os.stat(f"{journal}{part}").st_size
    return total


def size_of_file(journal: Path) -> int:
    with contextlib.suppress(OSError):
        return os.stat(journal).st_size
    return 0


def remove(journal: Path) -> None:
    """Take a journal away. JournalLocked where its run is live."""
    if not journal.exists():
        raise JournalError(f"no journal {journal}. See which there are: piecework runs")
    lock = Lock(journal)
    try:
        for part in _PARTS[:3] + _PARTS[4:]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{journal}{part}")
    except OSError as error:
        raise cannot_write(journal, error) from None
    finally:
        lock.free()


def prunable(directory: Path) -> Iterator[Path]:
    """What is old or one too many, the oldest first; whether it is all done, its reader knows."""
    found = journals(directory)
    old = time.time() - KEPT_DAYS * 86400
    for number, path in reversed(list(enumerate(found))):
        with contextlib.suppress(OSError):
            if number >= KEPT_RUNS or path.stat().st_mtime < old:
                yield path
                if len(found) - number >= _PRUNED_AT_ONCE:
                    return
