"""Sizer: batches adapt to measured durations, bytes and the end of the input."""

from __future__ import annotations

import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.batching import BATCH_SECONDS, BATCH_TASKS, Sizer, size_of


def learned(task_seconds: float, *, slots: int = 2, nbytes: int = 0) -> Sizer:
    sizer = Sizer(slots)
    for _ in range(20):
        size = sizer.next()
        sizer.record(size, size * task_seconds, size * nbytes)
    return sizer


def test_while_nothing_is_known_a_batch_is_one_task() -> None:
    assert Sizer(2).next() == 1
    assert Sizer(2).next(left=1_000_000) == 1


@pytest.mark.parametrize("task_seconds", [1e-6, 1e-5, 1e-4, 1e-3])
def test_a_batch_is_worth_four_milliseconds(task_seconds: float) -> None:
    size = learned(task_seconds).next()
    assert size == pytest.approx(BATCH_SECONDS / task_seconds, rel=0.3, abs=1)


def test_tasks_longer_than_a_batch_travel_alone() -> None:
    assert learned(0.010).next() == 1


def test_batches_grow_at_most_eightfold_over_the_largest_that_came_back() -> None:
    sizer = Sizer(2)
    sizer.record(1, 1e-7)
    assert sizer.next() == 8
    sizer.record(8, 8e-7)
    assert sizer.next() == 64


def test_one_slow_task_does_not_undo_what_thousands_of_fast_ones_taught() -> None:
    sizer = learned(1e-5)
    before = sizer.next()
    sizer.record(1, 0.060)
    assert before / 50 < sizer.next() < before
    for _ in range(20):
        sizer.record(before, before * 1e-5)
    assert sizer.next() == pytest.approx(before, rel=0.1)


def test_batches_shrink_as_the_end_comes_near() -> None:
    sizer = learned(1e-3)
    assert sizer.next(left=1000) == sizer.next()
    assert sizer.next(left=12) == 2
    assert sizer.next(left=6) == 1
    assert sizer.next(left=1) == 1


def test_a_batch_near_the_end_still_pays_for_its_way() -> None:
    assert learned(1e-6).next(left=300) >= 250


def test_a_batch_carries_about_a_megabyte() -> None:
    assert learned(1e-6, nbytes=8_000_000).next() == 1
    assert learned(1e-6, nbytes=100_000).next() == 10


def test_a_fixed_size_overrides_all_that_was_learned() -> None:
    sizer = Sizer(2, fixed=7)
    sizer.record(1, 10.0, 10**9)
    assert sizer.next() == sizer.next(left=2) == 7


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1e6), st.integers(0, 10**12))),
    st.one_of(st.none(), st.integers(0, 10**9)),
    st.integers(1, 1000),
)
def test_a_batch_has_at_least_one_task_and_never_more_than_the_bound(
    reports: list[tuple[int, float, int]], left: int | None, slots: int
) -> None:
    sizer = Sizer(slots)
    for tasks, seconds, nbytes in reports:
        sizer.record(tasks, seconds, nbytes)
    assert 1 <= sizer.next(left) <= BATCH_TASKS


def test_bytes_are_guessed_from_the_first_value() -> None:
    assert size_of([]) == 0
    assert size_of([b"x" * 1000] * 3) >= 3000
    assert size_of([[b"x" * 1000] * 5]) >= 5000
    assert size_of([{"a": "x" * 1000}]) >= 1000
    assert size_of([array.array("d")]) < 1000


def test_a_guess_never_runs_the_users_code() -> None:
    class Hostile:
        def __sizeof__(self) -> int:
            raise AssertionError

    assert size_of([Hostile()]) > 0


def test_what_runs_side_by_side_is_sized_by_number() -> None:
    sizer = Sizer(10_000, at_once=True)
    assert sizer.next() == 1000
    sizer.record(1000, 100.0)
    assert sizer.next() == 1000, "the duration of a coroutine says nothing"
    assert sizer.next(left=30) == 30
    assert Sizer(100, at_once=True).next() == 25
    assert Sizer(1, at_once=True).next() == 1
