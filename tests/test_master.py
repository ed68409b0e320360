"""Master: how much is under way at once, and in what order things happen; on a loop by hand."""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from piecework.batching import Sizer
from piecework.feeder import Swift
from piecework.loop import Timer
from piecework.master import WINDOW_MIN, Master
from piecework.queues.memory import MemoryQueue
from piecework.retry import Backoff, Retry
from piecework.run import Halt, RunState
from piecework.task import Batch, Failure, Report


class HandLoop:
    """The control loop's methods; the test says when it turns and what time it is."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.entered = lambda: self.lock
        self.now = 0.0
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.timers: list[Timer] = []

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self._soon.append((fn, args))

    after = call_soon

    def call_later(self, seconds: float, fn: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(self.now + seconds, fn, args)
        self.timers.append(timer)
        return timer

    def turn(self) -> None:
        for timer in [timer for timer in self.timers if timer.when <= self.now]:
            self.timers.remove(timer)
            if timer.fn is not None:
                timer.fn(*timer.args)
        while self._soon:
            fn, args = self._soon.popleft()
            fn(*args)


FAILURE = Failure("ValueError", "no", bases=("ValueError", "Exception"))


class Table:
    """A master between a list of inputs and a test that plays the worker."""

    def __init__(
        self,
        inputs: Any,
        *,
        room: int = 4,
        slots: int = 2,
        fixed: int | None = None,
        buffersize: int | None = None,
        state: RunState | None = None,
    ) -> None:
        self.loop = HandLoop()
        self.tasks: MemoryQueue[Batch] = MemoryQueue(room)
        self.results: MemoryQueue[Report] = MemoryQueue()
        self.state = state or RunState(total=len(inputs))
        self.master = Master(
            self.state,
            self.tasks,
            self.results,
            self.loop,  # type: ignore[arg-type]
            Sizer(slots, fixed=fixed),
            buffersize=buffersize,
            clock=lambda: self.loop.now,
        )
        self.master.source = Swift(inputs)
        self.stops: list[bool] = []
        self.finished = 0
        self.master.on_stop = self.stops.append
        self.master.on_finish = self._count_finish
        self.master.soon()
        self.loop.turn()

    def _count_finish(self) -> None:
        self.finished += 1

    def lease(self) -> Batch:
        lease = self.tasks.lease()
        assert lease is not None
        lease.ack()
        return lease.value

    def report(self, batch: Batch, failures: dict[int, Failure] | None = None) -> None:
        values = [index * 10 for index in batch.indexes]
        timings = [(len(batch), 0.001 * len(batch))]
        self.results.put(Report(batch, 0, values, failures or {}, timings, "hand"))
        self.loop.turn()

    def work(self, batches: int) -> None:
        for _ in range(batches):
            batch = self.lease()
            self.loop.turn()
            self.report(batch)

    def work_all(self) -> None:
        while len(self.tasks):
            self.work(1)


def test_no_more_batches_are_put_than_the_queue_takes() -> None:
    table = Table(range(100), room=3)
    assert len(table.tasks) == 3
    assert table.state.drawn == 3


def test_batches_grow_with_what_comes_back() -> None:
    table = Table(range(100_000))
    table.work(50)
    assert len(table.lease()) >= 4


def test_everything_is_worked_on_and_then_it_is_finished_once() -> None:
    table = Table(range(1000))
    table.master.drop()
    table.work_all()
    assert table.master.finished
    assert table.finished == 1
    assert (table.state.done, table.state.drawn) == (1000, 1000)


def test_what_is_not_read_stops_the_drawing() -> None:
    table = Table(range(100_000))
    table.work_all()
    assert table.state.drawn <= WINDOW_MIN
    assert not table.master.finished
    before = table.state.drawn
    table.master.ordered = True
    while table.master.take() is not None:
        table.loop.turn()
    table.work_all()
    assert table.state.drawn > before


@pytest.mark.parametrize("buffersize", [1, 7, 100])
def test_the_buffersize_bounds_what_is_drawn_and_not_read(buffersize: int) -> None:
    table = Table(range(10_000), buffersize=buffersize)
    table.work_all()
    assert table.state.drawn == buffersize
    piece = table.master.take()
    assert piece is not None
    table.loop.turn()
    table.work_all()
    assert table.state.drawn == buffersize  # what was taken is being read
    table.master.set_awaited(True)
    table.loop.turn()
    table.work_all()
    assert table.state.drawn <= buffersize + len(piece)


def test_bytes_bound_it_too() -> None:
    table = Table([None] * 10_000)
    for _ in range(1000):
        if not len(table.tasks):
            break
        batch = table.lease()
        values = [b""] * len(batch)
        report = Report(batch, 0, values, {}, [(len(batch), 0.001)], "hand", nbytes=50 << 20)
        table.results.put(report)
        table.loop.turn()
    assert table.state.drawn <= 8


def test_a_waiting_consumer_lets_others_run_ahead_of_one_slow_task() -> None:
    table = Table(range(100_000))
    table.master.ordered = True
    slow = table.lease()
    table.loop.turn()
    table.work_all()
    before = table.state.drawn
    table.master.set_awaited(True)
    table.loop.turn()
    table.work_all()
    assert table.state.drawn > 4 * before
    table.report(slow)
    assert table.master.ready()


def test_a_retry_is_handed_out_when_it_is_due_and_alone_after_a_loss() -> None:
    state = RunState(Retry(3, backoff=Backoff(5, jitter=0)), total=2)
    table = Table(range(2), state=state, fixed=2)
    lost = Failure("piecework.WorkerLost", "killed", cause="signal")
    table.report(table.lease(), {0: FAILURE, 1: lost})
    assert len(table.tasks) == 0
    table.loop.now = 4.9
    table.loop.turn()
    assert len(table.tasks) == 0
    table.loop.now = 5.1
    table.loop.turn()
    batches = [table.lease(), table.lease()]
    assert sorted((b.indexes, b.attempt, b.alone) for b in batches) == [
        ((0,), 2, False),
        ((1,), 2, True),
    ]


def test_a_retry_that_is_due_waits_for_room() -> None:
    state = RunState(Retry(3), total=5)
    table = Table(range(5), state=state, fixed=1, room=1)
    first = table.lease()
    table.loop.turn()
    table.report(first, {0: FAILURE})
    assert [timer for timer in table.loop.timers if timer.fn is not None] == []
    assert [table.lease().indexes[0]] == [1]
    table.loop.turn()
    assert [*table.lease().indexes] == [0]


def test_stopping_takes_back_what_nobody_has_leased() -> None:
    table = Table(range(100), room=3)
    running = table.lease()
    table.master.stop("cancelled")
    table.loop.turn()
    assert table.stops == [False]
    assert len(table.tasks) == 0
    assert not table.master.finished
    table.report(running)
    assert table.master.finished
    assert (table.state.done, table.state.cancelled) == (1, table.state.drawn - 1)


def test_stopping_a_second_time_can_kill() -> None:
    table = Table(range(100))
    table.lease()
    table.master.stop("cancelled")
    table.loop.turn()
    table.master.stop("cancelled", kill=True)
    table.loop.turn()
    assert table.stops == [False, True]


def test_a_deadline_stops_with_its_error() -> None:
    table = Table(range(100))
    batches = [table.lease() for _ in range(len(table.tasks))]
    error = TimeoutError("late")
    table.master.stop_after(10, "deadline", error, kill=True)
    table.loop.now = 11
    table.loop.turn()
    assert table.stops == [True]
    for batch in batches:
        table.report(batch)
    assert (table.state.stopped, table.state.error) == ("deadline", error)


def test_a_halted_run_stops_everybody() -> None:
    state = RunState(halt=Halt(count=1), total=100)
    table = Table(range(100), state=state)
    table.report(table.lease(), {0: FAILURE})
    assert table.stops == [False]
    assert state.stopped == "halted"


def test_timers_are_gone_at_the_end() -> None:
    table = Table(range(1))
    table.master.stop_after(1000, "deadline", TimeoutError(), kill=True)
    table.work_all()
    assert table.master.finished
    assert [timer for timer in table.loop.timers if timer.fn is not None] == []


def test_an_audit_that_does_not_close_is_told_as_the_runs_error() -> None:
    table = Table(range(1))
    table.state.failures.indexes = array("Q", [5])
    table.work_all()
    assert table.state.stopped == "broken"
    assert "audit does not close" in str(table.state.error)


def test_whoever_watches_is_told_of_what_settles() -> None:
    table = Table(range(10))
    told: list[int] = []
    table.master.watchers.append(lambda: told.append(table.state.settled))
    table.work_all()
    assert told[0] == 1
    assert told[-1] == 10
