"""What the calls of a Pool return: AsyncResult, and the iterator of imap and imap_unordered.

Whoever waits turns the control loop. Callbacks are called before the result is ready, in the
thread that turns the loop just then, never in one that holds its lock.
"""

from __future__ import annotations

import threading
import time
import types
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

from piecework import codec
from piecework.errors import CannotPickle
from piecework.failures import RemoteTraceback, rebuild
from piecework.loop import Loop
from piecework.pool.outcomes import Broken, Failed, Gathered, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.pool.flow import Flow


class AsyncResult:
    """The outcome of one call that may still be on its way, as `multiprocessing` has it.

    It always comes: where the worker died `get` raises WorkerLost, after `terminate` WorkerLost
    or CancelledError.
    """

    def __init__(
        self,
        pool: object,
        loop: Loop,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._pool: object = pool  # it must not be dropped, and so terminated, meanwhile
        self._loop = loop
        self._callback = callback
        self._error_callback = error_callback
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def ready(self) -> bool:
        """Whether the outcome is there."""
        return self._done.is_set()

    def successful(self) -> bool:
        """Whether nothing was raised; ValueError while that is not known."""
        if not self._done.is_set():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Return when it is ready, or after `timeout` seconds."""
        if self._done.is_set():
            return
        started = time.monotonic()
        self._loop.drive(self._done.is_set, timeout)
        if self._loop.closed:  # with the last call; its callback may still be running
            left = None if timeout is None else timeout - (time.monotonic() - started)
            self._done.wait(left)

    def get(self, timeout: float | None = None) -> Any:
        """The value, or what was raised; multiprocessing.TimeoutError after `timeout` seconds."""
        self.wait(timeout)
        if not self._done.is_set():
            raise _timeout_error()
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # no cycle through the traceback
        return self._value

    def take_future(self, future: Future[Any]) -> None:
        """The outcome of a submitted call is there."""
        if future.cancelled():
            self._settle(None, CancelledError("the pool was terminated before the call began"))
            return
        error = future.exception()
        if error is None:
            self._settle(future.result(), None)
        else:
            self._settle(None, as_standard(error))

    def take_gathered(self, gathered: Gathered) -> None:
        """The outcomes of a map are there."""
        if gathered.trouble is None:
            self._settle(gathered.take(), None)
        else:
            self._settle(None, error_of(gathered.trouble))

    def _settle(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        callback, argument = self._callback, value
        if error is not None:
            # After `terminate` nobody is called, as in multiprocessing.
            callback = None if isinstance(error, CancelledError) else self._error_callback
            argument = error
        self._callback = self._error_callback = None
        try:
            if callback is not None:
                callback(argument)
        finally:
            self._pool = None
            self._done.set()

    def __class_getitem__(cls, item: Any) -> Any:
        return types.GenericAlias(cls, item)


class ImapIterator:
    """The values of imap or imap_unordered, each as soon as it is there (and it is its turn).

    What a task raised is raised in the place of its value, and the next call goes on after it.
    Several threads may take from it.
    """

    def __init__(self, pool: object, loop: Loop, flow: Flow, stream: Stream) -> None:
        self._pool = pool  # it must not be dropped, and so terminated, meanwhile
        self._loop = loop
        self._flow = flow
        self._stream = stream
        self._hand: deque[Any] = deque()
        self._pop = self._hand.popleft
        self._trouble: Failed | Broken | None = None  # behind what is in hand
        weakref.finalize(self, _dropped, loop, flow).atexit = False

    def __iter__(self) -> ImapIterator:
        return self

    def __next__(self) -> Any:
        try:
            return self._pop()
        except IndexError:
            pass  # not in here: what is raised would show this as its context
        return self._wait_for_more(None)

    def next(self, timeout: float | None = None) -> Any:
        """As `next()`; multiprocessing.TimeoutError where nothing comes for `timeout` seconds."""
        try:
            return self._pop()
        except IndexError:
            pass
        return self._wait_for_more(timeout)

    def _wait_for_more(self, timeout: float | None) -> Any:
        self._flow.begun = True
        while True:
            with self._loop.entered():
                if self._hand:  # another thread was here
                    return self._pop()
                trouble, self._trouble = self._trouble, None
                if trouble is None and self._stream.ready:
                    trouble = self._take()
                if self._hand:
                    self._trouble = trouble
                    return self._pop()
                if trouble is None and self._flow.over:
                    self._pool = None
                    raise StopIteration
            if trouble is not None:
                raise error_of(trouble)
            if not self._loop.drive(self._has_news, timeout):
                if self._loop.closed and not self._has_news():
                    raise RuntimeError("the pool has ended, or belongs to another process")
                raise _timeout_error()

    def _take(self) -> Failed | Broken | None:
        """Take in hand what is ready, up to the next failure; which is returned."""
        values, trouble = self._stream.take()
        self._hand.extend(values)
        self._flow.fill()
        return trouble

    def _has_news(self) -> bool:
        return bool(self._stream.ready) or self._flow.over


def _dropped(loop: Loop, flow: Flow) -> None:
    """Nobody will take the rest: from wherever the collector runs."""
    loop.call_soon(flow.dropped)


def error_of(trouble: Failed | Broken) -> BaseException:
    """What is raised for it: as multiprocessing would, with notes that say which task it was."""
    if isinstance(trouble, Broken):
        return trouble.error
    failure, worker = trouble.failure, trouble.worker
    if failure.cause == "pickle" and not worker:  # it never left: ask again what was wrong
        try:
            codec.dumps(trouble.payload, what="input")
        except CannotPickle as refused:
            return as_standard(refused)
    error = rebuild(failure, index=trouble.index, input=trouble.payload, worker=worker)
    return as_standard(error) if failure.cause == "pickle" else error


def as_standard(error: BaseException) -> BaseException:
    """CannotPickle as who knows multiprocessing expects it; our explanation goes along."""
    if not isinstance(error, CannotPickle):
        return error
    original = error.__cause__
    if original is None or isinstance(original, RemoteTraceback):
        return _encoding_error(error)
    original.add_note(str(error))
    return original


def _encoding_error(error: CannotPickle) -> BaseException:
    from multiprocessing import pool

    made: BaseException = pool.MaybeEncodingError(  # type: ignore[attr-defined]  # not in typeshed
        error, "the value that the call returned"
    )
    made.__cause__ = error
    return made


def _timeout_error() -> BaseException:
    from multiprocessing import TimeoutError

    return TimeoutError("the result was not there in time: wait longer, or terminate the pool")
