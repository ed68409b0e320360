"""The values that travel: they are small, they pickle, they say what they are."""

from __future__ import annotations

import pickle

import pytest

from piecework.task import LOSSES, Batch, Cause, Failure, Report, Result, Task

FAILURE = Failure("ValueError", "no", where="a.py:3 in f", pickled=b"x" * 100, bases=("Exception",))
CAUSES = ("exception", "timeout", "signal", "exit", "memory", "pickle", "cancelled")
BATCH = Batch(7, range(10, 13), ["a", "b", "c"])
REPORT = Report(BATCH, 1, [None, "B"], {1: FAILURE}, [(2, 0.5)], "worker 1")


@pytest.mark.parametrize(
    "value", [FAILURE, Task(3, "x"), BATCH, REPORT, Result(3, "x", True, 9), Result(4, "y", False)]
)
def test_it_travels_unchanged(value: object) -> None:
    assert pickle.loads(pickle.dumps(value, 5)) == value


@pytest.mark.parametrize("cause", CAUSES)
def test_a_worker_that_died_is_a_loss_and_nothing_else_is(cause: Cause) -> None:
    assert Failure("X", "", cause).lost == (cause in {"signal", "exit", "memory"})


def test_every_loss_is_a_cause() -> None:
    assert set(CAUSES) >= LOSSES


def test_a_failure_reads_as_the_last_line_of_a_traceback() -> None:
    assert str(FAILURE) == "ValueError: no"
    assert str(Failure("KeyboardInterrupt", "")) == "KeyboardInterrupt"


def test_the_pickled_exception_stays_out_of_sight() -> None:
    assert "xxx" not in repr(FAILURE)


def test_lengths_count_tasks() -> None:
    assert len(BATCH) == 3
    assert len(REPORT) == 2


def test_a_failure_and_a_result_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        FAILURE.type = "KeyError"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Result(1, "x", True).ok = False  # type: ignore[misc]


def test_a_batch_takes_no_further_names() -> None:
    with pytest.raises(AttributeError):
        BATCH.colour = "red"  # type: ignore[attr-defined]
