"""Coroutine functions on their way to an event loop, and how an event loop begins and ends.

Shared by the event loop in a thread of this process and by those of worker processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from piecework.errors import UsageError
from piecework.task import Cause

CANCEL_SECONDS = 1.0  # for a coroutine to clean up once it was cancelled


class Submitted:
    """One `submit`: its outcome goes to a future."""

    star = True
    overheard = None  # its exception goes to the caller as it is

    def __init__(self, future: Future[Any], fn: Callable[..., Any]) -> None:
        self.future = future
        self.fn = fn
        self.claims: deque[tuple[int, Any]] = deque([(0, ())])

    def outbox(self, worker: str) -> Submitted:
        return self

    def add(
        self,
        position: int,
        value: Any,
        error: BaseException | None,
        seconds: float,
        cause: Cause = "exception",
    ) -> None:
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)

    def flush(self, cpu: float = 0.0) -> None:
        """Nothing is held back here."""

    def give_up(self) -> None:
        if self.future.cancel():
            self.claims.clear()
            self.future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        self.claims.clear()
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


def require_coroutine_function(fn: Callable[..., Any]) -> None:
    """UsageError, with the way out, for what does not return a coroutine when it is called."""
    called = getattr(type(fn), "__call__", None)  # noqa: B004  # is it `async def __call__`?
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(called):
        return
    if not callable(fn):
        raise UsageError(f"{fn!r} is not callable. Give a coroutine function (async def).")
    name = getattr(fn, "__qualname__", repr(fn))
    raise UsageError(
        f"{name} is a plain function, and would stop every coroutine while it runs. Define it with "
        "`async def`, wrap the call in `async def` with `await asyncio.to_thread(...)`, or use "
        "ThreadExecutor or ProcessExecutor."
    )


class Limited:
    """A coroutine function with its time limit, on its way to a worker process."""

    def __init__(self, fn: Callable[..., Any], seconds: float) -> None:
        self.fn = fn
        self.seconds = seconds

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


class LoopInitializer:
    """Runs an initializer on the event loop of the worker process."""

    def __init__(self, initializer: Callable[..., object]) -> None:
        self.initializer = initializer

    def __call__(self, *args: Any) -> None:
        loop = process_loop()
        error = loop.run_until_complete(contained(self.initializer, args))
        if error is not None:
            raise error


async def contained(fn: Callable[..., object], args: tuple[Any, ...]) -> BaseException | None:
    """Call it, await what it returns if need be, and return what it raised."""
    try:
        result = fn(*args)
        if inspect.isawaitable(result):
            await result
    except BaseException as error:
        return error
    return None


_process_loop: asyncio.AbstractEventLoop | None = None


def process_loop() -> asyncio.AbstractEventLoop:
    """The event loop of this worker process."""
    global _process_loop
    if _process_loop is None:
        _process_loop = asyncio.new_event_loop()
    return _process_loop


def end_loop(loop: asyncio.AbstractEventLoop) -> None:
    """End what the user's coroutines have left on the event loop, then close it."""
    try:
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=CANCEL_SECONDS))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
