"""When a run will end: the range is held against recorded runs, whose end is known.

The traces are of eight real runs on threads and processes: (seconds, tasks settled), twice a
second or more. Seconds were recorded to the hundredth.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.pace import SAMPLES_MAX, Pace

TRACES: dict[str, Any] = json.loads(Path(__file__).with_name("pace_traces.json").read_text())


def estimates(trace: dict[str, Any]) -> list[tuple[float, float, float]]:
    """(low, high, what was really left) at each sample after the first tenth."""
    pace = Pace()
    pace.add(0.0, 0)
    found = []
    for now, worked in trace["samples"]:
        pace.add(now, worked)
        low, high = pace.eta(trace["total"] - worked)
        if low is not None and high is not None and now > trace["seconds"] / 10 and low:
            found.append((low, high, trace["seconds"] - now))
    return found


# How often the range must hold, and how wide it may be in the middle (half of the samples are
# narrower). "faster" gets ever faster up to the end, which nobody can know before.
PROMISED = {
    "even": (0.95, 1.6),
    "mixed": (0.95, 2.0),
    "long": (0.95, 3.5),
    "batches": (0.95, 1.6),
    "tiny": (0.7, 1.4),
    "slower": (0.75, 2.8),
    "two_kinds": (0.75, 5.0),
    "faster": (0.2, 2.5),
}


@pytest.mark.parametrize("name", PROMISED)
def test_the_range_holds_for_recorded_runs(name: str) -> None:
    found = estimates(TRACES[name])
    assert len(found) > 15
    held = [low - 0.5 <= really <= high + 0.5 for low, high, really in found]
    widths = sorted(high / low for low, high, _ in found)
    share, width = PROMISED[name]
    assert sum(held) / len(held) >= share
    assert widths[len(widths) // 2] <= width


def test_every_trace_is_held_against_the_range() -> None:
    assert TRACES.keys() == PROMISED.keys()


def test_nothing_is_said_before_three_tasks_are_done() -> None:
    pace = Pace()
    for second in range(3):
        pace.add(second, second)
        assert pace.eta(100) == (None, None)
    pace.add(3, 3)
    assert pace.eta(100) != (None, None)


def test_nothing_is_said_where_nobody_knows_how_many_come() -> None:
    pace = Pace()
    for second in range(10):
        pace.add(second, 10 * second)
    assert pace.eta(None) == (None, None)
    assert pace.eta(0) == (0.0, 0.0)


def test_few_tasks_give_a_wide_range_and_many_a_narrow_one() -> None:
    few, many = Pace(), Pace()
    for second in range(11):
        few.add(second, second)
        many.add(second, 1000 * second)
    low, high = few.eta(100)
    assert low is not None
    assert high is not None
    assert high / low > 1.5
    low, high = many.eta(100_000)
    assert low is not None
    assert high is not None
    assert high / low < 1.1
    assert low < 100 < high


def test_the_rate_is_of_the_last_seconds_where_enough_is_done_in_them() -> None:
    pace = Pace()
    for second in range(60):
        pace.add(second, 100 * second)
    for second in range(60, 70):
        pace.add(second, 6000 + 10 * (second - 60))
    assert pace.rate == pytest.approx(10, rel=0.1)


def test_the_rate_of_long_tasks_is_taken_over_a_longer_time() -> None:
    pace = Pace()
    for second in range(600):
        pace.add(second, second // 60)
    assert pace.rate == pytest.approx(1 / 60, rel=0.2)


def test_a_run_that_has_come_to_a_stop_takes_ever_longer() -> None:
    pace, highs = Pace(), []
    for second in range(10):
        pace.add(second, 100 * second)
    for second in range(10, 100, 10):
        pace.add(second, 900)
        highs.append(pace.eta(100)[1] or 0.0)
    assert highs == sorted(highs)
    assert highs[-1] > 9


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 1000)), max_size=400))
def test_any_course_gives_a_range_in_order_and_bounded_memory(
    steps: list[tuple[float, int]],
) -> None:
    pace, now, worked = Pace(), 0.0, 0
    for seconds, tasks in steps:
        now, worked = now + seconds, worked + tasks
        pace.add(now, worked)
        low, high = pace.eta(10)
        assert (low is None) == (high is None)
        if low is not None and high is not None:
            assert 0 < low <= high < math.inf
        assert pace.rate >= 0
    assert len(pace._samples) <= SAMPLES_MAX
