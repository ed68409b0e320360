"""ProcessExecutor: a standard executor whose tasks cannot harm each other.

    submit ──▶ Engine (see processes.py) ──▶ TaskFuture
    map ─────▶ LazyMap ──▶ Engine

The executor is a thin front: the engine does the work, and lives on until that is done.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor

from piecework.errors import CannotPickle
from piecework.executors.processes import Processes, at_least_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from typing import Any

    from piecework.executors.future import TaskFuture
    from piecework.executors.mapping import LazyMap
    from piecework.loop import Loop


class ProcessExecutor(Executor):
    """Runs calls in worker processes; one task's death never breaks it.

    `threads` slots in each of `max_workers` processes (default: the cores this process may use).
    `mp_context` is a start method or a context of multiprocessing; the default is safe in a
    process with threads. `task_timeout` seconds end one task, by ending its worker, and raise
    TaskTimeout from its future. A task whose worker dies raises WorkerLost; whoever ran beside it
    runs again. One whose worker, with all that it has started, holds more than `max_memory` (bytes,
    or "2GB") is ended, too: WorkerLost with `out_of_memory`. `max_tasks_per_child` replaces a
    worker after so many tasks.

    Functions of `__main__`, lambdas and closures are sent by value: no `if __name__` guard.
    """

    name = "processes"

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | str | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        threads: int = 1,
        max_tasks_per_child: int | None = None,
        task_timeout: float | None = None,
        max_memory: int | str | None = None,
        _coroutines: int = 0,
    ) -> None:
        self._processes = Processes(
            max_workers,
            mp_context,
            initializer,
            initargs,
            threads=threads,
            max_tasks_per_child=max_tasks_per_child,
            task_timeout=task_timeout,
            max_memory=max_memory,
            coroutines=_coroutines,
        )
        self._engine = self._processes.engine
        self._check_open = self._processes.check_open
        self._maps: weakref.WeakSet[LazyMap] = weakref.WeakSet()
        # Batches are no part of the standard contract: they go straight through.
        self.prepare = self._processes.prepare
        self.room = self._processes.room
        self.submit_batch = self._processes.submit_batch
        self.cancel = self._processes.cancel
        self.hear = self._processes.hear

    # -- the standard contract -----------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Run `fn(*args, **kwargs)` in a worker. The future raises what the call raised, or
        CannotPickle, naming the attribute, where the call cannot be sent."""
        from piecework import codec
        from piecework.executors.future import TaskFuture
        from piecework.executors.work import SingleWork

        engine = self._engine
        future = TaskFuture(engine.loop)
        try:
            data = codec.dumps((fn, args, kwargs), what=("fn", "args", "kwargs"))
        except CannotPickle as error:
            self._check_open()
            future.set_running_or_notify_cancel()
            future.set_exception(error)
            return future
        with engine.loop.entered():
            self._check_open()
            engine.submit_single(SingleWork(engine.singles, data, future))
        engine.loop.start()
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Like `map(fn, *iterables)` in the workers, results in input order.

        Inputs are drawn lazily, at most `buffersize` ahead of the results taken (default: what
        keeps every slot busy, at least 1,000). Tasks travel in batches that adapt to their
        duration; `chunksize` fixes their size. TimeoutError where a result is not there `timeout`
        seconds after this call. CannotPickle now where `fn` cannot be sent.
        """
        from piecework.executors.mapping import LazyMap, lazy_map

        for name, size in (("chunksize", chunksize), ("buffersize", buffersize)):
            if size is not None:
                if not isinstance(size, int):
                    raise TypeError(f"{name} must be an integer, not {size!r}")
                at_least_one(name, size)
        self._check_open()
        if not iterables:
            raise TypeError("map() must have at least one iterable to draw inputs from")
        state = LazyMap(self._engine, fn, iterables, timeout, chunksize, buffersize)
        iterator = lazy_map(state, self._maps)
        self._engine.loop.start()
        return iterator

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing new; with `wait`, return when all work is done and no process is left."""
        for state in list(self._maps):
            if cancel_futures:
                state.give_up()
            else:
                state.finish()
        self._processes.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        """Waits for all work, as the standard library does; after Ctrl-C it ends it instead."""
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            self.terminate_workers()
        self.shutdown(wait=True)

    def terminate_workers(self) -> None:
        """End every worker now with SIGTERM: running calls raise WorkerLost, waiting ones are
        cancelled, and the executor is shut down."""
        self._end_workers(15)

    def kill_workers(self) -> None:
        """As `terminate_workers`, with SIGKILL: nothing in the workers can hold it up."""
        self._end_workers(9)

    def _end_workers(self, number: int) -> None:
        for state in list(self._maps):
            state.give_up()
        with self._engine.loop.entered():
            if not self._engine.closed:
                self._engine.end_workers(number)

    @property
    def _broken(self) -> bool:
        return self._engine.broken is not None

    # -- for Pool, whose workers are there before the work -------------------------------------

    def _populate(self) -> None:
        with self._engine.loop.entered():
            if not self._engine.closed:
                self._engine.populate()

    def _pids(self) -> list[int]:
        roster = self._engine.roster
        self._engine.loop.drive(lambda: all(worker.pid for worker in roster.serving()), 10)
        return [worker.pid for worker in roster.serving()]

    def _serves(self, pid: int) -> bool:
        return any(worker.pid == pid for worker in self._engine.roster.serving())

    # -- what a batch executor tells ----------------------------------------------------------

    @property
    def slots(self) -> int:
        return self._processes.slots

    @property
    def busy(self) -> int:
        return self._processes.busy

    @property
    def loop(self) -> Loop:
        return self._engine.loop
