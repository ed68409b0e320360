"""What the tasks of a worker process print: on its way to the master, marked with slot and task.

    print ──▶ Stream ──▶ Printer.put ──▶ records ──┐
    os.write(1), C, children ──▶ fd 1 ─────────────┴──▶ one pipe, read by the master
                                 fd 2 ────────────────▶ another one

A pipe takes up to PIPE_BUF bytes at once or not at all, so neither threads nor a death can tear a
record, and what is in it survives whoever wrote it. Nothing is held back here, not even a line that
has no end yet: the master makes whole lines. What is written past us lies between the records.

The master can be slow, or blocked by who reads it. Then it says HOLD, and prints wait; what it has
not read fits into the pipes.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import time
from _thread import get_ident
from collections.abc import Callable
from itertools import count

from piecework.executors.slot import CURRENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.executors.slot import Words

    Place = tuple[int, int]
    """Slot, and number of the task that runs there; 0 for none."""

# words on the page that a worker process and its master share about output
PRINTED, HOLD, TOKEN, MARKS = range(4)

HEADER = struct.Struct("<8sBBHIQQ")  # token, kind, more follows, bytes, slot, task, who printed
RAW, OUT, ERR, LOG, MARK = range(5)
NO_SLOT = 0xFFFFFFFF
PIPE_BUF = 4096 if sys.platform == "linux" else 512
_ROOM = PIPE_BUF - HEADER.size
_HOLD_SECONDS = 0.005
_MASK = 2**64 - 1


class Printer:
    """Writes records into the pipe that fd 1 leads to, through a descriptor of its own: a task
    that turns its fd 1 elsewhere gets no records there."""

    def __init__(self, fds: tuple[int, int], page: Words) -> None:
        self._fds = fds
        self._page = page
        self._token = page[TOKEN].to_bytes(8, "little")
        self._count = count(1)
        self._slots: dict[int, tuple[int, Words]] = {}
        self.only: tuple[int, Words] | None = None  # the slot, where there is one
        self.place: Callable[[], Place] = self._place

    def serve(self, slot: int, words: Words) -> None:
        """What this thread prints is the slot's."""
        self._slots[get_ident()] = slot, words

    def _place(self) -> Place:
        found = self._slots.get(get_ident()) or self.only
        return (NO_SLOT, 0) if found is None else (found[0], found[1][CURRENT])

    def put(self, kind: int, data: bytes) -> None:
        """Send it; blocks while the master takes nothing."""
        slot, number = self.place()
        who = (os.getpid() << 48 | get_ident()) & _MASK  # a child that was forked shares all else
        for at in range(0, len(data), _ROOM):
            piece = data[at : at + _ROOM]
            more = at + _ROOM < len(data)
            head = HEADER.pack(self._token, kind, more, len(piece), slot, number, who)
            while self._page[HOLD]:
                time.sleep(_HOLD_SECONDS)
            self._write(self._fds[0], head + piece)

    def mark(self, number: int) -> None:
        """A task has ended: what was written past us until here is its own, or of one before."""
        flush_c()
        head = HEADER.pack(self._token, MARK, 0, 0, 0, number, 0)
        for fd in self._fds:
            self._write(fd, head)

    def mark_if_asked(self, number: int) -> None:
        """Results are about to be sent: where something is written past us, say of whom."""
        if self._page[MARKS]:
            self.mark(number)

    def _write(self, fd: int, record: bytes) -> None:
        while True:
            try:
                os.write(fd, record)
            except BlockingIOError:  # a child has made the pipe so, for all who have it
                time.sleep(_HOLD_SECONDS)
            except OSError:  # nobody reads any more: our master is gone, and so are we
                return
            else:
                # After the write, and before what the task returns is sent: by this the master
                # knows that there is something to read before a result.
                self._page[PRINTED] = next(self._count)
                return


class Stream(io.TextIOBase):
    """`sys.stdout` and `sys.stderr` of a worker process."""

    encoding = "utf-8"
    errors = "backslashreplace"
    mode = "w"
    line_buffering = True
    write_through = True

    def __init__(self, printer: Printer, kind: int, fd: int) -> None:
        self._put, self._kind, self._fd = printer.put, kind, fd
        self.name = "<stdout>" if kind == OUT else "<stderr>"
        self.buffer = Bytes(printer, kind, fd)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._put(self._kind, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def reconfigure(self, **_options: Any) -> None:
        """Bytes are UTF-8 and nothing is held back, whatever is asked for."""

    def close(self) -> None:
        """It stays open: another slot may print."""


class Bytes(io.BufferedIOBase):
    """The `buffer` of such a stream."""

    mode = "wb"

    def __init__(self, printer: Printer, kind: int, fd: int) -> None:
        self._put, self._kind, self._fd = printer.put, kind, fd
        self.name = fd

    def write(self, data: Any) -> int:
        data = bytes(memoryview(data))
        if data:
            self._put(self._kind, data)
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """It stays open."""


_flush_c: Any = None


def flush_c() -> None:
    """Have C's own buffers written: they would be lost with the process. Where nobody has loaded
    `ctypes`, as every larger extension does, it is not worth the import."""
    global _flush_c
    if "ctypes" in sys.modules:
        if _flush_c is None:
            _flush_c = sys.modules["ctypes"].CDLL(None).fflush
        _flush_c(None)


_before: list[object] = []


def install(fds: tuple[int, int], page: Words) -> Printer:
    """Turn fd 1 and 2 and the streams of this process to the master."""
    for fd, target in zip(fds, (1, 2), strict=True):
        os.dup2(fd, target)
    printer = Printer(fds, page)
    # A forked worker has text in its old streams that its parent will write, too: they are kept,
    # or the last reference would flush them.
    _before.extend((sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))
    sys.stdout = sys.__stdout__ = Stream(printer, OUT, 1)  # type: ignore[assignment,misc]
    sys.stderr = sys.__stderr__ = Stream(printer, ERR, 2)  # type: ignore[assignment,misc]
    return printer
