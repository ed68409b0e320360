"""The joblib backend "piecework": batches of joblib on our worker processes.

    Parallel ─submit─▶ items of a BatchedCalls ─▶ Batch ─▶ engine ─▶ reports ─▶ Pending ─▶ callback
    Parallel ─configure─▶ an executor: one that waits in `_idle`, of the same settings, or a new one
    Parallel ─terminate─▶ it waits in `_idle` for the next call

The calls of a batch are tasks of their own: idle workers take those that have not started, and a
death is blamed on one of them. Large arrays travel out of band, a copy a task: joblib's files that
workers map are not needed, and `max_nbytes`, `mmap_mode` and `temp_folder` change nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from joblib import parallel
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    parallel_config,
)

from piecework.executors.cores import cores
from piecework.executors.process import ProcessExecutor
from piecework.failures import rebuild
from piecework.joblib_worker import set_up_worker
from piecework.task import Batch, Report

IDLE_MAX = 2  # executors that wait for the next call; more would hold memory for nothing
IDLE_SECONDS = 300.0  # as long as joblib's own workers wait


class PieceworkBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # untyped
    """See `piecework.register_joblib`."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    # A batch costs us about 0.1 ms, so it may be shorter than for joblib's own: less is lost with
    # a worker, and all end together.
    MIN_IDEAL_BATCH_DURATION = 0.05
    MAX_IDEAL_BATCH_DURATION = 0.5

    _workers: ProcessExecutor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers that means: -1 is one for each core that may be used here, and inside
        a task the task's share of them."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return max(cores() + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        **options: Any,
    ) -> int:
        """Get workers for the calls to come; how many there are."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        given = getattr(self, "backend_kwargs", {})  # from joblib 1.5 on
        options = {**options, **given}
        variables = self._prepare_worker_env(n_jobs=n_jobs)
        self.parallel = parallel
        self._settings = (
            n_jobs,
            given.get("context"),
            sorted(variables.items()),
            options.get("initializer"),
            tuple(options.get("initargs") or ()),
        )
        self._idle_seconds = options.get("idle_worker_timeout") or IDLE_SECONDS
        self._workers = _idle.take(self._settings) or _start(self._settings)
        nested: Any = self.get_nested_backend()
        nested = nested if isinstance(nested, tuple) else (nested, None)
        self._call = self._workers.prepare(_Runner(*nested))
        return n_jobs

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Pending:
        """Run the calls of `func`, a BatchedCalls; `callback` gets what is returned here."""
        assert self._workers is not None
        pending = Pending(self._workers, list(func.items), callback)
        batch = Batch(0, range(len(pending.items)), pending.items)
        self._workers.submit_batch(self._call, batch, pending.report)
        return pending

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Pending) -> list[Any]:
        """The values of a batch, or what the first of its calls that failed has raised."""
        return out.result()

    def terminate(self) -> None:
        """The call is over: its workers wait for the next one."""
        if self._workers is not None:
            _idle.put(self._settings, self._workers, self._idle_seconds)
            self._workers = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what runs, now; with `ensure_ready` there are new workers afterwards."""
        if self._workers is not None:
            self._workers.kill_workers()
            self._workers = None
        if ensure_ready:
            options = self.parallel._backend_kwargs
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **options)


class _Runner:
    """Runs one call of a batch in a worker, with the backend for what it may nest."""

    def __init__(self, backend: Any, n_jobs: int | None) -> None:
        self._made_of = backend, n_jobs
        self._config: object = None

    def __reduce__(self) -> Any:
        return _Runner, self._made_of

    def __call__(self, item: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
        function, args, kwargs = item
        # Nothing else runs in this thread, so what is set stays, unless a call has set another:
        # to set it for each call would take longer than many a call does.
        if getattr(_of_thread, "config", None) is not self._config or self._config is None:
            backend, n_jobs = self._made_of
            self._config = parallel_config(backend=backend, n_jobs=n_jobs).parallel_config
        return function(*args, **kwargs)


_of_thread = getattr(parallel, "_backend", None)  # where joblib keeps what is set


class Pending:
    """The calls of one batch on their way."""

    def __init__(
        self,
        workers: ProcessExecutor,
        items: list[Any],
        callback: Callable[[Pending], object] | None,
    ) -> None:
        self.items = items
        self._after = workers.loop.after
        self._callback = callback
        self._values: list[Any] = [None] * len(items)
        self._left = len(items)
        self._error: tuple[int, Any, str] | None = None

    def report(self, report: Report) -> None:
        """Some of them have ended: called by the engine, which runs no code of users."""
        stop = report.offset + len(report.values)
        self._values[report.offset : stop] = report.values
        for position, failure in report.failures.items():
            if self._error is None or position < self._error[0]:
                self._error = position, failure, report.worker
        self._left -= len(report.values)
        if not self._left and self._callback is not None:
            self._after(self._callback, self)

    def result(self) -> list[Any]:
        """The values; raises what the first that failed has raised."""
        if self._error is None:
            return self._values
        position, failure, worker = self._error
        error = rebuild(failure, worker=worker)
        if failure.lost:
            error.add_note(f"it ran {_written(*self.items[position])}")
        raise error


def _written(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The call as one would write it, in short."""
    import reprlib

    name = getattr(function, "__qualname__", None) or reprlib.repr(function)
    said = [reprlib.repr(arg) for arg in args]
    said += [f"{key}={reprlib.repr(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(said)})"


def _start(settings: tuple[Any, ...]) -> ProcessExecutor:
    n_jobs, context, variables, initializer, initargs = settings
    arguments = (dict(variables), initializer, initargs)
    return ProcessExecutor(n_jobs, context, set_up_worker, arguments)


class Waiting(NamedTuple):
    pid: int
    settings: tuple[Any, ...]
    executor: ProcessExecutor
    until: float


class _Idle:
    """Executors that wait for a call with their settings: workers that have imported
    scikit-learn are worth a second to the next call. They end after a while, and with the
    program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Waiting] = []

    def take(self, settings: tuple[Any, ...]) -> ProcessExecutor | None:
        """The one with these settings that was used last."""
        with self._lock:
            for waiting in reversed(self._waiting):
                same = waiting.pid == os.getpid() and waiting.settings == settings
                if same and not waiting.executor._broken:
                    self._waiting.remove(waiting)
                    executor: ProcessExecutor = waiting.executor
                    return executor
        return None

    def put(self, settings: tuple[Any, ...], executor: ProcessExecutor, seconds: float) -> None:
        """It waits so long at most; where too many do, the oldest one ends."""
        until = time.monotonic() + seconds
        with self._lock:
            self._waiting.append(Waiting(os.getpid(), settings, executor, until))
            surplus = self._waiting[:-IDLE_MAX]
            del self._waiting[:-IDLE_MAX]
        for waiting in surplus:
            _end(waiting)
        executor.loop.call_later(seconds + 0.01, executor.loop.after, self._end_overdue)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            overdue = [waiting for waiting in self._waiting if waiting.until <= now]
            self._waiting = [waiting for waiting in self._waiting if waiting.until > now]
        for waiting in overdue:
            _end(waiting)


def _end(waiting: Waiting) -> None:
    if waiting.pid == os.getpid():  # else it belongs to the process that this one was forked from
        waiting.executor.shutdown(wait=False)


_idle = _Idle()
