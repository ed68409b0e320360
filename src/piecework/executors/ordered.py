"""Results in input order from inputs drawn lazily: the `map` of the executors in this process.

    inputs ──draw──▶ Part ──put──▶ threads or event loop ──add──▶ Part.values ──▶ the consumer
              ▲                                                                      │
              └────────── only as results are taken: a consumer that stops stops it ─┘

Inputs are drawn in the consumer's own thread and nowhere else. A part is what was drawn at once;
its outcomes arrive in any order, from any thread, and leave in input order.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any

from piecework.errors import UsageError
from piecework.task import Cause

BUFFER_MIN = 1000  # inputs drawn ahead by a map that was not told otherwise

_PENDING: Any = object()


class Part:
    """Inputs drawn together, and their outcomes.

    `claims` holds `(position, arguments)` of what has not started: whoever pops an entry runs it,
    and emptying it gives up the rest.
    """

    __slots__ = ("_window", "claims", "errors", "fn", "star", "values")
    overheard = None  # exceptions go to the caller as they are

    def __init__(
        self, window: Window, fn: Callable[..., Any], rows: Iterable[tuple[Any, ...]]
    ) -> None:
        self._window = window
        self.fn = fn
        self.star = True
        self.claims: deque[tuple[int, Any]] = deque(enumerate(rows))
        self.values: list[Any] = [_PENDING] * len(self.claims)
        self.errors: dict[int, BaseException] = {}

    def add(
        self,
        position: int,
        value: Any,
        error: BaseException | None,
        seconds: float,
        cause: Cause = "exception",
    ) -> None:
        """The outcome of one position; the consumer may take it from here on."""
        if error is not None:
            self.errors[position] = error  # before the value: the consumer looks there first
            value = None
        self.values[position] = value
        if self._window.waiting:
            self._window.wake()

    def flush(self, cpu: float = 0.0) -> None:
        """Nothing is held back here: `add` shows an outcome at once."""

    def outbox(self, worker: str) -> Part:
        return self

    def give_up(self) -> None:
        self.fail(CancelledError())

    def fail(self, error: BaseException) -> None:
        """What has not started never will."""
        for position in _drained(self.claims):
            self.add(position, None, error, 0.0)

    def take(self, position: int) -> Any:
        """The value, which is not kept here any longer; raises what the function raised."""
        value, self.values[position] = self.values[position], None
        error = self.errors.pop(position, None)
        if error is None:
            return value
        try:
            raise error
        finally:
            del error  # its traceback holds this frame: a cycle otherwise


class Window:
    """The parts between the drawing and the consumer: at most `size` inputs."""

    _end_error: Exception | None = None

    def __init__(
        self,
        fn: Callable[..., Any],
        rows: Iterator[tuple[Any, ...]],
        put: Callable[[Part], None],
        *,
        size: int,
        whole: bool,
        timeout: float | None,
    ) -> None:
        self.waiting = False
        self._whole = whole
        self._begun = False
        self._drawing = threading.RLock()
        self._fn = fn
        self._rows: Iterator[tuple[Any, ...]] | None = rows
        self._put: Callable[[Part], None] | None = put
        self._size = size
        self._refill_below = size - max(1, size // 4)  # by the handful: a part has its price
        self._open = 0  # drawn, not yet taken
        self._parts: deque[Part] = deque()
        self._changed = threading.Condition()
        self._until = None if timeout is None else time.monotonic() + timeout
        self._draw()
        if self._end_error is not None and not self._parts:
            raise self._end_error

    def _draw(self, wanted: int | None = None) -> None:
        with self._drawing:
            if self._rows is not None and self._put is not None:
                self._draw_some(self._rows, self._put, wanted or self._size - self._open)

    def _draw_some(
        self, rows: Iterator[tuple[Any, ...]], put: Callable[[Part], None], wanted: int
    ) -> None:
        drawn: list[tuple[Any, ...]] = []
        try:
            drawn.extend(islice(rows, wanted))
        except Exception as error:  # raised in its place, after what was drawn before it
            self._end_error = error
        if len(drawn) < wanted:
            self._rows = self._put = None  # the executor may be collected from here on
        if drawn:
            part = Part(self, self._fn, drawn)
            try:
                put(part)
            except RuntimeError as error:  # shut down since the last drawing
                self._end_error = error
                self._rows = self._put = None
                return
            self._parts.append(part)
            self._open += len(drawn)

    def finish(self) -> None:
        """Draw all that is left, where that has an end: the executor shuts down, or nobody will
        ever take a result. The standard library would have drawn it by now."""
        if self._whole:
            self._draw(sys.maxsize)

    def dropped(self) -> None:
        """The iterator is gone. Never begun means that only the effects were wanted."""
        if not self._begun:
            with contextlib.suppress(RuntimeError):  # shut down meanwhile
                self.finish()

    def results(self) -> Iterator[Any]:
        """The values in input order; leaving early gives up what has not started."""
        self._begun = True
        try:
            while self._parts:
                part = self._parts[0]
                for position in range(len(part.values)):
                    if part.values[position] is _PENDING:
                        self._wait_for(part, position)
                    self._open -= 1
                    if self._open <= self._refill_below:
                        self._draw()
                    yield part.take(position)
                self._parts.popleft()
            if self._end_error is not None:
                raise self._end_error
        finally:
            self._rows = self._put = None
            for part in self._parts:
                part.claims.clear()
            self._parts.clear()

    def _wait_for(self, part: Part, position: int) -> None:
        with self._changed:
            while True:
                self.waiting = True
                if part.values[position] is not _PENDING:
                    self.waiting = False
                    return
                left = None if self._until is None else self._until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)

    def wake(self) -> None:
        with self._changed:
            self.waiting = False
            self._changed.notify_all()


def ordered_map(
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    put: Callable[[Part], None],
    *,
    buffersize: int | None,
    default_buffersize: int,
    timeout: float | None,
    live: weakref.WeakSet[Window],
) -> Iterator[Any]:
    """`fn` over the zipped iterables, started now, drawn at most a buffer ahead of the consumer.

    `live` gets what may have to be finished when the executor shuts down.
    """
    size = checked_buffersize(buffersize) or max(default_buffersize, BUFFER_MIN)
    whole = buffersize is None and all(isinstance(i, Sized) for i in iterables)
    rows = zip(*iterables, strict=False)
    window = Window(fn, rows, put, size=size, whole=whole, timeout=timeout)
    live.add(window)
    iterator = window.results()
    weakref.finalize(iterator, window.dropped).atexit = False
    return iterator


def checked_buffersize(buffersize: int | None) -> int | None:
    """As the standard library checks it: TypeError unless an integer, ValueError below one."""
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    return buffersize


def checked_chunksize(chunksize: int) -> int:
    if chunksize < 1:
        raise UsageError(f"chunksize must be >= 1, not {chunksize}")
    return chunksize


def _drained(claims: deque[tuple[int, Any]]) -> Iterator[int]:
    while True:
        try:
            position, _ = claims.popleft()
        except IndexError:
            return
        yield position
