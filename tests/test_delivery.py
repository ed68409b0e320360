"""Pieces on their way to the consumer."""

from __future__ import annotations

import itertools
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from piecework.delivery import Piece, Unread, cut
from piecework.task import Batch, Failure, Report

FAILURE = Failure("ValueError", "no")
NEVER = Failure("CancelledError", "never", cause="cancelled")


def piece(start: int, count: int, failures: dict[int, Failure] | None = None) -> Piece:
    inputs = [f"in {start + i}" for i in range(count)]
    values: list[Any] = [start + i for i in range(count)]
    return Piece(start, values, failures or {}, inputs, [(count, 0.1 * count)])


def test_pieces_come_in_input_order_however_they_settle() -> None:
    unread = Unread()
    for start in (5, 0, 10):
        unread.add(piece(start, 5))
    taken = [unread.take() for _ in range(4)]
    assert [p and p.start for p in taken] == [0, 5, 10, None]
    assert unread.tasks == 0


def test_pieces_come_as_they_settle_where_order_does_not_matter() -> None:
    unread = Unread()
    for start in (5, 0, 10):
        unread.add(piece(start, 5))
    taken = [unread.take_any() for _ in range(4)]
    assert [p and p.start for p in taken] == [5, 0, 10, None]
    assert not unread


def test_a_gap_holds_back_what_comes_after_it() -> None:
    unread = Unread()
    unread.add(piece(5, 5))
    assert not unread.ready
    assert unread.take() is None
    unread.add(piece(0, 5))
    assert unread.ready


def test_a_failure_stands_alone() -> None:
    parts = list(piece(0, 5, {0: FAILURE, 3: FAILURE}).split())
    assert [(p.start, len(p), list(p.failures)) for p in parts] == [
        (0, 1, [0]),
        (1, 2, []),
        (3, 1, [0]),
        (4, 1, []),
    ]
    assert [p.inputs for p in parts] == [["in 0"], ["in 1", "in 2"], ["in 3"], ["in 4"]]


def test_tasks_that_never_started_stay_together() -> None:
    whole = piece(0, 1000, dict.fromkeys(range(1000), NEVER))
    assert list(whole.split()) == [whole]


def test_many_failures_are_split_in_linear_time() -> None:
    whole = piece(0, 20_000, dict.fromkeys(range(0, 20_000, 2), FAILURE))
    started = time.perf_counter()
    assert sum(len(part) for part in whole.split()) == 20_000
    assert time.perf_counter() - started < 2


def test_results_tell_all_of_each_task() -> None:
    first, second = piece(7, 2, {1: FAILURE}).results()
    assert (first.index, first.input, first.ok, first.value) == (7, "in 7", True, 7)
    assert (second.index, second.ok, second.failure) == (8, False, FAILURE)
    assert first.seconds == 0.1


def test_the_last_tasks_of_a_piece_are_a_piece() -> None:
    rest = piece(10, 5).last(2)
    assert (rest.start, rest.values, rest.inputs) == (13, [13, 14], ["in 13", "in 14"])


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_what_is_kept_of_a_report_comes_in_pieces_of_neighbours(
    kept: set[int], failed: set[int]
) -> None:
    indexes = tuple(range(100, 131))
    batch = Batch(1, indexes, [f"in {i}" for i in indexes])
    report = Report(batch, 0, [i * 10 for i in indexes], {}, [(31, 3.1)], "w")
    failures = dict.fromkeys(failed & kept, FAILURE)
    pieces = list(cut(report, indexes, sorted(kept), failures))
    told = {p.start + i: p.values[i] for p in pieces for i in range(len(p))}
    assert told == {100 + position: (100 + position) * 10 for position in kept}
    assert {p.start + i - 100 for p in pieces for i in p.failures} == failed & kept
    assert all(p.inputs == [f"in {p.start + i}" for i in range(len(p))] for p in pieces)
    assert all(b.start > a.start + len(a) for a, b in itertools.pairwise(pieces))
