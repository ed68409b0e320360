"""CoroutineExecutor: thousands of coroutines at once, on one event loop or on one a core.

                                 ┌─▶ OneLoop: EventLoop, in a thread of this process
    CoroutineExecutor ───────────┤
                                 └─▶ LoopPerProcess: the engine of ProcessExecutor, whose workers
                                     run an event loop each (coroutine_child.py)

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
from piecework.executors.coroutine_slots import (
    Limited,
    LoopInitializer,
    Submitted,
    require_coroutine_function,
)
from piecework.executors.event_loop import EventLoop
from piecework.executors.ordered import (
    Part,
    Window,
    checked_buffersize,
    checked_chunksize,
    ordered_map,
)
from piecework.executors.outbox import OpenBatch

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from piecework.loop import Loop
    from piecework.task import Batch, Report

WORKERS = 1000
_BATCHES_AT_ONCE = 8  # enough to refill smoothly, few enough to cost next to nothing
_numbers = itertools.count()


class CoroutineExecutor(Executor):
    """Runs coroutine functions, at most `max_workers` at once, on an event loop of its own.

    What a coroutine does between two awaits stops all others: plain functions are refused, and
    `processes` gives that many worker processes an event loop each, with an equal share of
    `max_workers`. `task_timeout` cancels a coroutine that takes longer; its future raises
    TaskTimeout. `initializer`, a function or a coroutine function, runs on each event loop first.
    """

    name = "coroutines"

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        processes: int | None = None,
        mp_context: BaseContext | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        task_timeout: float | None = None,
    ) -> None:
        slots = WORKERS if max_workers is None else max_workers
        if slots <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if processes is None and mp_context is not None:
            raise UsageError("mp_context is for worker processes: give processes=2, or leave it")
        limit = _checked_limit(task_timeout)
        self._on: OneLoop | LoopPerProcess
        if processes is None:
            self._on = OneLoop(slots, initializer, initargs, limit)
        else:
            self._on = LoopPerProcess(slots, processes, mp_context, initializer, initargs, limit)
        weakref.finalize(self, self._on.let_go).atexit = False

    # -- the standard contract ----------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the coroutine `fn(*args, **kwargs)`; UsageError where `fn` is a plain function."""
        require_coroutine_function(fn)
        return self._on.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Like `map(fn, *iterables)` with every result awaited; results come in input order.

        Work starts now. Inputs are drawn only as results are taken, at most `buffersize` ahead
        (default: at least 1,000). TimeoutError where a result is not there `timeout` seconds
        after this call. `chunksize` changes nothing.
        """
        checked_chunksize(chunksize)
        require_coroutine_function(fn)
        return self._on.map(fn, iterables, timeout, checked_buffersize(buffersize))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._on.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Waits for all work, as the standard library does; after Ctrl-C it ends it instead."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.terminate_workers()
        self.shutdown(wait=True)

    def terminate_workers(self) -> None:
        """End everything now: what runs is cancelled, what waits never runs; nothing new is taken.

        With `processes` the worker processes are ended with SIGTERM.
        """
        self._on.terminate_workers()

    def kill_workers(self) -> None:
        """As `terminate_workers`, but worker processes are ended with SIGKILL."""
        self._on.kill_workers()

    # -- batches ------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        return self._on.slots

    @property
    def loop(self) -> Loop:
        return self._on.loop

    @property
    def together(self) -> int:
        """How many tasks a batch should have because they run at once, not one after the other."""
        return max(1, self.slots // _BATCHES_AT_ONCE)

    def prepare(
        self, fn: Callable[..., Any], *, star: bool = False, task_timeout: float | None = None
    ) -> Any:
        """UsageError, before anything has run, where `fn` is a plain function."""
        require_coroutine_function(fn)
        return self._on.prepare(fn, star, _checked_limit(task_timeout))

    def room(self) -> int:
        return self._on.room()

    def submit_batch(self, call: Any, batch: Batch, report: Callable[[Report], None]) -> None:
        """Begin the batch's coroutines, all at once where there is room for them."""
        self._on.submit_batch(call, batch, report)

    def cancel(self, call: Any, *, kill: bool = False) -> None:
        """What has not started is reported as cancelled; with `kill` what runs is cancelled too."""
        self._on.cancel(call, kill=kill)


class Call:
    """A coroutine function that batches are submitted of, on the event loop in this process."""

    def __init__(self, fn: Callable[..., Any], star: bool, task_timeout: float | None) -> None:
        self.fn = fn
        self.star = star
        self.task_timeout = task_timeout
        self.open: set[OpenBatch] = set()


