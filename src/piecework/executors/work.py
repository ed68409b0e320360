"""What a process executor has to do: calls, the work they make, and where it is now.

Work (one batch, or one submitted call) ── cut into ──▶ Stretch ── sent as ──▶ Sent
"""

from __future__ import annotations

import itertools

from piecework.task import Batch, Failure, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from piecework.executors.future import TaskFuture

Timings = list[tuple[int, float]]

_ids = itertools.count(1)


class Call:
    """A function prepared for worker processes: pickled once, sent to each worker once.

    `seconds` is the mean duration of its tasks as learnt so far; None while nothing is known.
    """

    __slots__ = (
        "__weakref__",
        "cancelled",
        "chunk",
        "data",
        "id",
        "label",
        "limit",
        "memory",
        "seconds",
        "star",
    )

    def __init__(
        self,
        data: bytes,
        *,
        star: bool = False,
        limit: float | None = None,
        memory: int | None = None,
    ) -> None:
        self.id = next(_ids)
        self.data = data
        self.star = star
        self.limit = limit  # seconds
        self.memory = memory  # bytes
        self.seconds: float | None = None
        self.cancelled = False
        self.chunk = 1  # tasks that count as one towards max_tasks_per_child
        self.label: str | None = None  # of the run, to mark what its tasks print

    def learn(self, count: int, seconds: float) -> None:
        mean = seconds / count
        if self.seconds is None:
            self.seconds = mean
        else:  # half of it from the newest few batches: durations drift along an input
            self.seconds += 0.3 * (mean - self.seconds)


class BatchWork:
    """A batch of the map: told of in stretches, every position exactly once."""

    __slots__ = ("_report", "batch", "call", "repeats")

    def __init__(self, call: Call, batch: Batch, report: Callable[[Report], None]) -> None:
        self.call = call
        self.batch = batch
        self.repeats = 0
        self._report = report

    def deliver(
        self,
        start: int,
        values: list[Any],
        failures: dict[int, Failure],
        timings: Timings,
        worker: str,
        nbytes: int = 0,
        cpu: float = 0.0,
    ) -> None:
        repeats, self.repeats = self.repeats, 0
        self._report(
            Report(self.batch, start, values, failures, timings, worker, repeats, nbytes, cpu)
        )


class SingleWork:
    """One submitted call: its outcome goes to a future."""

    __slots__ = ("call", "data", "future", "repeats", "running")

    def __init__(self, call: Call, data: bytes, future: TaskFuture) -> None:
        self.call = call
        self.data = data
        self.future = future
        self.repeats = 0
        self.running = False

    def may_run(self) -> bool:
        """False where it was cancelled; from now on it cannot be. It may run more than once."""
        if not self.running:
            self.running = self.future.set_running_or_notify_cancel()
        return self.running


Work = BatchWork | SingleWork


class Stretch:
    """Positions `start` to `stop` of a work, waiting to be sent."""

    __slots__ = ("start", "stop", "work")

    def __init__(self, work: Work, start: int, stop: int) -> None:
        self.work = work
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def singles(self) -> Iterator[Stretch]:
        """Its positions one by one."""
        return (Stretch(self.work, at, at + 1) for at in range(self.start, self.stop))


class Sent:
    """Positions from `start` on, at a slot under the numbers from `first` on, not yet reported."""

    __slots__ = ("count", "first", "start", "work")

    def __init__(self, first: int, work: Work, start: int, count: int) -> None:
        self.first = first
        self.work = work
        self.start = start
        self.count = count

    @property
    def end(self) -> int:
        return self.first + self.count

    def shift(self, count: int) -> None:
        """Forget the first `count`: they were reported."""
        self.first += count
        self.start += count
        self.count -= count

    def stretch(self, low: int, high: int) -> Stretch:
        """The part numbered `low` to `high` as work to be sent again."""
        return Stretch(self.work, self.start + low - self.first, self.start + high - self.first)
