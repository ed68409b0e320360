"""Retry and Backoff: who is tried again, and when, decided without a clock."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.errors import TaskTimeout, UsageError
from piecework.failures import failure_from
from piecework.losses import WorkerLost
from piecework.retry import Backoff, Retry
from piecework.task import Cause, Failure

chance = st.floats(0, 1, exclude_max=True)


class Flaky(ConnectionResetError):
    pass


@given(
    base=st.floats(0, 1e9),
    factor=st.floats(1, 1e9),
    longest=st.floats(0, 1e9),
    jitter=st.floats(0, 1),
    attempt=st.integers(1, 100_000),
    drawn=chance,
)
def test_a_wait_is_never_longer_than_max_nor_shorter_than_jitter_allows(
    base: float, factor: float, longest: float, jitter: float, attempt: int, drawn: float
) -> None:
    backoff = Backoff(base, factor, longest, jitter)
    exact = Backoff(base, factor, longest, jitter=0).delay(attempt)
    wait = backoff.delay(attempt, lambda: drawn)
    assert 0 <= wait <= longest
    assert exact * (1 - jitter) * (1 - 1e-9) <= wait <= exact


@given(st.floats(0.001, 10), st.floats(1, 10), st.integers(1, 1000))
def test_waits_never_shrink_from_attempt_to_attempt(
    base: float, factor: float, attempt: int
) -> None:
    backoff = Backoff(base, factor, jitter=0)
    assert backoff.delay(attempt) <= backoff.delay(attempt + 1)


def test_without_jitter_waits_grow_by_the_factor_up_to_max() -> None:
    backoff = Backoff(0.5, factor=2, max=3, jitter=0)
    assert [backoff.delay(attempt) for attempt in range(1, 6)] == [0.5, 1, 2, 3, 3]


def test_growth_beyond_what_a_float_holds_ends_at_max() -> None:
    assert Backoff(1, factor=10, jitter=0).delay(10_000) == 60
    assert Backoff(0, factor=10, jitter=0).delay(10_000) == 0


def test_tasks_that_failed_together_come_back_apart() -> None:
    assert len({Backoff(8).delay(1) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"base": -1}, "Backoff base is -1"),
        ({"base": math.nan}, "nan"),
        ({"base": "1s"}, "'1s'"),
        ({"base": True}, "True"),
        ({"base": 1, "factor": 0.5}, "at least 1"),
        ({"base": 1, "max": -3}, "Backoff max is -3"),
        ({"base": 1, "jitter": 2}, "between 0 and 1"),
    ],
)
def test_an_absurd_backoff_is_refused_with_its_value(options: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Backoff(**options)
    assert "Give a number" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retries": -1}, "retries is -1"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"retries": True}, "retries is True"),
        ({"retry_on": "OSError"}, "'OSError'"),
        ({"retry_on": (OSError, int)}, "<class 'int'>"),
        ({"retry_on": OSError()}, r"OSError\(\)"),
        ({"backoff": 0.25}, r"backoff=piecework.Backoff\(0.25\)"),
        ({"backoff": "fast"}, "'fast'"),
    ],
)
def test_an_absurd_retry_is_refused_with_its_value(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Retry(**options)  # type: ignore[arg-type]
    assert "Give" in str(caught.value)


def test_retries_are_further_attempts_after_the_first() -> None:
    failure = failure_from(ValueError("no"))
    assert [Retry(2).wanted(failure, attempt) for attempt in (1, 2, 3)] == [True, True, False]
    assert not Retry().wanted(failure, 1)


@pytest.mark.parametrize("kind", [ConnectionResetError, ConnectionError, OSError, Exception])
def test_an_exception_is_matched_by_every_class_it_inherits_from(kind: type[Exception]) -> None:
    assert Retry(1, retry_on=kind).wanted(failure_from(Flaky("gone")), 1)
    assert Retry(1, retry_on=(KeyError, kind)).wanted(failure_from(Flaky("gone")), 1)


@pytest.mark.parametrize("kind", [KeyError, Flaky, ConnectionResetError])
def test_an_exception_is_not_matched_by_a_class_beside_or_below_its_own(
    kind: type[Exception],
) -> None:
    assert not Retry(1, retry_on=kind).wanted(failure_from(ConnectionError("gone")), 1)


@pytest.mark.parametrize("exc", [SystemExit(1), KeyboardInterrupt()])
def test_what_is_no_exception_is_tried_again_only_where_it_is_named(exc: BaseException) -> None:
    assert not Retry(1).wanted(failure_from(exc), 1)
    assert Retry(1, retry_on=type(exc)).wanted(failure_from(exc), 1)


@pytest.mark.parametrize("kind", [TaskTimeout, TimeoutError, OSError, Exception])
def test_a_time_limit_counts_as_the_timeout_it_is(kind: type[Exception]) -> None:
    assert Retry(1, retry_on=kind).wanted(Failure("whatever", "", "timeout"), 1)
    assert not Retry(1, retry_on=KeyError).wanted(Failure("whatever", "", "timeout"), 1)


@pytest.mark.parametrize("cause", ["signal", "exit", "memory"])
def test_a_lost_worker_is_no_exception_so_its_task_is_tried_again_as_retries_allow(
    cause: Cause,
) -> None:
    failure = Failure("piecework.WorkerLost", "", cause)
    assert Retry(1, retry_on=KeyError).wanted(failure, 1)
    assert Retry(1, retry_on=WorkerLost).wanted(failure, 1)
    assert not Retry(1).wanted(failure, 2)


@pytest.mark.parametrize("cause", ["pickle", "cancelled"])
def test_what_would_end_the_same_way_is_not_tried_again(cause: Cause) -> None:
    assert not Retry(5).wanted(Failure("ValueError", "", cause, bases=("Exception",)), 1)


def test_a_failure_without_its_bases_is_matched_by_its_type() -> None:
    assert Retry(1, retry_on=ValueError).wanted(Failure("ValueError", ""), 1)


def test_without_a_backoff_nothing_waits() -> None:
    assert Retry(3).delay(2) == 0
    assert Retry(3, backoff=Backoff(1, jitter=0)).delay(2) == 2


def test_the_policy_travels() -> None:
    retry = Retry(3, (OSError,), Backoff(0.5, factor=2, max=30))
    again = pickle.loads(pickle.dumps(retry))
    assert again == retry
    assert again.wanted(failure_from(Flaky()), 1)