class OneLoop:
    """Coroutines on one event loop, in a thread of this process."""

    def __init__(
        self,
        slots: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        task_timeout: float | None,
    ) -> None:
        self.slots = slots
        self._task_timeout = task_timeout
        name = f"CoroutineExecutor-{next(_numbers)}"
        self._events = EventLoop(slots, name, initializer, initargs)
        self._lock = threading.Lock()
        self._maps: weakref.WeakSet[Window] = weakref.WeakSet()
        self._open_tasks = 0  # of batches that are not reported whole
        self._batch_size = 1  # of the newest batch
        self._loop: Loop | None = None

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        future: Future[Any] = Future()
        self._events.add(Submitted(future, partial(fn, *args, **kwargs)), self._task_timeout)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        buffersize: int | None,
    ) -> Iterator[Any]:
        return ordered_map(
            fn,
            iterables,
            self._put,
            buffersize=buffersize,
            default_buffersize=2 * self.slots,
            timeout=timeout,
            live=self._maps,
        )

    def _put(self, part: Part) -> None:
        self._events.add(part, self._task_timeout)

    def shutdown(self, wait: bool, *, cancel_futures: bool) -> None:
        if not cancel_futures and not self._events.closed:
            for window in list(self._maps):
                window.finish()
        self._events.close()
        if cancel_futures:
            self._events.give_up_unstarted()
        if wait:
            self._events.join()
        self._close_loop()

    def let_go(self) -> None:
        """The executor was dropped: what it was given is still done."""
        self._events.close()
        self._close_loop()

    def terminate_workers(self) -> None:
        self._events.close()
        self._events.give_up_unstarted()
        self._events.end_running()

    kill_workers = terminate_workers

    @property
    def loop(self) -> Loop:
        """The loop that reports may be handled in; made when first asked for."""
        if self._loop is None:
            from piecework.loop import Loop

            with self._lock:
                self._loop = self._loop or Loop("piecework-coroutines")
        return self._loop

    def prepare(self, fn: Callable[..., Any], star: bool, task_timeout: float | None) -> Call:
        return Call(fn, star, task_timeout or self._task_timeout)

    def room(self) -> int:
        """Twice as many tasks as run at once: the second half begins as the first one ends."""
        free = 2 * self.slots - self._open_tasks
        return max(0, -(-free // self._batch_size))

    def submit_batch(self, call: Call, batch: Batch, report: Callable[[Report], None]) -> None:
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

    def cancel(self, call: Call, *, kill: bool) -> None:
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


class LoopPerProcess:
    """Coroutines in worker processes, an event loop in each."""

    def __init__(
        self,
        slots: int,
        processes: int,
        mp_context: BaseContext | str | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        task_timeout: float | None,
    ) -> None:
        from piecework.executors.process import ProcessExecutor

        self.slots = slots
        self._task_timeout = task_timeout
        self._executor = ProcessExecutor(
            processes,
            mp_context,
            None if initializer is None else LoopInitializer(initializer),
            initargs,
            _coroutines=max(1, -(-slots // processes)),
        )
        self.loop = self._executor.loop
        self._batch_size = 1  # of the newest batch
        self.cancel = self._executor.cancel
        self.shutdown = self._executor.shutdown
        self.terminate_workers = self._executor.terminate_workers
        self.kill_workers = self._executor.kill_workers

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        return self._executor.submit(self._limited(fn), *args, **kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        buffersize: int | None,
    ) -> Iterator[Any]:
        return self._executor.map(
            self._limited(fn), *iterables, timeout=timeout, buffersize=buffersize
        )

    def prepare(self, fn: Callable[..., Any], star: bool, task_timeout: float | None) -> Any:
        return self._executor.prepare(self._limited(fn, task_timeout), star=star)

    def room(self) -> int:
        return -(-self._executor.room() // self._batch_size)

    def submit_batch(self, call: Any, batch: Batch, report: Callable[[Report], None]) -> None:
        self._batch_size = max(1, len(batch))
        self._executor.submit_batch(call, batch, report)

    def _limited(self, fn: Callable[..., Any], seconds: float | None = None) -> Callable[..., Any]:
        """The time limit travels with the function: the event loop that runs it keeps it."""
        seconds = seconds or self._task_timeout
        return fn if seconds is None else Limited(fn, seconds)

    def let_go(self) -> None:
        """The executor was dropped, and with it the one that it has: what it was given is done."""


def _checked_limit(seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        raise UsageError(f"task_timeout must be more than 0 seconds, or None, not {seconds!r}")
    return seconds
