"""Worker: leases, submits, reports, acks; with an executor that does what the test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from piecework.loop import Loop
from piecework.queues.memory import MemoryQueue
from piecework.task import Batch, Report
from piecework.worker import Worker


class Hand:
    """An executor whose batches are reported by hand."""

    name = "by hand"

    def __init__(self, slots: int = 2) -> None:
        self.slots = slots
        self.loop = Loop("test")
        self.batches: list[tuple[Batch, Callable[[Report], None]]] = []
        self.broken: Exception | None = None

    def prepare(
        self, fn: Callable[..., Any], *, star: bool = False, task_timeout: float | None = None
    ) -> Any:
        return fn

    def room(self) -> int:
        return self.slots - len(self.batches)

    def submit_batch(self, call: Any, batch: Batch, report: Callable[[Report], None]) -> None:
        if self.broken is not None:
            raise self.broken
        self.batches.append((batch, report))

    def report(self, number: int, count: int | None = None, offset: int = 0) -> None:
        batch, report = self.batches[number]
        count = len(batch) if count is None else count
        report(Report(batch, offset, [None] * count, {}, [(count, 0.1)], "hand"))
        if offset + count == len(batch):
            del self.batches[number]

    def cancel(self, call: Any, *, kill: bool = False) -> None: ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.loop.close()


class Bench:
    def __init__(self, slots: int = 2) -> None:
        self.executor = Hand(slots)
        self.tasks: MemoryQueue[Batch] = MemoryQueue()
        self.results: MemoryQueue[Report] = MemoryQueue()
        self.errors: list[BaseException] = []
        loop = self.executor.loop
        self.worker = Worker(
            self.tasks, self.results, self.executor, "call", loop, self.errors.append
        )

    def put(self, *sizes: int) -> None:
        for number, size in enumerate(sizes):
            self.tasks.put(Batch(number, range(size), [None] * size))

    def turn(self) -> None:
        self.executor.loop.drive(lambda: not self.executor.loop._soon, 5)


def test_it_leases_no_more_than_the_executor_has_room_for() -> None:
    bench = Bench(slots=2)
    bench.put(1, 1, 1)
    assert len(bench.executor.batches) == 2
    assert len(bench.tasks) == 1


def test_a_finished_batch_makes_room_for_the_next() -> None:
    bench = Bench(slots=1)
    bench.put(3, 3)
    bench.executor.report(0)
    bench.turn()
    assert [batch.id for batch, _ in bench.executor.batches] == [1]
    assert len(bench.results) == 1


def test_a_batch_is_acked_when_all_of_it_has_been_reported() -> None:
    bench = Bench()
    acked: list[int] = []
    lease_of = bench.tasks._end
    bench.tasks._end = lambda lease: acked.append(lease.value.id) or lease_of(lease)  # type: ignore[method-assign]
    bench.put(5)
    bench.executor.report(0, count=2)
    assert acked == []
    bench.executor.report(0, count=3, offset=2)
    assert acked == [0]
    assert len(bench.results) == 2


def test_reports_are_stored_before_the_batch_is_acked() -> None:
    bench = Bench()
    stored_at_ack: list[int] = []
    bench.tasks._end = lambda lease: stored_at_ack.append(len(bench.results))  # type: ignore[method-assign]
    bench.put(2)
    bench.executor.report(0)
    assert stored_at_ack == [1]


def test_a_worker_that_finishes_leases_nothing_new() -> None:
    bench = Bench(slots=1)
    bench.put(1, 1)
    bench.worker.finish()
    bench.executor.report(0)
    bench.turn()
    assert bench.executor.batches == []
    assert len(bench.tasks) == 1


def test_a_limit_holds_below_the_room_of_the_executor() -> None:
    bench = Bench(slots=5)
    bench.worker.limit = 1
    bench.put(1, 1)
    assert len(bench.executor.batches) == 1


def test_an_executor_that_refuses_gets_no_more_and_the_batch_goes_back() -> None:
    bench = Bench()
    bench.executor.broken = RuntimeError("shut down")
    bench.put(1, 1)
    assert [str(error) for error in bench.errors] == ["shut down"]
    assert len(bench.tasks) == 2


def test_a_worker_looks_again_when_somebody_else_filled_the_executor() -> None:
    bench = Bench(slots=1)
    taken = (Batch(9, range(1), [None]), lambda report: None)
    bench.executor.batches.append(taken)
    bench.put(1)
    assert bench.executor.batches == [taken]
    bench.executor.batches.clear()
    bench.executor.loop.drive(lambda: bool(bench.executor.batches), 5)
    assert [batch.id for batch, _ in bench.executor.batches] == [0]
