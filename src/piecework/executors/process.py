"""ProcessExecutor: a standard executor whose tasks cannot harm each other.

    submit, map ──▶ Engine ◀── one channel a slot ──▶ worker processes (child.py)
                      └────── supervisor: starts, watches, ends them

The executor is a thin front: the engine lives on until its work is done, although the executor
was dropped, and ends with the interpreter.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial

from piecework.errors import CannotPickle, UsageError
from piecework.executors.boot import boot_copy, boot_fresh
from piecework.executors.cores import cores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from typing import Any

    from piecework.executors.engine import Engine
    from piecework.executors.future import TaskFuture
    from piecework.executors.mapping import LazyMap
    from piecework.executors.work import Call
    from piecework.loop import Loop
    from piecework.task import Batch, Report

THREADS_MAX = 200  # a descriptor each, in one message to the supervisor
METHODS = ("fork", "forkserver", "spawn")


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
        workers = cores() if max_workers is None else max_workers
        _at_least_one("max_workers", workers)
        _at_least_one("threads", threads)
        if threads > THREADS_MAX:
            raise UsageError(
                f"{threads} threads in one worker process are too many: "
                f"use at most {THREADS_MAX}, or more max_workers"
            )
        if max_tasks_per_child is not None:
            _at_least_one("max_tasks_per_child", max_tasks_per_child)
        if task_timeout is not None and task_timeout <= 0:
            raise UsageError(
                f"task_timeout must be more than 0 seconds, not {task_timeout}: "
                "leave it out for no limit"
            )
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        memory = _bytes(max_memory)
        method = _method(mp_context)
        boot = partial(boot_copy, initializer, tuple(initargs))
        booted = None
        if method != "fork":
            boot = partial(boot_fresh, spawn=method == "spawn")
            booted = boot()  # it starts while this process imports what follows

        from piecework.executors.engine import Engine

        self._engine = Engine(
            workers=workers,
            threads=threads,
            coroutines=_coroutines,
            method=method,
            initializer=initializer,
            initargs=tuple(initargs),
            tasks_per_worker=max_tasks_per_child,
            limit=task_timeout,
            memory=memory,
            boot=boot,
            booted=booted,
        )
        self._maps: weakref.WeakSet[LazyMap] = weakref.WeakSet()
        _engines.add(self._engine)
        weakref.finalize(self, _let_go, self._engine).atexit = False

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
                _at_least_one(name, size)
        self._check_open()
        if not iterables:
            raise TypeError("map() must have at least one iterable to draw inputs from")
        state = LazyMap(self._engine, fn, iterables, timeout, chunksize, buffersize)
        iterator = lazy_map(state, self._maps)
        self._engine.loop.start()
        return iterator

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing new; with `wait`, return when all work is done and no process is left."""
        engine = self._engine
        for state in list(self._maps):
            if cancel_futures:
                state.give_up()
            else:
                state.finish()
        with engine.loop.entered():
            if not engine.closed:
                if cancel_futures:
                    engine.cancel_pending()
                engine.stop()
        if wait:
            engine.wait_closed()

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

    def _check_open(self) -> None:
        engine = self._engine
        if engine.broken is not None:
            from piecework.losses import ExecutorBroken

            raise ExecutorBroken(str(engine.broken.message))
        if _interpreter_ended:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if engine.stopping or engine.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

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

    # -- batches -------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        return self._engine.roster.slots

    @property
    def busy(self) -> int:
        """Slots that have been sent something and have not reported all of it."""
        return self._engine.roster.busy

    @property
    def loop(self) -> Loop:
        return self._engine.loop

    def prepare(
        self,
        fn: Callable[..., Any],
        *,
        star: bool = False,
        task_timeout: float | None = None,
        max_memory: int | str | None = None,
    ) -> Call:
        from piecework import codec
        from piecework.executors.work import Call

        if not callable(fn):
            raise UsageError(f"{fn!r} is not callable. Give a function.")
        data = codec.dumps(fn, what="fn")
        singles = self._engine.singles
        call = Call(
            data,
            star=star,
            limit=task_timeout or singles.limit,
            memory=_bytes(max_memory) or singles.memory,
        )
        self._engine.track(call)
        return call

    def room(self) -> int:
        with self._engine.loop.entered():
            return self._engine.room()

    def submit_batch(self, call: Call, batch: Batch, report: Callable[[Report], None]) -> None:
        from piecework.executors.work import BatchWork

        with self._engine.loop.entered():
            if self._engine.broken is None:
                self._check_open()
            self._engine.submit_batch(BatchWork(call, batch, report))
        self._engine.loop.start()

    def cancel(self, call: Call, *, kill: bool = False) -> None:
        with self._engine.loop.entered():
            if not self._engine.closed:
                self._engine.cancel_call(call, kill=kill)


def _at_least_one(name: str, number: int) -> None:
    if number < 1:
        raise UsageError(f"{name} must be greater than 0, not {number}: leave it out for a default")


def _bytes(max_memory: int | str | None) -> int | None:
    """The limit in bytes; a refusal where it is none, or cannot be kept on this system."""
    if max_memory is None:
        return None
    from piecework.options import memory_from

    return memory_from(max_memory)


def _method(mp_context: BaseContext | str | None) -> str:
    if mp_context is None:
        return "forkserver"
    method = mp_context if isinstance(mp_context, str) else mp_context.get_start_method()
    if method not in METHODS:
        raise UsageError(f"no start method {method!r}. Choose one of: {', '.join(METHODS)}")
    return str(method)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_interpreter_ended = False


def _let_go(engine: Engine) -> None:
    """The executor was dropped: what was submitted is still done, then the workers end."""
    if not engine.closed:
        engine.loop.call_soon(engine.stop)
        engine.loop.start()  # it may never have run


def _finish_all() -> None:
    """The interpreter ends: finish what was submitted, as the standard library does."""
    global _interpreter_ended
    _interpreter_ended = True
    for engine in list(_engines):
        with engine.loop.entered():
            if not engine.closed:
                engine.stop()
        engine.wait_closed()


# Before the threads of the interpreter are joined; atexit handlers would come too late.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
