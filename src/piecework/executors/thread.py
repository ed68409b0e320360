"""ThreadExecutor: the standard thread pool, with a lazy `map` and with batches.

    map, submit_batch ──▶ work, open to every thread ◀── pop one task ── helper ── thread
                                                    ◀── pop one task ── helper ── thread

A helper is an ordinary call in the pool that takes tasks one by one from what lies open, so no
thread sits on tasks that it has not started while another one idles. After a while it goes back to
the end of the pool's queue: a long map does not starve a `submit`.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from piecework.errors import UsageError
from piecework.executors import share
from piecework.executors.cores import part
from piecework.executors.ordered import Part, Window, checked_chunksize, ordered_map
from piecework.executors.outbox import OpenBatch, Outbox
from piecework.executors.overheard import LISTENING, RUNNING, Seat

if TYPE_CHECKING:
    from piecework.loop import Loop
    from piecework.task import Batch, Report

WORKERS = 32  # threads are for waiting: their number has nothing to do with that of the cores
_BUFFER_A_THREAD = 64  # inputs drawn ahead by a map that was not told otherwise
_HELP_SECONDS = 0.02  # then whoever submitted meanwhile has its turn
_FLUSH_SECONDS = 0.01  # outcomes are held back this long at most while work goes on
_LONG_SECONDS = 0.002  # a task as long as this is worth a report of its own


class Call:
    """A function that batches are submitted of."""

    __slots__ = ("fn", "open", "star")

    def __init__(self, fn: Callable[..., Any], star: bool) -> None:
        self.fn = fn
        self.star = star
        self.open: set[OpenBatch] = set()


class ThreadExecutor(ThreadPoolExecutor):
    """Runs calls on threads of this process; the whole contract of `ThreadPoolExecutor`.

    `max_workers` is 32 unless given; inside a task it is the share of that task, at least 1.

    `map` draws its inputs lazily, at most `buffersize` ahead of the results that were taken.
    """

    name = "threads"

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self.slots = min(WORKERS, share.threads()) if max_workers is None else max_workers
        each = part(max(1, self.slots))  # ThreadPoolExecutor says what is wrong with 0
        super().__init__(
            self.slots, thread_name_prefix, _initialize, (id(self), each, initializer, initargs)
        )
        self._open: deque[Part | OpenBatch] = deque()
        self._helpers = 0
        self._helping = threading.RLock()  # a finalizer may come in at any point
        self._maps: weakref.WeakSet[Window] = weakref.WeakSet()
        self._outboxes: set[Outbox] = set()
        self._batches = 0  # open ones
        self._closed = False
        self._sweeping = False
        self._loop: Loop | None = None

    # -- the standard contract ----------------------------------------------------------------

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Like `map(fn, *iterables)`, on the threads; results come in input order.

        Work starts now. Inputs are drawn only as results are taken, so an endless iterable is
        fine. TimeoutError where a result is not there `timeout` seconds after this call.
        `chunksize` changes nothing: threads take tasks one at a time.
        """
        checked_chunksize(chunksize)
        return ordered_map(
            fn,
            iterables,
            self._put,
            buffersize=buffersize,
            default_buffersize=_BUFFER_A_THREAD * self.slots,
            timeout=timeout,
            live=self._maps,
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            self._fail_open(None)
        elif not self._closed:
            for window in list(self._maps):
                window.finish()
        with self._helping:
            self._closed = True
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._close_loop()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Waits for all work, as the standard library does; after Ctrl-C only for what runs."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.shutdown(wait=True, cancel_futures=interrupted)

    # -- batches ------------------------------------------------------------------------------

    @property
    def loop(self) -> Loop:
        """The loop that reports may be handled in; made when first asked for."""
        if self._loop is None:
            from piecework.loop import Loop

            with self._helping:
                if self._loop is None:
                    self._loop = Loop("piecework-threads")
                    weakref.finalize(self, self._loop.close)
        return self._loop

    @property
    def busy(self) -> int:
        """Threads that work off a batch."""
        return len(self._outboxes)

    def prepare(
        self, fn: Callable[..., Any], *, star: bool = False, task_timeout: float | None = None
    ) -> Call:
        """UsageError for a time limit, which a thread cannot keep, and for coroutine functions."""
        if task_timeout is not None:
            raise UsageError(
                "a time limit cannot be kept in threads: a thread cannot be ended. "
                "Use processes, or coroutines for an async function, or leave out task_timeout."
            )
        if not callable(fn):
            raise UsageError(f"{fn!r} is not callable. Give a function.")
        return Call(fn, star)

    @property
    def inside(self) -> bool:
        """True in a task that one of these threads runs."""
        return getattr(_thread, "executor", None) == id(self)

    def room(self) -> int:
        return max(0, 2 * self.slots - self._batches)

    def submit_batch(self, call: Call, batch: Batch, report: Callable[[Report], None]) -> None:
        """Open the batch to every thread; `report` is called from the threads."""
        work = OpenBatch(call.fn, call.star, batch, report, self._batch_ended, call.open)
        with self._helping:
            self._batches += 1
            call.open.add(work)
        try:
            self._put(work)
        except BrokenExecutor as error:  # no thread can be started: that is these tasks' failure
            work.fail(error)
        except RuntimeError:
            self._batch_ended(work)
            raise
        self._sweep_later()

    def cancel(self, call: Call, *, kill: bool = False) -> None:
        """What has not started is reported as cancelled; what runs is reported when it ends."""
        with self._helping:
            works = list(call.open)
        for work in works:
            work.give_up()

    def _batch_ended(self, work: OpenBatch) -> None:
        with self._helping:
            self._batches -= 1
            work.call_open.discard(work)
        LISTENING.end()
        self._close_loop()

    def _close_loop(self) -> None:
        if self._closed and not self._batches and self._loop is not None:
            self._loop.close()

    # -- helpers ------------------------------------------------------------------------------

    def _put(self, work: Part | OpenBatch) -> None:
        with self._helping:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            missing = min(self.slots - self._helpers, len(work.claims))
            self._helpers += missing
            self._open.append(work)
        try:
            while missing:
                self._start_helper()
                missing -= 1
        except RuntimeError:
            with self._helping:
                self._helpers -= missing
                if self._helpers:
                    return  # fewer threads than asked for, but the work will be done
                self._open.remove(work)
            raise

    def _start_helper(self) -> None:
        self.submit(self._help).add_done_callback(self._helper_ended)

    def _help(self) -> bool:
        """Work off what lies open; True where it went back to the end of the queue."""
        until = time.perf_counter() + _HELP_SECONDS
        while True:
            with self._helping:
                while self._open and not self._open[0].claims:
                    self._open.popleft()
                if not self._open:
                    self._helpers -= 1
                    return False
                work = self._open[0]
            if self._work_off(work, until):
                del work
                try:
                    self._start_helper()
                except RuntimeError:  # shutting down: nobody else is waiting for a turn
                    until = float("inf")
                else:
                    return True

    def _work_off(self, work: Part | OpenBatch, until: float) -> bool:
        """Take tasks until none is left, or until it is somebody else's turn (True)."""
        outbox = work.outbox(threading.current_thread().name)
        if isinstance(outbox, Outbox):
            self._outboxes.add(outbox)
        seat = Seat(outbox.overheard)
        here = RUNNING.set(seat)
        fn, star, add, claim = work.fn, work.star, outbox.add, work.claims.popleft
        now = flushed = time.perf_counter()
        cpu = time.thread_time()
        try:
            while now < until:
                try:
                    position, payload = claim()
                except IndexError:
                    return False
                seat.position = position
                started, value, failed = now, None, None
                try:
                    value = fn(*payload) if star else fn(payload)
                except BaseException as error:  # SystemExit and the like cost this task only
                    trace = error.__traceback__  # without this frame, which lives on
                    failed = error.with_traceback(trace.tb_next if trace else None)
                    del trace
                del payload
                now = time.perf_counter()
                add(position, value, failed, now - started)
                value = failed = None
                if now - flushed > _FLUSH_SECONDS or now - started > _LONG_SECONDS:
                    flushed, before, cpu = now, cpu, time.thread_time()
                    outbox.flush(cpu - before)
            return True
        finally:
            RUNNING.reset(here)
            outbox.flush(time.thread_time() - cpu)
            if isinstance(outbox, Outbox):
                self._outboxes.discard(outbox)

    def _helper_ended(self, helper: Future[bool]) -> None:
        """A helper that never ran, because the pool is broken or was cancelled, is missed here."""
        if not helper.cancelled() and helper.exception() is None:
            return
        with self._helping:
            self._helpers -= 1
            last = self._helpers <= 0
        if last:
            self._fail_open(None if helper.cancelled() else helper.exception())

    def _fail_open(self, error: BaseException | None) -> None:
        """What has not started will not be: because of `error`, or because it was cancelled."""
        with self._helping:
            works = list(self._open)
        for work in works:
            if error is None:
                work.give_up()
            else:
                work.fail(error)

    # -- what has ended must not wait for what still runs -------------------------------------

    def _sweep_later(self) -> None:
        with self._helping:
            if self._sweeping or not self._batches:
                return
            self._sweeping = True
        self.loop.start()
        self.loop.call_later(_HELP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Hand over outcomes that wait in a thread whose next task takes its time."""
        self._sweeping = False
        for outbox in list(self._outboxes):
            outbox.flush()
        self._sweep_later()


_thread = threading.local()  # `executor`: the id of the one whose thread it is


def _initialize(
    executor: int,
    each: share.Share,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """What a thread begins with: its share of the machine, then what the user wants."""
    _thread.executor = executor
    share.enter(each)
    if initializer is not None:
        initializer(*initargs)
