"""Processes: batches in worker processes, as the map uses them.

    submit_batch ──▶ Engine ◀── one channel a slot ──▶ worker processes (child.py)
                       └────── supervisor: starts, watches, ends them

ProcessExecutor is this with the standard contract on top, whose module takes longer to import than
a worker takes to start: a map does without. The engine lives on until its work is done, although
its owner was dropped, and ends with the interpreter.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial

from piecework.errors import UsageError
from piecework.executors.boot import boot_copy, boot_fresh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from typing import Any

    from piecework.executors.engine import Engine
    from piecework.executors.work import Call
    from piecework.loop import Loop
    from piecework.task import Batch, Report

THREADS_MAX = 200  # a descriptor each, in one message to the supervisor
METHODS = ("fork", "forkserver", "spawn")


class Processes:
    """Worker processes that take batches; arguments and promises as of ProcessExecutor."""

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
        coroutines: int = 0,
    ) -> None:
        if max_workers is not None:
            at_least_one("max_workers", max_workers)
        at_least_one("threads", threads)
        if threads > THREADS_MAX:
            raise UsageError(
                f"{threads} threads in one worker process are too many: "
                f"use at most {THREADS_MAX}, or more max_workers"
            )
        if max_tasks_per_child is not None:
            at_least_one("max_tasks_per_child", max_tasks_per_child)
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

        from piecework.executors.cores import cores
        from piecework.executors.engine import Engine

        self.engine = engine = Engine(
            workers=cores() if max_workers is None else max_workers,
            threads=threads,
            coroutines=coroutines,
            method=method,
            initializer=initializer,
            initargs=tuple(initargs),
            tasks_per_worker=max_tasks_per_child,
            limit=task_timeout,
            memory=memory,
            boot=boot,
            booted=booted,
        )
        _engines.add(engine)
        weakref.finalize(self, _let_go, engine).atexit = False

    def check_open(self) -> None:
        """Raise what a closed or broken executor raises."""
        engine = self.engine
        if engine.broken is not None:
            from piecework.losses import ExecutorBroken

            raise ExecutorBroken(str(engine.broken.message))
        if _interpreter_ended:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if engine.stopping or engine.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    @property
    def slots(self) -> int:
        return self.engine.roster.slots

    @property
    def busy(self) -> int:
        """Slots that have been sent something and have not reported all of it."""
        return self.engine.roster.busy

    @property
    def loop(self) -> Loop:
        return self.engine.loop

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
        singles = self.engine.singles
        call = Call(
            data,
            star=star,
            limit=task_timeout or singles.limit,
            memory=_bytes(max_memory) or singles.memory,
        )
        self.engine.track(call)
        return call

    def room(self) -> int:
        with self.engine.loop.entered():
            return self.engine.room()

    def submit_batch(self, call: Call, batch: Batch, report: Callable[[Report], None]) -> None:
        from piecework.executors.work import BatchWork

        with self.engine.loop.entered():
            if self.engine.broken is None:
                self.check_open()
            self.engine.submit_batch(BatchWork(call, batch, report))
        self.engine.loop.start()

    def cancel(self, call: Call, *, kill: bool = False) -> None:
        with self.engine.loop.entered():
            if not self.engine.closed:
                self.engine.cancel_call(call, kill=kill)

    def hear(self) -> None:
        """Read what the workers have printed until now: what is written past Python comes without
        a word, and would be read a moment later."""
        with self.engine.loop.entered():
            if not self.engine.closed:
                self.engine.hearing.hear()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        engine = self.engine
        with engine.loop.entered():
            if not engine.closed:
                if cancel_futures:
                    engine.cancel_pending()
                engine.stop()
        if wait:
            engine.wait_closed()


def at_least_one(name: str, number: int) -> None:
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
