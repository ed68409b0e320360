"""CoroutineExecutor: thousands of coroutines at once, on an event loop in a thread of its own.

    submit, map, submit_batch ──▶ incoming ──one wake-up a burst──▶ CoroutineSlots (event loop)
           ▲                                                              │
           └──────────────── futures, parts, reports: once a turn ────────┘

The thread knows nothing of the executor, only of its `EventLoop`: an executor that nobody holds
any more is collected, and its event loop ends when what it was given has ended.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from piecework.errors import UsageError
from piecework.executors.coroutine_child import Submitted, require_coroutine_function
from piecework.executors.event_loop import EventLoop
from piecework.executors.ordered import Part, checked_chunksize, ordered_map
from piecework.executors.outbox import OpenBatch

if TYPE_CHECKING:
    from piecework.loop import Loop
    from piecework.task import Batch, Report

WORKERS = 1000
_numbers = itertools.count()


class Call:
    """A coroutine function that batches are submitted of."""

    def __init__(self, fn: Callable[..., Any], star: bool, task_timeout: float | None) -> None:
        self.fn = fn
        self.star = star
        self.task_timeout = task_timeout
        self.open: set[OpenBatch] = set()


class CoroutineExecutor(Executor):
    """Runs coroutine functions, at most `max_workers` at once, on one event loop.

    What a coroutine does between two awaits stops all others: plain functions are refused.
    `task_timeout` cancels a coroutine that takes longer, and its future raises TaskTimeout.
    `initializer` may be a coroutine function; it runs on the event loop before anything else.
    """

    name = "coroutines"

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        task_timeout: float | None = None,
    ) -> None:
        self.slots = WORKERS if max_workers is None else max_workers
        if self.slots <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._task_timeout = checked_limit(task_timeout)
        name = thread_name_prefix or f"CoroutineExecutor-{next(_numbers)}"
        self._events = EventLoop(self.slots, name, initializer, initargs)
        weakref.finalize(self, self._events.close).atexit = False
        self._lock = threading.Lock()
        self._open_tasks = 0  # of batches that are not reported whole
        self._batch_size = 1  # of the newest batch
        self._loop: Loop | None = None

    # -- the standard contract ----------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the coroutine `fn(*args, **kwargs)`; UsageError where `fn` is a plain function."""
        require_coroutine_function(fn)
        future: Future[Any] = Future()
        self._events.add(Submitted(future, partial(fn, *args, **kwargs)), self._task_timeout)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Like `map(fn, *iterables)` with every result awaited; results come in input order.

        Work starts now. Inputs are drawn only as results are taken, so an endless iterable is
        fine. TimeoutError where a result is not there `timeout` seconds after this call.
        `chunksize` changes nothing.
        """
        checked_chunksize(chunksize)
        require_coroutine_function(fn)
        return ordered_map(
            fn,
            iterables,
            self._put,
            buffersize=buffersize,
            default_buffersize=2 * self.slots,
            timeout=timeout,
        )

    def _put(self, part: Part) -> None:
        self._events.add(part, self._task_timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._events.close()
        if cancel_futures:
            self._events.give_up_unstarted()
        if wait:
            self._events.join()
        self._close_loop()

    # -- batches ------------------------------------------------------------------------------

    @property
    def loop(self) -> Loop:
        """The loop that reports may be handled in; made when first asked for."""
        if self._loop is None:
            from piecework.loop import Loop

            with self._lock:
                if self._loop is None:
                    self._loop = Loop("piecework-coroutines")
                    weakref.finalize(self, self._loop.close)
        return self._loop

    def prepare(
        self, fn: Callable[..., Any], *, star: bool = False, task_timeout: float | None = None
    ) -> Call:
        """UsageError, before anything has run, where `fn` is a plain function."""
        require_coroutine_function(fn)
        return Call(fn, star, checked_limit(task_timeout) or self._task_timeout)

    def room(self) -> int:
        """Twice as many tasks as run at once: the second half begins as the first one ends."""
        free = 2 * self.slots - self._open_tasks
        return max(0, -(-free // self._batch_size))

    def submit_batch(self, call: Call, batch: Batch, report: Callable[[Report], None]) -> None:
        """Begin the batch's coroutines, all at once where there is room for them."""
        work = OpenBatch(call.fn, call.star, batch, report, self._batch_ended, call.open)
        with self._lock:
            self._open_tasks += len(batch)
            self._batch_size = max(1, len(batch))
            call.open.add(work)
        try:
            self._events.add(work, call.task_timeout)
        except BrokenExecutor as error:  # it cannot start: that is these tasks' failure
            work.fail(error)
        except RuntimeError:
            self._batch_ended(work)
            raise

    def cancel(self, call: Call, *, kill: bool = False) -> None:
        """What has not started is reported as cancelled; with `kill` what runs is cancelled too."""
        with self._lock:
            works = list(call.open)
        for work in works:
            work.give_up()
            if kill:
                self._events.end_running(work)

    def _batch_ended(self, work: OpenBatch) -> None:
        with self._lock:
            self._open_tasks -= len(work.batch)
            work.call_open.discard(work)
        self._close_loop()

    def _close_loop(self) -> None:
        if self._events.closed and not self._open_tasks and self._loop is not None:
            self._loop.close()


def checked_limit(seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        raise UsageError(f"task_timeout must be more than 0 seconds, or None, not {seconds!r}")
    return seconds
