"""Result lines, to a file or to standard output, written by the main thread and flushed by another.

Lines are gathered for a tenth of a second: fast enough to watch, cheap enough for a million. A
kill loses no more than that; a stop loses nothing.

With a journal no kill loses or doubles a line. The journal is told which results are in the file
and how long the file is with them, in one transaction, after the file is on disk:

    write(line, index) ──▶ block ──▶ file ──▶ fdatasync ──▶ Record.commit_output(indexes, length)

A resumed run cuts the file to that length, so that half a line and all lines that the journal does
not know of go, and writes what is missing. A file that is not the one that was left is written
anew, from the results that the journal holds.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from io import FileIO

from piecework.bases import Protocol
from piecework.errors import JournalError, PieceworkError, UsageError

BLOCK_BYTES = 1 << 16
COMMIT_SECONDS = 0.25  # between two: a kill has so much written again from the journal
TAIL_BYTES = 1024  # by its last bytes a file is known again


class CannotWrite(PieceworkError):
    """The output took no more: the disk is full, or the place is gone."""


class Record(Protocol):
    """What a journal keeps of the output file."""

    @property
    def output(self) -> tuple[str, int, bytes] | None:
        """Path, length and tail of the file as it was last committed, by an earlier session."""

    def commit_output(self, path: str, length: int, tail: bytes, indexes: list[int]) -> None:
        """The results of `indexes` are in the file, which is `length` bytes long with them."""

    def forget_output(self) -> None:
        """Nothing of what was written before counts: the file is written anew."""

    def is_written(self, index: int) -> bool:
        """Whether this recalled result is in the file already."""


class Output:
    """Where results go. `write` gathers, `flush` hands over; any thread may call them."""

    def __init__(
        self, path: str | None, inputs: Iterable[str | None] = (), *, adding: bool = False
    ) -> None:
        self.name = "standard output" if path is None else path
        self.broken = False  # the reader of our standard output has gone, as `| head` does
        self.error: OSError | None = None
        self._lock = threading.Lock()
        self._committing = threading.Lock()
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._path = path
        self._file = _own_stdout() if path is None else _open(path, inputs)
        mode = os.fstat(self._file.fileno()).st_mode
        self._regular = path is not None and stat.S_ISREG(mode)
        self._adding = adding  # some inputs are tried again: the other lines stay
        self._record: Record | None = None
        self._indexes: list[int] = []  # of results in `_waiting`
        self._written: list[int] = []  # of results in the file, not committed
        self._started = False
        self._length = 0
        self._tail = b""
        self._committed = 0.0
        self.curtain: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def on_terminal(self) -> bool:
        """True where a progress bar and the results share the screen."""
        return self._path is None and self._file.isatty()

    def start(self, record: Record | None = None, *, anew: bool = False) -> None:
        """Say which run this is; the file of an earlier one is emptied with the first result.

        With the `record` of a run that goes on, it is cut to what that knows of, unless `anew`.
        """
        self._started = True
        if self._regular:
            known = record is not None and (self._adding or not anew)
            self._length, self._tail = self._kept(record) if record and known else (0, b"")
            if self._adding and not self._length:
                self._add_to(record)
                return
            self._record = record
        if record is not None and self._length == 0 and not self._adding:
            record.forget_output()

    def _add_to(self, record: Record | None) -> None:
        """Lines go to the end of a file that was changed since, which the journal need not know."""
        known = record.output if record is not None else None
        if known is None or known[0] != os.path.realpath(self.name):
            return
        self._length = os.fstat(self._file.fileno()).st_size

    def _cut(self) -> None:
        """Not before something is there to be written: a run that is refused costs nothing."""
        if self._started and self._regular:
            self._file.truncate(self._length)
            self._file.seek(self._length)
        self._started = False

    def has(self, index: int) -> bool:
        """Whether this recalled result is in the file already."""
        return self._record is not None and self._record.is_written(index)

    def write(self, line: bytes, index: int | None = None) -> None:
        """Add one or more whole lines: all that is written of the result `index`.

        BrokenPipeError or CannotWrite as soon as one is known.
        """
        with self._lock:
            self._waiting.append(line)
            self._bytes += len(line)
            if index is not None:
                self._indexes.append(index)
            full = self._bytes >= BLOCK_BYTES
        if full:
            self.flush()
        self.check()

    def write_parts(self, parts: Iterable[bytes], index: int | None = None) -> None:
        """The same for a result too large to be held whole: nothing comes between its parts."""
        with self._lock:
            for part in parts:
                self._waiting.append(part)
                self._bytes += len(part)
                if self._bytes >= BLOCK_BYTES:
                    self._hand_over()
            if index is not None:
                self._indexes.append(index)
        self.check()

    def flush(self) -> None:
        """Hand over what was gathered; what goes wrong is kept for `check`."""
        with self._lock:
            self._hand_over()

    def _hand_over(self) -> None:
        if not (self._waiting or self._indexes) or self.broken or self.error:
            return
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        try:
            self._cut()
            with self.curtain():
                self._put(block)
        except BrokenPipeError:
            self.broken = True
        except OSError as error:
            self.error = error
        else:
            self._length += len(block)
            if self._record is not None:
                self._tail = (self._tail + block[-TAIL_BYTES:])[-TAIL_BYTES:]
                self._written += self._indexes
            self._indexes.clear()

    def _put(self, block: bytes) -> None:
        rest = memoryview(block)
        try:
            while rest:
                taken = self._file.write(rest)
                if taken is None:  # our reader made the pipe non-blocking
                    select.select([], [self._file], [])
                rest = rest[taken or 0 :]
        except OSError:
            if self._regular:  # a full disk takes what fits: half a line would be no line
                fits = block.rfind(b"\n", 0, len(block) - len(rest)) + 1
                self._file.truncate(self._length + fits)
            raise

    def commit(self, *, now: bool = False) -> None:
        """Tell the journal what is in the file, when it is time; may wait for the disk."""
        due = self._committed + COMMIT_SECONDS
        if self._record is None or not (now or time.monotonic() >= due):
            return
        with self._committing:  # what is told later must be the longer file
            self._commit(self._record)

    def _commit(self, record: Record) -> None:
        with self._lock:  # between two results, not in the midst of one
            written, length, tail = list(self._written), self._length, self._tail
        if not written:
            return
        try:
            _to_disk(self._file.fileno())
            record.commit_output(os.path.realpath(self.name), length, _mark(tail), written)
        except OSError as error:
            self.error = self.error or error
        except JournalError:  # not known to be there: a resumed run writes them again
            self._record = None
        else:
            with self._lock:
                del self._written[: len(written)]
            self._committed = time.monotonic()

    def check(self) -> None:
        """Raise what writing met, in the thread that can act on it."""
        if self.broken:
            raise BrokenPipeError
        if self.error is not None:
            raise CannotWrite(
                f"cannot write {self.name}: {self.error.strerror}. "
                "What was written before is kept; give -o FILE where there is room."
            )

    def close(self, *, refused: bool = False) -> None:
        """Flush and commit; what closing meets is kept for `check` as well.

        The file of a run that was `refused` is left as it was.
        """
        self.flush()
        try:
            if not refused:
                self._cut()
        except OSError as error:
            self.error = self.error or error
        self.commit(now=True)
        try:
            self._file.close()
        except BrokenPipeError:
            self.broken = True
        except OSError as error:
            self.error = self.error or error

    def _kept(self, record: Record) -> tuple[int, bytes]:
        """How much of the file stays: what the journal knows of, if this is still that file."""
        known = record.output
        if known is None or known[0] != os.path.realpath(self.name):
            return 0, b""
        _, length, mark = known
        with open(self.name, "rb") as file:
            start = max(0, length - TAIL_BYTES)
            file.seek(start)
            tail = file.read(length - start)
        return (length, tail) if length and _mark(tail) == mark else (0, b"")


def _mark(tail: bytes) -> bytes:
    from hashlib import blake2b

    return blake2b(tail, digest_size=8).digest()


def _to_disk(descriptor: int) -> None:
    try:
        getattr(os, "fdatasync", os.fsync)(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise


def _own_stdout() -> FileIO:
    """Standard output for results alone: what anything else prints there goes to standard error.

    A `print` in the function, in a C library, in a worker process: all of them inherit the
    descriptor, none of them can tear a line of JSON apart.
    """
    if sys.stdout is None:
        raise UsageError("standard output is closed. Give -o FILE.")
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed: nobody wants to hear it
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    return FileIO(kept, "wb")


def _open(path: str, inputs: Iterable[str | None]) -> FileIO:
    """Open without emptying: a run that is refused must not cost the results of the last one."""
    for name in inputs:
        if name and os.path.exists(path) and os.path.exists(name) and os.path.samefile(path, name):
            raise UsageError(f"{path} is an input too and would be overwritten. Give another -o.")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        parent = os.path.dirname(path)
        way = f"Make it first: mkdir -p {parent}" if parent and not os.path.isdir(parent) else ""
        raise UsageError(
            f"cannot write {path}: {error.strerror}. {way or 'Give another path with -o.'}"
        ) from None
    return FileIO(descriptor, "wb")
