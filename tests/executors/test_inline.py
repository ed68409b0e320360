"""InlineExecutor: everything happens in the caller, when it asks."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from piecework.errors import UsageError
from piecework.executors.inline import InlineExecutor
from piecework.task import Batch, Report


def run_all(fn: Any, payloads: list[Any], **how: Any) -> list[Report]:
    executor = InlineExecutor()
    reports: list[Report] = []
    call = executor.prepare(fn, **how)
    executor.submit_batch(call, Batch(1, range(len(payloads)), payloads), reports.append)
    while executor.run_next():
        pass
    executor.shutdown()
    return reports


def picky(x: int) -> int:
    if x % 10 == 3:
        raise ValueError(f"no {x}")
    return x


def test_every_position_is_reported_once() -> None:
    reports = run_all(picky, [*range(100)])
    positions = [r.offset + i for r in reports for i in range(len(r))]
    assert positions == [*range(100)]
    assert sum(len(r.failures) for r in reports) == 10
    assert sum(count for r in reports for count, _ in r.timings) == 100


def test_nothing_runs_before_it_is_asked_for() -> None:
    executor = InlineExecutor()
    ran: list[int] = []
    call = executor.prepare(ran.append)
    executor.submit_batch(call, Batch(1, range(2), [1, 2]), lambda report: None)
    assert ran == []
    assert executor.room() == 0
    assert executor.run_next()
    assert ran == [1, 2]
    assert executor.room() == 1
    executor.shutdown()


def test_tasks_run_in_the_caller() -> None:
    (report,) = run_all(lambda _: threading.get_ident(), [0])
    assert report.values == [threading.get_ident()]


def test_arguments_may_be_spread() -> None:
    (report,) = run_all(lambda a, b: a + b, [(1, 2), (3, 4)], star=True)
    assert report.values == [3, 7]


def test_system_exit_costs_one_task() -> None:
    (report,) = run_all(lambda x: exit(1) if x == 1 else x, [0, 1, 2])
    assert report.values == [0, None, 2]
    assert report.failures[1].type == "SystemExit"


def test_ctrl_c_leaves_and_what_has_run_is_reported() -> None:
    def interrupted(x: int) -> int:
        if x == 2:
            raise KeyboardInterrupt
        return x

    executor = InlineExecutor()
    reports: list[Report] = []
    call = executor.prepare(interrupted)
    executor.submit_batch(call, Batch(1, range(4), [0, 1, 2, 3]), reports.append)
    with pytest.raises(KeyboardInterrupt):
        executor.run_next()
    assert [report.values for report in reports] == [[0, 1]]
    executor.cancel(call)
    assert [f.cause for f in reports[1].failures.values()] == ["cancelled", "cancelled"]
    assert reports[1].offset == 2
    assert not executor.run_next()
    executor.shutdown()


def test_shutdown_inside_a_task_gives_up_the_rest() -> None:
    executor = InlineExecutor()
    reports: list[Report] = []
    call = executor.prepare(lambda x: executor.shutdown() if x == 1 else x)
    executor.submit_batch(call, Batch(1, range(3), [0, 1, 2]), reports.append)
    executor.run_next()
    assert sum(len(report) for report in reports) == 3


def test_submit_runs_at_once() -> None:
    with InlineExecutor() as executor:
        assert executor.submit(pow, 2, 3).result() == 8
        assert isinstance(executor.submit(int, "x").exception(), ValueError)
        assert [*executor.map(abs, [-1, 2])] == [1, 2]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 3)


def test_what_cannot_be_kept_is_refused() -> None:
    executor = InlineExecutor()
    with pytest.raises(UsageError, match="processes"):
        executor.prepare(picky, task_timeout=1)
    with pytest.raises(UsageError, match="3 is not callable"):
        executor.prepare(3)  # type: ignore[arg-type]
    executor.shutdown()
