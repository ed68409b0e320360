"""The inner loop: one slot runs the tasks of a batch, one after the other.

Thread slots, process slots and the inline executor share it. It is the hot path: a no-op task
costs about 0.1 µs here, so nothing in it is done per task that can be done per stride.

    claim a stride ─▶ was it given to somebody else? ─▶ run it ─▶ 10 ms since the last flush? flush

`words` are numbers that the other side reads while this slot runs (shared memory for a process,
a list for a thread). Every task has a sequence number, unique in its slot and growing.

    CURRENT     the task that runs now; 0 where none does       written by the slot
    CLAIMED     end of the claimed stride: all below is ours    written by the slot; lowered
                                                                only for a task that takes long
    PHASE       what a death now would mean                     written by the slot
    CHECKED     below it, what was taken back is known here     written by the slot
    FLUSHING    1 while finished results are sent for it        written by the listener
    LOADED      the function that is being loaded; 0 for none   written by the slot
    SKIP_FROM   the range that was taken back: do not start     written by the other side
    SKIP_TO

Taking tasks back without a lock: the slot writes CLAIMED and then reads the range; the other side
writes the range, waits (far longer than a processor holds back a store), and then reads CLAIMED.
Whatever the order, a task is either seen as claimed or seen as taken back; where both are seen the
slot says what it skipped.
"""

from __future__ import annotations

import time
from _thread import allocate_lock  # `threading` takes 2 ms, before the first task

from piecework.failures import failure_from
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class Words(Protocol):
        """A memoryview of shared memory, or a list."""

        def __getitem__(self, place: int, /) -> int: ...
        def __setitem__(self, place: int, number: int, /) -> None: ...

    Flush = Callable[[int, list[Any], dict[int, Failure], list[tuple[int, float]], float], None]
    """flush(first, values, failures by sequence number, timings, cpu seconds)"""

CURRENT, CLAIMED, PHASE, SKIP_FROM, SKIP_TO, CHECKED, FLUSHING, LOADED = range(8)
WORDS = 8  # one cache line a slot

IDLE, DECODING, RUNNING, SENDING, LOADING = range(5)

FLUSH_SECONDS = 0.01
STRIDE_SECONDS = 0.001
STRIDE_MAX = 4096


class Slot:
    """Runs tasks; `flush` gets what has finished, in order, and `skip` what was taken back."""

    def __init__(
        self,
        words: Words,
        flush: Flush,
        skip: Callable[[int, int], None],
        failed: Callable[[int], object] | None = None,
    ) -> None:
        self.words = words
        self._failed = failed  # told of each task that fails, before anything else runs
        self._flush = flush
        self._skip = skip
        self._first = 0  # sequence number of the first value that is not flushed
        self._values: list[Any] = []
        self._failures: dict[int, Failure] = {}
        self._timings: list[tuple[int, float]] = []
        self._timed = 0  # values that `_timings` speaks of
        self._flushed_at = 0.0
        self._cpu = 0.0
        self._lock = allocate_lock()  # flush_finished comes from another thread
        self._stride = 1
        self._stride_items: list[Any] = []
        self._stride_first = 0

    def run(
        self, fn: Callable[..., Any], items: Sequence[Any], first: int, *, star: bool = False
    ) -> None:
        """Run `fn` over the items, numbered from `first` on; returns when all is flushed."""
        words = self.words
        done, total = 0, len(items)
        self._first = first
        self._flushed_at = time.perf_counter()
        self._cpu = time.thread_time()
        words[PHASE] = RUNNING
        while done < total:
            stop = self._claim(items, first, done)
            if stop == done:
                end = min(words[SKIP_TO] - first, total)
                self.flush()
                self._skip(first + done, end - done)
                self._first = first + end
                done = end
                words[CHECKED] = first + done
                continue
            done = self._run_stride(fn, self._stride_items, first + done, star) - first
        self.flush()
        words[CURRENT] = 0
        words[PHASE] = IDLE

    def _claim(self, items: Sequence[Any], first: int, done: int) -> int:
        """Claim the next stride: its end; `done` where what follows was taken back."""
        words = self.words
        stop = min(done + self._stride, len(items))
        with self._lock:
            words[CLAIMED] = first + stop
            if words[SKIP_FROM] < first + stop and words[SKIP_TO] > first + done:
                stop = max(words[SKIP_FROM] - first, done)
                words[CLAIMED] = first + stop
            if stop > done:
                words[CHECKED] = first + stop
            self._stride_items = list(items[done:stop])
            self._stride_first = first + done
        return stop

    def shorten(self) -> None:
        """Claim no more than what runs and the one after it; from another thread.

        The rest of the stride may then be taken back while a long task runs. The loop over the
        stride ends where its list does, and what is left is claimed anew.
        """
        words = self.words
        with self._lock:
            current = words[CURRENT]
            keep = current + 2 - self._stride_first  # the next one may have been fetched already
            if 2 <= keep < len(self._stride_items):
                del self._stride_items[keep:]
                if words[CURRENT] == current:  # else it goes on, and no claim is lowered
                    words[CLAIMED] = current + 2

    def _run_stride(
        self, fn: Callable[..., Any], items: Sequence[Any], first: int, star: bool
    ) -> int:
        """Run a stride, up to its end or its first failure; returns the next number."""
        words, append = self.words, self._values.append
        number = first
        started = time.perf_counter()
        try:
            if star:
                for item in items:
                    words[CURRENT] = number
                    append(fn(*item))
                    number += 1
            else:
                for item in items:
                    words[CURRENT] = number
                    append(fn(item))
                    number += 1
        except BaseException as error:  # SystemExit and the like cost this task only
            self._failures[number] = failure_from(error)
            if self._failed is not None:
                self._failed(number)
            append(None)
            number += 1
        item = items = ()
        self._stride_items = []
        now = time.perf_counter()
        self._note(number - first, now - started)
        if now - self._flushed_at > FLUSH_SECONDS:
            self.flush()
        return number

    def _note(self, count: int, seconds: float) -> None:
        with self._lock:
            fresh = len(self._values) - self._timed
            if fresh:
                self._timings.append((fresh, seconds))
                self._timed += fresh
        per_stride = STRIDE_SECONDS * count / max(seconds, 1e-9)
        self._stride = max(1, min(int(per_stride), self._stride * 4, STRIDE_MAX))

    def flush(self) -> None:
        """Hand over what has finished; the slot calls it, between tasks."""
        words = self.words
        words[PHASE] = SENDING
        cpu = time.thread_time()
        with self._lock:
            self._hand_over(cpu - self._cpu)
        self._cpu = cpu
        self._flushed_at = time.perf_counter()
        words[PHASE] = RUNNING

    def flush_finished(self) -> None:
        """Hand over what has finished although a task still runs; from another thread.

        A long task must not hold back the short ones that ended before it in the same stride.
        """
        with self._lock:
            fresh = len(self._values) - self._timed
            if fresh:  # their stride is not over: the time is told with the rest of it
                self._timings.append((fresh, 0.0))
                self._timed += fresh
            self.words[FLUSHING] = 1
            try:
                self._hand_over(0.0)
            finally:
                self.words[FLUSHING] = 0

    def _hand_over(self, cpu: float) -> None:
        count = self._timed
        if not count:
            return
        first, self._first = self._first, self._first + count
        values = self._values[:count]
        del self._values[:count]
        timings, self._timings, self._timed = self._timings, [], 0
        failures: dict[int, Failure] = {}
        for number in [number for number in list(self._failures) if number < first + count]:
            failures[number] = self._failures.pop(number)
        self._flush(first, values, failures, timings, cpu)
