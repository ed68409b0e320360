"""What a run tells: percentiles, pace, groups of failures, and the closing lines."""

from __future__ import annotations

from typing import Any

import pytest

from piecework.groups import GROUPS_MAX, KEPT_MAX, FailureGroup, Failures
from piecework.summary import Summary, Timings
from piecework.task import Failure, Result


def failed(index: int, message: str = "no", type: str = "ValueError", where: str = "") -> Result:
    return Result(index, f"input {index}", False, None, Failure(type, message, where=where))


def summary(**changes: Any) -> Summary:
    fields: dict[str, Any] = {
        "name": None, "on": "2 processes", "why": "", "inputs": 60, "total": 60, "done": 59,
        "failed": 1, "quarantined": 0, "cancelled": 0, "executions": 60, "retries": 0,
        "repeats": 0, "losses": 0, "duplicates": 0, "seconds": 2.0, "rate": 30.0,
        "percentiles": {"p50": 0.001, "p90": 0.002, "p99": 0.1, "max": 0.2}, "groups": (),
    }  # fmt: skip
    return Summary(**{**fields, **changes})


def test_percentiles_are_right_to_a_tenth() -> None:
    timings = Timings()
    for milliseconds in range(1, 1001):
        timings.add([(1, milliseconds / 1000)])
    assert timings.percentile(0.5) == pytest.approx(0.5, rel=0.1)
    assert timings.percentile(0.9) == pytest.approx(0.9, rel=0.1)
    assert timings.percentiles()["max"] == 1.0


def test_tasks_timed_together_count_with_their_mean() -> None:
    timings = Timings()
    timings.add([(1000, 1.0), (1, 5.0)])
    assert timings.percentile(0.5) == pytest.approx(0.001, rel=0.1)
    assert (timings.tasks, timings.seconds, timings.longest) == (1001, 6.0, 5.0)


def test_percentiles_of_nothing_are_zero() -> None:
    assert Timings().percentiles() == {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}


def test_durations_too_small_to_measure_are_counted() -> None:
    timings = Timings()
    timings.add([(10, 0.0)])
    assert timings.tasks == 10


def test_messages_that_differ_in_numbers_are_one_group() -> None:
    failures = Failures()
    for index in range(5):
        failures.add(failed(index, f"no {index} at 0x{index:x}"))
    failures.add(failed(9, "other"))
    first, second = failures.groups()
    assert first[:3] == (5, "ValueError", "no 0 at 0x0")
    assert first.examples == ("input 0", "input 1", "input 2")
    assert second.count == 1
    assert list(failures.indexes) == [0, 1, 2, 3, 4, 9]


def test_equal_messages_from_other_places_are_other_groups() -> None:
    failures = Failures()
    failures.add(failed(0, where="a.py:1 in f"))
    failures.add(failed(1, where="b.py:1 in f"))
    assert len(failures.groups()) == 2


def test_a_million_kinds_of_failures_take_bounded_memory() -> None:
    failures = Failures()
    for index in range(3000):
        failures.add(failed(index, "".join(chr(97 + int(d)) for d in str(index))))
    assert len(failures.groups()) == GROUPS_MAX + 1
    assert failures.groups()[0].message == "(other messages)"
    assert len(list(failures)) == KEPT_MAX
    assert len(failures) == 3000
    assert sum(len(group.examples) for group in failures.groups()) <= 3 * KEPT_MAX


def test_the_closing_lines_end_with_the_audit() -> None:
    group = FailureGroup(1, "ValueError", "no 13", "job.py:3 in f", (13,))
    assert str(summary(name="squares", groups=(group,))).split("\n") == [
        "squares: 59 done in 2 s (30/s) on 2 processes; a task took 1 ms, the longest 200 ms",
        "  1 × ValueError: no 13  at job.py:3 in f",
        "      e.g. 13",
        "60 inputs = 59 done + 1 failed + 0 quarantined + 0 cancelled",
    ]


def test_the_closing_lines_tell_what_was_done_again_and_why_it_stopped() -> None:
    text = str(summary(retries=3, losses=1, repeats=20, stopped="halted", error=OSError("enough")))
    assert "3 tried again, 1 lost with their worker, 20 run again because their worker died" in text
    assert "stopped: enough" in text


def test_an_example_whose_repr_raises_does_not_spoil_the_account() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise OSError

    group = FailureGroup(1, "ValueError", "no", "", (Hostile(),))
    assert "Hostile" in str(summary(groups=(group,)))


def test_many_groups_are_cut_and_counted() -> None:
    groups = tuple(FailureGroup(2, "ValueError", f"m{i}", "", ()) for i in range(30))
    assert "20 more in 10 other groups" in str(summary(groups=groups))


def test_a_summary_is_ok_when_all_is_done() -> None:
    assert summary(done=60, failed=0).ok
    assert not summary().ok
    assert not summary(done=60, failed=0, stopped="cancelled").ok
