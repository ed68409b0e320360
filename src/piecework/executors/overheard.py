"""What tasks in this process print: passed on in whole lines, and kept for their failures.

    print in a task ──▶ Listener in place of sys.stdout ──▶ the stream it took the place of
                             └──▶ Overheard of the batch ──▶ Tail ──▶ Failure.output

The streams are replaced only while a batch is open, and whose print it is shows the context:
threads and event loops set RUNNING, so what anybody else prints passes unchanged. Where somebody
replaces a stream meanwhile (redirect_stdout, a test), prints go there and are not kept; a listener
that comes back later passes on what it gets.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar

from piecework.tail import Tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LINE_MAX = 1 << 20  # characters held back until their line ends
KEPT_MAX = 16  # listeners that stay for the next run, and for whoever still prints through them


class Heard:
    """What one task has printed: its last lines, and of each stream the line that is not ended."""

    __slots__ = ("begun", "tail")

    def __init__(self) -> None:
        self.tail = Tail()
        self.begun: dict[Listener, str] = {}


class Overheard:
    """What the tasks of a batch, or of one slot's share of it, have printed, by position.

    With `whole`, a line is passed on when it ends: several tasks print at once.
    """

    __slots__ = ("heard", "indexes", "whole", "worker")

    def __init__(self, indexes: Sequence[int], worker: str, *, whole: bool = True) -> None:
        self.heard: dict[int, Heard] = {}
        self.indexes = indexes
        self.worker = worker
        self.whole = whole

    def write(self, listener: Listener, position: int, text: str) -> None:
        heard = self.heard.get(position)
        if heard is None:
            heard = self.heard[position] = Heard()
        lines, newline, rest = text.rpartition("\n")
        begun = heard.begun.pop(listener, "")
        if newline:
            ended = begun + lines
            for line in ended.split("\n"):
                heard.tail.add(line)
            begun = ""
            if self.whole:
                listener.pass_on(ended + "\n")
        begun += rest
        if len(begun) > LINE_MAX:
            heard.tail.add(begun)
            if self.whole:
                listener.pass_on(begun)
        elif begun:
            heard.begun[listener] = begun
        if not self.whole:
            listener.pass_on(text)

    def take(self, position: int) -> str:
        """The task has ended: its last lines. One that it has not ended is passed on as one."""
        heard = self.heard.pop(position, None)
        if heard is None:
            return ""
        for listener, begun in heard.begun.items():
            heard.tail.add(begun)
            if self.whole:
                listener.pass_on(begun + "\n")
        return heard.tail.text

    def log(self, position: int, record: Any) -> None:
        """A log record was made by the task: it gets marks, and its handlers go on as ever."""
        record.task, record.worker = self.indexes[position], self.worker
        if not sys.modules["logging"].getLogger(record.name).hasHandlers():
            return  # it is printed to sys.stderr, if at all
        heard = self.heard.get(position)
        if heard is None:
            heard = self.heard[position] = Heard()
        try:
            heard.tail.add_text(f"{record.levelname}:{record.name}:{record.getMessage()}")
        except Exception:  # its arguments do not fit: the handlers will say so
            heard.tail.add(f"{record.levelname}:{record.name}:{record.msg}")


class Seat:
    """Where a task runs: its batch, and its position there."""

    __slots__ = ("overheard", "position")

    def __init__(self, overheard: Overheard | None, position: int = 0) -> None:
        self.overheard = overheard
        self.position = position


RUNNING: ContextVar[Any] = ContextVar("piecework_running", default=None)


class Listener:
    """In place of a stream; all but writing is that stream's own."""

    passes_on = True  # to `stream`: what draws on the screen must not be taken for a task's print

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        seat = RUNNING.get()
        if seat is None or seat.overheard is None or not isinstance(text, str):
            return self.stream.write(text)  # type: ignore[no-any-return]
        seat.overheard.write(self, seat.position, text)
        return len(text)

    def pass_on(self, text: str) -> None:
        with self._lock:
            self.stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        return iter(self.stream)


class Listening:
    """Listeners are in place from the first `begin` to the last `end`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open = 0
        self._listeners: dict[str, Listener] = {}
        self._kept: list[Listener] = []
        self._records: tuple[Any, Any] | None = None

    def begin(self) -> None:
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._put_in_place()

    def end(self) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._take_away()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()

    def _put_in_place(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None:
                listener = stream if isinstance(stream, Listener) else self._of(stream)
                self._listeners[name] = listener
                setattr(sys, name, listener)
        logging = sys.modules.get("logging")
        if logging is not None:
            make = logging.getLogRecordFactory()

            def marked(*args, **more):
                record = make(*args, **more)
                seat = RUNNING.get()
                if seat is not None and seat.overheard is not None:
                    seat.overheard.log(seat.position, record)
                return record

            self._records = make, marked
            logging.setLogRecordFactory(marked)

    def _of(self, stream: Any) -> Listener:
        """The listener of a stream, always the same one: `print` in another thread may be using it
        without holding it (CPython borrows sys.stdout), and would crash if it were freed."""
        for listener in self._kept:
            if listener.stream is stream:
                return listener
        listener = Listener(stream)
        self._kept = [*self._kept, listener][-KEPT_MAX:]
        return listener

    def _take_away(self) -> None:
        for name, listener in self._listeners.items():
            outer = getattr(sys, name)
            if outer is listener:
                setattr(sys, name, listener.stream)
            elif getattr(outer, "stream", None) is listener:  # somebody has put a bar around it
                outer.stream = listener.stream
        self._listeners.clear()
        if self._records is not None:
            logging, (make, marked) = sys.modules["logging"], self._records
            if logging.getLogRecordFactory() is marked:
                logging.setLogRecordFactory(make)
            self._records = None


LISTENING = Listening()
