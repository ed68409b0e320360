"""Where CoroutineExecutor runs coroutines: one event loop here, or one in each worker process.

Both take the same calls; coroutine.py is the front of either.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from piecework.executors.coroutine_calls import Limited, LoopInitializer, Submitted
from piecework.executors.event_loop import EventLoop
from piecework.executors.ordered import Part, Window, ordered_map
from piecework.executors.outbox import OpenBatch
from piecework.executors.overheard import LISTENING

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from piecework.loop import Loop
    from piecework.task import Batch, Report

_numbers = itertools.count()


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

    def hear(self) -> None:
        """What is printed in this process has passed already."""

    @property
    def busy(self) -> int:
        return min(self.slots, self._open_tasks)

    @property
    def inside(self) -> bool:
        return self._events.inside

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
        LISTENING.end()
        self._close_loop()

    def _close_loop(self) -> None:
        if self._events.closed and not self._open_tasks and self._loop is not None:
            self._loop.close()


class LoopPerProcess:
    """Coroutines in worker processes, an event loop in each."""

    inside = False  # tasks cannot have it

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
        self.hear = self._executor.hear
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

    @property
    def busy(self) -> int:
        return self._executor.busy

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
