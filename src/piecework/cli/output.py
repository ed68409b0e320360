"""Result lines, to a file or to standard output, written by the main thread and flushed by another.

Lines are gathered for a tenth of a second: fast enough to watch, cheap enough for a million. A
kill loses no more than that; a stop loses nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

from piecework.errors import PieceworkError, UsageError

BLOCK_BYTES = 1 << 16


class CannotWrite(PieceworkError):
    """The output took no more: the disk is full, or the place is gone."""


class Output:
    """Where results go. `write` gathers, `flush` hands over; any thread may call them."""

    def __init__(self, path: str | None, inputs: Iterable[str | None] = ()) -> None:
        self.name = "standard output" if path is None else path
        self.broken = False  # the reader of our standard output has gone, as `| head` does
        self.error: OSError | None = None
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._path = path
        self._file = _own_stdout() if path is None else _open(path, inputs)
        self.curtain: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def on_terminal(self) -> bool:
        """True where a progress bar and the results share the screen."""
        return self._path is None and self._file.isatty()

    def start(self) -> None:
        """Empty the file of an earlier run: not before this one is known to begin."""
        if self._path is not None and os.path.isfile(self._path):
            self._file.truncate(0)

    def write(self, line: bytes) -> None:
        """Add one or more whole lines. BrokenPipeError or CannotWrite as soon as one is known."""
        with self._lock:
            self._waiting.append(line)
            self._bytes += len(line)
            full = self._bytes >= BLOCK_BYTES
        if full:
            self.flush()
        self.check()

    def flush(self) -> None:
        """Hand over what was gathered; what goes wrong is kept for `check`."""
        with self._lock:
            if not self._waiting or self.broken or self.error:
                return
            block = b"".join(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            try:
                with self.curtain():
                    self._file.write(block)
                    self._file.flush()
            except BrokenPipeError:
                self.broken = True
            except OSError as error:
                self.error = error

    def check(self) -> None:
        """Raise what writing met, in the thread that can act on it."""
        if self.broken:
            raise BrokenPipeError
        if self.error is not None:
            raise CannotWrite(
                f"cannot write {self.name}: {self.error.strerror}. "
                "What was written before is kept; give -o FILE where there is room."
            )

    def close(self) -> None:
        """Flush; what closing meets is kept for `check` as well."""
        self.flush()
        try:
            self._file.close()
        except BrokenPipeError:
            self.broken = True
        except OSError as error:
            self.error = self.error or error


def _own_stdout() -> BinaryIO:
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
    return os.fdopen(kept, "wb")


def _open(path: str, inputs: Iterable[str | None]) -> BinaryIO:
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
    return os.fdopen(descriptor, "wb")
