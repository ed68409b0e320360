"""The inner loop: what it runs, what it hands over, and what was taken back meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.executors.slot import (
    CLAIMED,
    CURRENT,
    IDLE,
    PHASE,
    RUNNING,
    SENDING,
    SKIP_FROM,
    SKIP_TO,
    WORDS,
    Slot,
)
from piecework.task import Failure

LONG = 20.0


class Seen:
    """What a slot told: results and what it skipped, by number."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}
        self.failures: dict[int, Failure] = {}
        self.skipped: list[int] = []
        self.flushes: list[tuple[int, int]] = []
        self.words: list[int] = [0] * WORDS
        self.slot = Slot(self.words, self._flush, self._skip)

    def _flush(
        self,
        first: int,
        values: list[Any],
        failures: dict[int, Failure],
        timings: list[tuple[int, float]],
        cpu: float,
    ) -> None:
        assert sum(count for count, _ in timings) == len(values)
        assert all(seconds >= 0 for _, seconds in timings)
        assert set(failures) <= set(range(first, first + len(values)))
        self.flushes.append((first, len(values)))
        for number, value in enumerate(values, first):
            assert number not in self.values, "told twice"
            self.values[number] = value
        self.failures.update(failures)

    def _skip(self, first: int, count: int) -> None:
        assert count > 0
        self.skipped.extend(range(first, first + count))


def double(x: int) -> int:
    return 2 * x


@given(
    st.integers(0, 300),
    st.integers(1, 2**40),
    st.lists(st.integers(0, 299), max_size=6),
    st.booleans(),
)
def test_every_task_is_told_once_in_order_with_its_own_outcome(
    count: int, first: int, bad: list[int], star: bool
) -> None:
    def run(x: int) -> int:
        if x in bad:
            raise ValueError(f"no {x}")
        return 2 * x

    seen = Seen()
    items = [(x,) for x in range(count)] if star else list(range(count))
    seen.slot.run(run, items, first, star=star)
    assert list(seen.values) == list(range(first, first + count))
    failed = {first + x for x in bad if x < count}
    assert set(seen.failures) == failed
    for number, value in seen.values.items():
        assert value == (None if number in failed else 2 * (number - first))
    assert {f.message for f in seen.failures.values()} == {f"no {n - first}" for n in failed}


@given(st.lists(st.integers(0, 40), max_size=5), st.data())
def test_what_is_taken_back_before_it_begins_is_skipped_and_nothing_else(
    counts: list[int], data: st.DataObject
) -> None:
    seen = Seen()
    ran: list[int] = []
    total = sum(counts)
    low = data.draw(st.integers(1, total + 2))
    seen.words[SKIP_FROM] = low
    seen.words[SKIP_TO] = high = data.draw(st.integers(low, total + 4))
    first = 1
    for count in counts:
        seen.slot.run(ran.append, range(first, first + count), first)
        first += count
    taken = [number for number in range(1, total + 1) if low <= number < high]
    assert seen.skipped == taken
    assert ran == [number for number in range(1, total + 1) if number not in taken]
    assert list(seen.values) == ran


class Restless(list[int]):
    """Words that the other side changes while the slot is looking: the range only moves on."""

    changes: list[tuple[int, int] | None]

    def _change(self) -> None:
        if self.changes and (change := self.changes.pop()) is not None:
            low, count = change
            end = max(super().__getitem__(SKIP_TO), low + count)
            self[SKIP_FROM], self[SKIP_TO] = min(low, end), end

    def __getitem__(self, place: Any) -> Any:
        self._change()
        return super().__getitem__(place)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.lists(st.none() | st.tuples(st.integers(1, 100), st.integers(0, 40)), max_size=60),
)
def test_however_the_range_changes_every_task_is_run_or_told_as_skipped_once(
    counts: list[int], changes: list[tuple[int, int] | None]
) -> None:
    seen = Seen()
    words = Restless([0] * WORDS)
    words.changes = changes
    seen.slot.words = words
    ran: list[int] = []
    first = 1
    for count in counts:
        seen.slot.run(ran.append, range(first, first + count), first)
        first += count
    assert sorted(ran + seen.skipped) == list(range(1, first))
    assert list(seen.values) == ran


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_whatever_a_task_raises_costs_that_task_only(error: type[BaseException]) -> None:
    def run(x: int) -> int:
        if x == 3:
            raise error
        return x

    seen = Seen()
    seen.slot.run(run, range(10), 1)
    assert set(seen.failures) == {4}
    assert seen.failures[4].type == error.__name__
    assert [seen.values[n] for n in range(1, 11)] == [0, 1, 2, None, 4, 5, 6, 7, 8, 9]


