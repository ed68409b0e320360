"""InlineExecutor: tasks run in the caller, when it asks for a result. For debugging, and for tasks
so small that any other way costs more.

    Run.__next__ ── run_next() ──▶ a stretch of the batch, here and now ── report ──▶ master

A breakpoint, a debugger and a profiler work as in a plain loop, for there is no other thread. The
control loop is turned by who waits, and never while a task runs: Ctrl-C arrives in the task.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any

from piecework.errors import UsageError
from piecework.executors.overheard import LISTENING, RUNNING, Overheard
from piecework.failures import failure_from, with_output
from piecework.loop import Loop
from piecework.task import Batch, Failure, Report

FLUSH_SECONDS = 0.01
STRIDE_SECONDS = 0.0005  # tasks shorter than this are timed together
STRIDE_MAX = 1024
_ORIGINALS_MAX = 100

_NEVER_STARTED = Failure(
    type="concurrent.futures.CancelledError", message="never started", cause="cancelled"
)


class _Call:
    __slots__ = ("cancelled", "fn", "star")

    def __init__(self, fn: Callable[..., Any], star: bool) -> None:
        self.fn = fn
        self.star = star
        self.cancelled = False


class _Work:
    """A batch of which the tasks from `next` on have not run."""

    __slots__ = ("batch", "call", "next", "report")

    def __init__(self, call: _Call, batch: Batch, report: Callable[[Report], None]) -> None:
        self.call = call
        self.batch = batch
        self.report = report
        self.next = 0


class _Stretch:
    """What has run of a batch and is not reported yet; the seat of the task that runs now."""

    def __init__(self, work: _Work) -> None:
        self.overheard = Overheard(work.batch.indexes, "inline", whole=False)
        self.first = work.next
        self.values: list[Any] = []
        self.failures: dict[int, BaseException] = {}
        self.timings: list[tuple[int, float]] = []

    @property
    def position(self) -> int:
        """Of the task that runs: asked only when it prints."""
        return self.first + len(self.values)

    def run(self, work: _Work) -> None:
        """Run tasks until the batch has ended or 10 ms have passed."""
        stride, total = 1, len(work.batch)
        now = started = time.perf_counter()
        while not work.call.cancelled and self.first + len(self.values) < total:
            before, count = now, len(self.values)
            try:
                self._run_stride(work, stride)
            finally:  # told though a KeyboardInterrupt leaves from here
                now = time.perf_counter()
                if len(self.values) > count:
                    self.timings.append((len(self.values) - count, now - before))
            stride = min(2 * stride, STRIDE_MAX) if now - before < STRIDE_SECONDS else 1
            if now - started > FLUSH_SECONDS:
                break

    def _run_stride(self, work: _Work, most: int) -> None:
        """Run up to `most` tasks, or up to the first failure."""
        fn, append = work.call.fn, self.values.append
        start = self.first + len(self.values)
        items: Iterable[Any] = work.batch.payloads[start : start + most]
        try:
            if work.call.star:
                for item in items:
                    append(fn(*item))
            else:
                for item in items:
                    append(fn(item))
        except BaseException as error:
            if _is_for_the_caller(error):
                raise
            self.failures[self.first + len(self.values)] = error
            append(None)


class InlineExecutor(Executor):
    """Runs tasks in whoever waits for them; `submit` runs the call at once."""

    name = "inline"
    slots = 1

    def __init__(self) -> None:
        self.loop = Loop("piecework-inline")
        self.originals: dict[int, BaseException] = {}
        self._work: deque[_Work] = deque()
        self._running: _Work | None = None
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            if _is_for_the_caller(error):
                raise
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def prepare(
        self, fn: Callable[..., Any], *, star: bool = False, task_timeout: float | None = None
    ) -> _Call:
        if task_timeout is not None:
            raise UsageError(
                "a time limit cannot be kept where tasks run in the caller. "
                'Use on="processes", or on="coroutines" for an async function.'
            )
        if not callable(fn):
            raise UsageError(f"{fn!r} is not callable. Give a function.")
        return _Call(fn, star)

    @property
    def busy(self) -> int:
        """1 while a task runs or waits for its caller."""
        return 1 - self.room()

    def room(self) -> int:
        return 0 if self._work or self._running else 1

    def submit_batch(self, call: _Call, batch: Batch, report: Callable[[Report], None]) -> None:
        """Keep the batch for `run_next`."""
        if self._closed:
            raise RuntimeError("cannot schedule new batches after shutdown")
        self._work.append(_Work(call, batch, report))

    def run_next(self) -> bool:
        """Run up to 10 ms of the batch that is next, or one task; False where there is none."""
        if not self._work:
            return False
        work = self._running = self._work.popleft()
        stretch, cpu = _Stretch(work), time.thread_time()
        here = RUNNING.set(stretch)
        try:
            with LISTENING:
                stretch.run(work)
        finally:
            RUNNING.reset(here)
            self._running = None
            work.next += len(stretch.values)
            if stretch.values:
                self._tell(work, stretch, time.thread_time() - cpu)
            if work.call.cancelled or self._closed:
                self._give_up(work)
            elif work.next < len(work.batch):
                self._work.appendleft(work)
        return True

    @property
    def has_work(self) -> bool:
        return bool(self._work)

    def _tell(self, work: _Work, stretch: _Stretch, cpu: float) -> None:
        failures = {}
        for position, error in stretch.failures.items():
            output = stretch.overheard.take(position)
            failures[position] = with_output(failure_from(error), output)
            if len(self.originals) < _ORIGINALS_MAX:
                self.originals[work.batch.indexes[position]] = error
        report = Report(
            work.batch, stretch.first, stretch.values, failures, stretch.timings, "inline", cpu=cpu
        )
        work.report(report)

    def cancel(self, call: _Call, *, kill: bool = False) -> None:
        """What has not started is cancelled; `kill` adds nothing, for who could is busy."""
        call.cancelled = True
        for work in [work for work in self._work if work.call is call]:
            self._work.remove(work)
            self._give_up(work)

    def _give_up(self, work: _Work) -> None:
        first, count = work.next, len(work.batch) - work.next
        work.next = len(work.batch)
        if count:
            failures = dict.fromkeys(range(first, first + count), _NEVER_STARTED)
            work.report(Report(work.batch, first, [None] * count, failures, [], "inline"))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        while self._work:
            self._give_up(self._work.popleft())
        self.loop.close()


def _is_for_the_caller(error: BaseException) -> bool:
    """Whether it is meant for the caller rather than for the task: Ctrl-C, or a debugger's quit."""
    debugger = sys.modules.get("bdb")  # costs 20 ms to import, and no debugger runs without it
    return isinstance(error, KeyboardInterrupt) or (
        debugger is not None and isinstance(error, debugger.BdbQuit)
    )
