"""When a failed task is tried again, and after how long: decided from data, without a clock.

    failure, attempt ─▶ Retry.wanted ─▶ Retry.delay ─▶ run again after that many seconds

`retry_on` is matched by the names of the classes that the exception inherits from, which a
Failure carries: nothing is rebuilt, so the same policy decides in a master, from a journal,
and on another machine.
"""

from __future__ import annotations

from collections.abc import Callable

from piecework.errors import TaskTimeout, UsageError
from piecework.packing import type_name
from piecework.record import record
from piecework.task import Failure


@record(frozen=True, slots=True)
class Backoff:
    """Waits that grow: `base` seconds after the first failure, `factor` times more after each.

    No wait is longer than `max` seconds. `jitter` is the share of a wait that is left to
    chance, so that tasks which failed together do not come back together: 0.5 makes a wait
    of 8 s one of 4 to 8 s, 0 makes it exact.
    """

    base: float
    factor: float = 2.0
    max: float = 60.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        _check_number("Backoff base", self.base, low=0, unit="the first wait in seconds")
        _check_number("Backoff factor", self.factor, low=1, unit="1 keeps all waits equal")
        _check_number("Backoff max", self.max, low=0, unit="the longest wait in seconds")
        _check_number("Backoff jitter", self.jitter, low=0, high=1, unit="0 makes waits exact")

    def delay(self, attempt: int, random: Callable[[], float] | None = None) -> float:
        """Seconds to wait after the failure of `attempt` (1 is the first)."""
        try:
            grown = self.base * self.factor ** (attempt - 1)
        except OverflowError:
            grown = self.max if self.base else 0.0
        wait = min(grown, self.max)
        if not self.jitter or not wait:
            return wait
        return wait * (1 - self.jitter * (random or _random())())


@record(frozen=True, slots=True)
class Retry:
    """`retries` more attempts for a task that fails with one of `retry_on`.

    A task whose worker died is tried again whatever `retry_on` names: it raised nothing. One
    whose value cannot be sent is never tried again, for it would not be sent next time either.
    """

    retries: int = 0
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)
    backoff: Backoff | None = None
    names: frozenset[str] = frozenset()  # of `retry_on`, made from it

    def __post_init__(self) -> None:
        _check_retries(self.retries)
        _check_backoff(self.backoff)
        types = _checked_types(self.retry_on)
        object.__setattr__(self, "retry_on", types)
        object.__setattr__(self, "names", frozenset(map(type_name, types)))

    def wanted(self, failure: Failure, attempt: int) -> bool:
        """Whether to try again after `attempt` (1 is the first) ended in this failure."""
        if attempt > self.retries or failure.cause in ("pickle", "cancelled"):
            return False
        return failure.lost or not self.names.isdisjoint(_bases(failure))

    def delay(self, attempt: int, random: Callable[[], float] | None = None) -> float:
        """Seconds to wait after the failure of `attempt`; without a backoff, none."""
        return 0.0 if self.backoff is None else self.backoff.delay(attempt, random)


def _bases(failure: Failure) -> tuple[str, ...]:
    if failure.cause == "timeout":
        return _TIMEOUT
    return failure.bases or (failure.type,)


_TIMEOUT = tuple(map(type_name, TaskTimeout.__mro__))


def _random() -> Callable[[], float]:
    from random import random  # costs 5 ms to import, which a run without retries saves

    return random


def _check_number(
    name: str, value: object, *, low: float, high: float = float("inf"), unit: str
) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and low <= value <= high:  # type: ignore[operator]  # NaN compares false
        return
    bounds = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
    raise UsageError(f"{name} is {value!r}. Give a number {bounds}: {unit}.")


def _check_retries(retries: object) -> None:
    if isinstance(retries, int) and not isinstance(retries, bool) and retries >= 0:
        return
    raise UsageError(
        f"retries is {retries!r}. Give a whole number of further attempts: 0 for none, 3 for "
        "at most four attempts in all."
    )


def _check_backoff(backoff: object) -> None:
    if backoff is None or isinstance(backoff, Backoff):
        return
    seconds = backoff if isinstance(backoff, (int, float)) else 0.5
    raise UsageError(
        f"backoff is {backoff!r}. Give backoff=piecework.Backoff({seconds!r}), or None to try "
        "again at once."
    )


def _checked_types(retry_on: object) -> tuple[type[BaseException], ...]:
    if isinstance(retry_on, type):
        types: tuple[object, ...] = (retry_on,)
    elif isinstance(retry_on, (tuple, list, set, frozenset)):
        types = tuple(retry_on)
    else:
        types = (retry_on,)
    for wrong in types:
        if not (isinstance(wrong, type) and issubclass(wrong, BaseException)):
            raise UsageError(
                f"retry_on names {wrong!r}, which is not an exception type. Give a type or a "
                "tuple of types: retry_on=(OSError, TimeoutError)."
            )
    return types  # type: ignore[return-value]  # checked one by one above
