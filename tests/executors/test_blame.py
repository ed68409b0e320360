"""From the words of a dead worker to the tasks that may have killed it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.executors.blame import judge, loading
from piecework.executors.slot import (
    CURRENT,
    DECODING,
    FLUSHING,
    IDLE,
    LOADED,
    LOADING,
    PHASE,
    RUNNING,
    SENDING,
    WORDS,
)


def words(phase: int, current: int = 0, *, flushing: int = 0, loaded: int = 0) -> list[int]:
    made = [0] * WORDS
    made[PHASE], made[CURRENT], made[FLUSHING], made[LOADED] = phase, current, flushing, loaded
    return made


def suspects(left: list[int], first: int = 10, frame_end: int = 20, last: int = 30) -> list[int]:
    verdict = judge(left, first, frame_end, last)
    found = list(range(verdict.low, verdict.high))
    assert len(found) == verdict.suspects
    return found


def test_one_that_ran_is_blamed_alone() -> None:
    assert suspects(words(RUNNING, 13)) == [13]
    assert judge(words(RUNNING, 13), 10, 20, 30).begun == 14


def test_a_slot_that_waited_blames_nobody() -> None:
    assert suspects(words(IDLE)) == []


def test_whoever_was_being_decoded_is_suspected_up_to_the_end_of_its_frame() -> None:
    assert suspects(words(DECODING, 10)) == list(range(10, 20))
    assert judge(words(DECODING, 10), 10, 20, 30).begun == 10  # none of them had run


def test_what_was_taken_back_from_the_frame_is_not_suspected() -> None:
    assert suspects(words(DECODING, 10), frame_end=20, last=15) == list(range(10, 15))


def test_a_result_that_was_being_sent_is_suspected_with_all_that_had_finished() -> None:
    assert suspects(words(SENDING, 12)) == [10, 11, 12]


def test_results_sent_beside_a_running_task_are_suspected_with_it() -> None:
    assert suspects(words(RUNNING, 12, flushing=1)) == [10, 11, 12]


def test_a_task_whose_result_was_reported_is_not_suspected() -> None:
    """The word names the last task between two strides, and that one has been told."""
    assert suspects(words(RUNNING, 9)) == []
    assert suspects(words(SENDING, 9)) == []


def test_a_function_that_was_being_loaded_is_named_and_no_task() -> None:
    left = words(LOADING, loaded=12)
    assert suspects(left) == []
    assert loading(left) == 12
    assert loading(words(RUNNING, 12, loaded=12)) == 0


@pytest.mark.parametrize("phase", [IDLE, DECODING, RUNNING, SENDING, LOADING])
def test_with_nothing_outstanding_nobody_is_suspected(phase: int) -> None:
    for current in range(25):
        assert suspects(words(phase, current), first=10, frame_end=10, last=10) == []


@given(
    st.integers(0, 6),
    st.integers(0, 60),
    st.integers(0, 1),
    st.integers(1, 20),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_only_what_was_outstanding_is_ever_suspected(
    phase: int, current: int, flushing: int, first: int, in_frame: int, after: int
) -> None:
    frame_end, last = first + in_frame, first + in_frame + after
    verdict = judge(words(phase, current, flushing=flushing), first, frame_end, last)
    assert first <= verdict.low <= max(verdict.high, verdict.low)
    assert verdict.suspects == 0 or verdict.high <= last
    assert verdict.begun <= max(current + 1, first)
    assert first <= verdict.begun or not verdict.suspects
