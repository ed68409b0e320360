"""Where the output of worker processes is written here: to sys.stdout, sys.stderr and logging.

    control loops ── put, log ──▶ what waits ──▶ one thread ──▶ sys.stdout, sys.stderr, loggers

Only whole lines come in, and one thread writes them, so no line is torn, whoever prints at once.
A control loop must never wait for a terminal that somebody has stopped, or for a pipe that nobody
reads: so there is a thread, which begins with the first line. What waits is bounded by those who
put: `full` tells them to stop reading, `when_room` when to go on.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
import threading
from collections.abc import Callable

from piecework.screen import STDERR, Through

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WAITING_MAX = 1 << 20  # characters
_ROOM = WAITING_MAX // 2


class Console:
    """Writes in the order in which things were put."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Any]] = []
        self._size = 0
        self._put = self._written = 0  # things so far
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._for_room: list[Callable[[], object]] = []

    def put(self, stream: str, text: str) -> None:
        """Have whole lines written to "stdout" or "stderr", whatever these are by then."""
        self._add(stream, text, len(text))

    def log(self, data: bytes, marks: dict[str, Any], prefix: str) -> None:
        """Have a packed log record handled by the logger of its name, with `marks` as attributes;
        where nobody has configured logging, its message is written with the prefix."""
        self._add("log", (data, marks, prefix), len(data))

    def _add(self, kind: str, item: Any, size: int) -> None:
        with self._changed:
            self._waiting.append((kind, item))
            self._size += size
            self._put += 1
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="piecework-console", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be had, or the interpreter ends: `flush` writes
            return
        self._thread = thread

    @property
    def full(self) -> bool:
        return self._size > WAITING_MAX

    def when_room(self, then: Callable[[], object]) -> None:
        """Call `then` once, from the thread, when there is room again."""
        with self._changed:
            if self._size > _ROOM:
                self._for_room.append(then)
                return
        then()

    def flush(self) -> None:
        """Return when all that was put before is written; at once from what the thread calls."""
        if threading.current_thread() is not self._thread:
            with self._changed:
                until = self._put
                while self._thread is not None and self._written < until:
                    self._changed.wait()
            if self._thread is None:
                self._write_waiting()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
            self._write_waiting()

    def _write_waiting(self) -> None:
        with self._changed:
            waiting, self._waiting = self._waiting, []
        for kind, item in _joined(waiting):
            if kind == "log":
                _handle(*item)
            else:
                _write(kind, item)
        self._tell(waiting)

    def _tell(self, written: list[tuple[str, Any]]) -> None:
        """Whoever waits for it to be written, or for room, goes on."""
        with self._changed:
            self._written += len(written)
            self._size -= sum(len(item[0] if kind == "log" else item) for kind, item in written)
            self._changed.notify_all()
            room: list[Callable[[], object]] = []
            if self._size <= _ROOM:
                room, self._for_room = self._for_room, []
        for then in room:
            then()

    def forked(self) -> None:
        """In a forked child: what waits is written by the parent."""
        self.__init__()  # type: ignore[misc]


def _joined(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The same with neighbours for one stream written at once."""
    joined: list[tuple[str, Any]] = []
    for kind, item in items:
        if kind != "log" and joined and joined[-1][0] == kind:
            joined[-1] = kind, joined[-1][1] + item
        else:
            joined.append((kind, item))
    return joined


def _write(name: str, text: str) -> None:
    """Write to the stream of that name; that nobody listens is no reason to stop."""
    stream = getattr(sys, name)
    if stream is None:
        return
    # A bar on the screen is taken away meanwhile; a stream that is wrapped for that does so itself.
    through = isinstance(stream, Through)
    try:
        with contextlib.nullcontext() if through else STDERR.passing():
            try:
                stream.write(text)
            except UnicodeEncodeError as error:
                stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            stream.flush()
    except (OSError, ValueError):
        pass


def _handle(data: bytes, marks: dict[str, Any], prefix: str) -> None:
    import logging

    try:
        record = logging.makeLogRecord({**marshal.loads(data), **marks})
        logger = logging.getLogger(record.name)
        if not logger.isEnabledFor(record.levelno):
            return
        if not prefix or logger.hasHandlers():
            logger.handle(record)
        else:
            _write("stderr", prefixed(prefix, text_of(record)))
    except Exception:  # of a filter or handler of the user's; the next ones are handled
        threading.excepthook(
            threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
        )


def log_line(data: bytes) -> str:
    """A packed record as one line, and its traceback below it."""
    fields = marshal.loads(data)
    line = f"{fields['levelname']}:{fields['name']}:{fields['msg']}"
    return "\n".join(part for part in (line, fields["exc_text"]) if part)


def text_of(record: Any) -> str:
    """A record as its last handler writes it: its message, and the traceback if there is one."""
    parts = [record.getMessage(), record.exc_text, record.stack_info]
    return "\n".join(part for part in parts if part)


def prefixed(prefix: str, text: str) -> str:
    return "".join(f"{prefix}{line}\n" for line in text.splitlines())


CONSOLE = Console()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CONSOLE.forked)
with contextlib.suppress(RuntimeError):  # it is ending already: who ends then flushes
    threading._register_atexit(CONSOLE.flush)  # type: ignore[attr-defined]
