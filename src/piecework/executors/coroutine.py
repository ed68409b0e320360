"""CoroutineExecutor: thousands of coroutines at once, on one event loop or on one a core.

                                 ┌─▶ OneLoop: EventLoop, in a thread of this process
    CoroutineExecutor ───────────┤
                                 └─▶ LoopPerProcess: the engine of ProcessExecutor, whose workers
                                     run an event loop each (coroutine_child.py)

Both are in coroutine_loops.py. The thread knows nothing of the executor, only of its `EventLoop`:
an executor that nobody holds any more is collected, and its event loop ends when what it was given
has ended.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from piecework.errors import UsageError
from piecework.executors.coroutine_calls import require_coroutine_function
from piecework.executors.coroutine_loops import LoopPerProcess, OneLoop
from piecework.executors.ordered import checked_buffersize, checked_chunksize

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from piecework.loop import Loop
    from piecework.task import Batch, Report

WORKERS = 1000
_BATCHES_AT_ONCE = 8  # enough to refill smoothly, few enough to cost next to nothing


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

    def hear(self) -> None:
        """Read what worker processes have printed until now."""
        self._on.hear()

    @property
    def busy(self) -> int:
        """Coroutines that have begun and not ended."""
        return self._on.busy

    @property
    def loop(self) -> Loop:
        return self._on.loop

    @property
    def inside(self) -> bool:
        """True in a coroutine that it runs: who waits there for another one waits for ever."""
        return self._on.inside

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


def _checked_limit(seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        raise UsageError(f"task_timeout must be more than 0 seconds, or None, not {seconds!r}")
    return seconds
