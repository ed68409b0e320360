"""The batch contract (executors/base.py), for every executor and every start method."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from piecework.errors import UsageError
from piecework.task import Batch, Failure, Report
from tests.executors.conftest import Mode
from tests.executors.gate import PATIENCE, Gate

_ids = itertools.count(1)


class Reports:
    """Collects reports and checks that no position is told of twice."""

    def __init__(self, count: int) -> None:
        self.values: dict[int, Any] = {}
        self.failures: dict[int, Failure] = {}
        self.all: list[Report] = []
        self._left = count
        self._changed = threading.Condition()

    def __call__(self, report: Report) -> None:
        with self._changed:
            self.all.append(report)
            assert len(report) > 0
            assert sum(count for count, _ in report.timings) == len(report)
            for position, value in enumerate(report.values, report.offset):
                index = report.batch.indexes[position]
                assert index not in self.values, "reported twice"
                self.values[index] = value
            for position, failure in report.failures.items():
                self.failures[report.batch.indexes[position]] = failure
                assert report.values[position - report.offset] is None
            self._left -= len(report)
            self._changed.notify_all()

    def until_left(self, count: int = 0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._left <= count, PATIENCE), self._left
            assert self._left == count


def _batch(payloads: Sequence[Any], first: int = 0, **options: Any) -> Batch:
    payloads = list(payloads)
    return Batch(next(_ids), range(first, first + len(payloads)), payloads, **options)


@pytest.fixture
def executor(mode: Mode) -> Iterator[Any]:
    with mode.make() as made:
        yield made


def test_every_position_is_reported_once(mode: Mode, executor: Any) -> None:
    reports = Reports(500)
    call = executor.prepare(mode.tasks.square)
    for first in range(0, 500, 50):
        executor.submit_batch(call, _batch(range(first, first + 50), first), reports)
    reports.until_left()
    assert reports.values == {n: n * n for n in range(500)}
    assert reports.failures == {}
    assert all(report.worker for report in reports.all)


def test_a_batch_of_one_and_one_of_thousands(mode: Mode, executor: Any) -> None:
    reports = Reports(5001)
    call = executor.prepare(mode.tasks.square)
    executor.submit_batch(call, _batch([7], 5000), reports)
    executor.submit_batch(call, _batch(range(5000)), reports)
    reports.until_left()
    assert reports.values == {**{n: n * n for n in range(5000)}, 5000: 49}


def test_payloads_may_be_argument_lists(mode: Mode, executor: Any) -> None:
    reports = Reports(3)
    call = executor.prepare(mode.tasks.add, star=True)
    executor.submit_batch(call, _batch([(1, 2), (3, 4), (5,)]), reports)
    reports.until_left()
    assert reports.values == {0: 3, 1: 7, 2: 5}


def test_an_exception_is_a_failure_in_a_report(mode: Mode, executor: Any) -> None:
    reports = Reports(4)
    executor.submit_batch(executor.prepare(mode.tasks.invert), _batch([1, 2, 0, 4]), reports)
    reports.until_left()
    assert reports.values == {0: 1, 1: 0.5, 2: None, 3: 0.25}
    (failure,) = reports.failures.values()
    assert list(reports.failures) == [2]
    assert failure.type == "ZeroDivisionError"
    assert failure.cause == "exception"
    assert "in invert" in failure.traceback
    assert "tasks.py" in failure.where


def test_leaving_is_a_failure_of_that_task(mode: Mode, executor: Any) -> None:
    reports = Reports(3)
    call = executor.prepare(mode.tasks.leave, star=True)
    executor.submit_batch(call, _batch([(), (), ()]), reports)
    reports.until_left()
    assert {failure.type for failure in reports.failures.values()} == {"SystemExit"}
    assert sorted(reports.failures) == [0, 1, 2]


def test_what_has_ended_does_not_wait_for_what_still_runs(
    mode: Mode, executor: Any, gate: Gate
) -> None:
    reports = Reports(10)
    call = executor.prepare(mode.tasks.hold_at_zero, star=True)
    payloads = [(gate.path, n) for n in (1, 2, 3, 4, 0, 5, 6, 7, 8, 9)]
    executor.submit_batch(call, _batch(payloads), reports)
    gate.arrived(1)
    reports.until_left(1)
    gate.open()
    reports.until_left()
    assert sorted(reports.values.values()) == list(range(10))


def test_a_slot_does_not_sit_on_what_others_could_run(mode: Mode, gate: Gate) -> None:
    with mode.make(2) as executor:
        reports = Reports(41)
        call = executor.prepare(mode.tasks.hold_at_zero, star=True)
        executor.submit_batch(call, _batch([(gate.path, n) for n in range(41)]), reports)
        gate.arrived(1)
        reports.until_left(1)
        gate.open()
        reports.until_left()


def test_several_calls_share_the_executor(mode: Mode, executor: Any) -> None:
    squares, sums = Reports(100), Reports(100)
    square, add = executor.prepare(mode.tasks.square), executor.prepare(mode.tasks.add, star=True)
    for first in range(0, 100, 10):
        numbers = range(first, first + 10)
        executor.submit_batch(square, _batch(numbers, first), squares)
        executor.submit_batch(add, _batch([(n, 1) for n in numbers], first), sums)
    squares.until_left()
    sums.until_left()
    assert squares.values == {n: n * n for n in range(100)}
    assert sums.values == {n: n + 1 for n in range(100)}


def test_cancelling_gives_up_what_has_not_started(mode: Mode, gate: Gate) -> None:
    with mode.make(1) as executor:
        reports = Reports(400)
        call = executor.prepare(mode.tasks.hold_at_zero, star=True)
        executor.submit_batch(call, _batch([(gate.path, n) for n in range(200)]), reports)
        payloads = [(gate.path, n) for n in range(200, 400)]
        executor.submit_batch(call, _batch(payloads, 200), reports)
        gate.arrived(1)
        executor.cancel(call)
        gate.open()
        reports.until_left()
        assert reports.values[0] == 0
        assert 0 not in reports.failures
        assert {failure.cause for failure in reports.failures.values()} <= {"cancelled"}
        square = Reports(3)
        executor.submit_batch(executor.prepare(mode.tasks.square), _batch(range(3)), square)
        square.until_left()
        assert square.values == {0: 0, 1: 1, 2: 4}


def test_killing_ends_what_runs_where_that_is_possible(mode: Mode, gate: Gate) -> None:
    with mode.make(1) as executor:
        reports = Reports(20)
        call = executor.prepare(mode.tasks.hold_at_zero, star=True)
        executor.submit_batch(call, _batch([(gate.path, n) for n in range(20)]), reports)
        gate.arrived(1)
        executor.cancel(call, kill=True)
        if executor.name == "threads":  # a thread cannot be ended
            gate.open()
        reports.until_left()
        assert (0 in reports.failures) == (executor.name != "threads")
        assert {failure.cause for failure in reports.failures.values()} <= {"cancelled"}


def test_shutting_down_gives_up_what_has_not_started(mode: Mode, gate: Gate) -> None:
    executor = mode.make(1)
    reports = Reports(300)
    call = executor.prepare(mode.tasks.hold_at_zero, star=True)
    for first in range(0, 300, 100):
        payloads = [(gate.path, n) for n in range(first, first + 100)]
        executor.submit_batch(call, _batch(payloads, first), reports)
    gate.arrived(1)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown()
    reports.until_left()
    assert {failure.cause for failure in reports.failures.values()} <= {"cancelled"}
    with pytest.raises(RuntimeError):
        executor.submit_batch(call, _batch([1]), reports)


def test_a_broken_executor_reports_every_position(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    with mode.make(2, initializer=mode.tasks.fail_to_initialize) as executor:
        call = executor.prepare(mode.tasks.square)
        reports = Reports(20)
        executor.submit_batch(call, _batch(range(10)), reports)
        reports.until_left(10)
        executor.submit_batch(call, _batch(range(10, 20), 10), reports)
        reports.until_left()
        assert len(reports.failures) == 20


def test_room_is_bounded_and_comes_back(mode: Mode, gate: Gate) -> None:
    with mode.make(2) as executor:
        call = executor.prepare(mode.tasks.hold, star=True)
        count = 0
        reports = Reports(0)
        while executor.room() > 0:
            executor.submit_batch(call, _batch([(gate.path, count)], count), reports)
            count += 1
            assert count <= 64
        assert count >= 2
        gate.open()
        reports.until_left(-count)
        assert executor.room() > 0


def test_a_time_limit_is_kept_or_refused(mode: Mode, executor: Any, gate: Gate) -> None:
    if executor.name == "threads":
        with pytest.raises(UsageError, match="Use processes"):
            executor.prepare(mode.tasks.square, task_timeout=1)
        return
    reports = Reports(10)
    call = executor.prepare(mode.tasks.hold_at_zero, star=True, task_timeout=0.5)
    executor.submit_batch(call, _batch([(gate.path, n) for n in range(10)]), reports)
    reports.until_left()
    assert list(reports.failures) == [0]
    assert reports.failures[0].cause == "timeout"
    assert reports.values == {0: None, **{n: n for n in range(1, 10)}}


def test_what_is_not_callable_is_refused_before_anything_runs(mode: Mode, executor: Any) -> None:
    with pytest.raises(UsageError):
        executor.prepare(3)


def test_batches_may_be_submitted_from_many_threads(mode: Mode, executor: Any) -> None:
    reports = Reports(800)
    call = executor.prepare(mode.tasks.square)

    def work(number: int) -> None:
        for first in range(number * 100, number * 100 + 100, 10):
            executor.submit_batch(call, _batch(range(first, first + 10), first), reports)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    reports.until_left()
    assert reports.values == {n: n * n for n in range(800)}