def test_the_words_name_the_task_that_runs_and_nobody_afterwards() -> None:
    seen = Seen()
    during: list[tuple[int, int]] = []

    def run(x: int) -> None:
        assert seen.words[CLAIMED] > x, "run without being claimed"
        during.append((seen.words[CURRENT], seen.words[PHASE]))

    seen.slot.run(run, range(7, 27), 7)
    assert during == [(number, RUNNING) for number in range(7, 27)]
    assert (seen.words[CURRENT], seen.words[PHASE]) == (0, IDLE)


def test_results_are_sent_in_the_phase_of_sending() -> None:
    phases: list[int] = []
    words = [0] * WORDS
    slot = Slot(words, lambda *_: phases.append(words[PHASE]), lambda *_: None)
    slot.run(double, range(3), 1)
    assert phases == [SENDING]


def test_tiny_tasks_travel_together_and_long_ones_are_told_as_they_end() -> None:
    seen = Seen()
    seen.slot.run(double, range(3000), 1)
    assert len(seen.flushes) < 30

    told: list[int] = []

    def spin(_: int) -> None:
        told.append(len(seen.values))
        until = threading.Event()
        until.wait(0.012)  # a task of 12 ms

    seen = Seen()
    seen.slot.run(spin, range(4), 1)
    assert told == [0, 1, 2, 3]


def test_what_has_finished_is_handed_over_although_a_long_task_runs() -> None:
    """And each result, and each second, is told once all the same."""
    reached, go_on = threading.Event(), threading.Event()

    def run(x: int) -> int:
        if x == 50:
            reached.set()
            assert go_on.wait(LONG)
        if x == 7:
            raise ValueError("seven")
        return x

    seen = Seen()
    thread = threading.Thread(target=seen.slot.run, args=(run, range(100), 1))
    thread.start()
    assert reached.wait(LONG)
    seen.slot.flush_finished()
    assert list(seen.values) == list(range(1, 51))
    assert set(seen.failures) == {8}
    seen.slot.flush_finished()
    assert len(seen.values) == 50
    go_on.set()
    thread.join(LONG)
    assert list(seen.values) == list(range(1, 101))
    assert set(seen.failures) == {8}


def test_asking_for_results_at_any_moment_changes_nothing_else() -> None:
    seen = Seen()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.slot.flush_finished()

    def run(x: int) -> int:
        if x % 100 == 3:
            raise ValueError
        return x

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for first in range(1, 20_001, 2000):
            seen.slot.run(run, range(first, first + 2000), first)
    finally:
        over.set()
        asker.join(LONG)
    assert list(seen.values) == list(range(1, 20_001))
    assert all(v == (None if n % 100 == 3 else n) for n, v in seen.values.items())
    assert set(seen.failures) == set(range(3, 20_001, 100))


def test_the_slot_keeps_no_reference_to_what_it_ran() -> None:
    import weakref

    class Thing:
        pass

    def make(_: Thing) -> Thing:
        return Thing()

    kept: list[Callable[[], Any]] = []
    slot = Slot([0] * WORDS, lambda f, values, *_: kept.extend(map(weakref.ref, values)), _ignore)
    items = [Thing() for _ in range(5)]
    kept += map(weakref.ref, items)
    slot.run(make, items, 1)
    items.clear()
    assert [reference() for reference in kept] == [None] * 10


def _ignore(first: int, count: int) -> None:
    raise AssertionError("nothing was taken back")
