"""How many tasks the next batch has: learned from what the earlier ones took.

    report (tasks, seconds, bytes) ──▶ Sizer ──next(left)──▶ tasks in the next batch

A batch costs 50 to 100 µs to send and to account for, whatever is in it. Worth 4 ms of work it
costs about 2 % and still leaves slots that end together; worth more, skewed work ends late.

    nothing is known yet                         1 task
    known                                        4 ms of work, at most 1 MB, at most 8 times more
                                                 than the largest batch that came back
    the end is near (the number left is known)   a third of each slot's share, yet 0.5 ms of work
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BATCH_SECONDS = 0.004
BATCH_SECONDS_MIN = 0.0005  # below that, sending costs more than another slot could win
BATCH_BYTES = 1 << 20
BATCH_AT_ONCE = 1000  # coroutines in a batch
BATCH_TASKS = 1 << 13  # by then what a batch costs is 10 ns a task
GROWTH = 8
_MEMORY = 0.7  # weight of all earlier reports against the newest one
_SHARES = 3  # near the end a slot gets a third of its share, so that all end together


class Sizer:
    """Says how many tasks the next batch has; `fixed` overrides all that was learned.

    With `at_once` the tasks of a batch run beside each other, as coroutines do: then their
    duration says nothing, and a batch has a quarter of the slots' worth of them.
    """

    def __init__(self, slots: int, *, fixed: int | None = None, at_once: bool = False) -> None:
        self.slots = slots
        self.fixed = fixed
        self.at_once = at_once
        self._tasks = 0.0  # the three are sums that fade: a workload may change on its way
        self._seconds = 0.0
        self._bytes = 0.0
        self._largest = 0

    def record(self, tasks: int, seconds: float, nbytes: int = 0) -> None:
        """Learn from `tasks` that took `seconds` and `nbytes` (arguments and results) together."""
        self._tasks = self._tasks * _MEMORY + tasks
        self._seconds = self._seconds * _MEMORY + seconds
        self._bytes = self._bytes * _MEMORY + nbytes
        if tasks > self._largest:
            self._largest = tasks

    @property
    def task_seconds(self) -> float | None:
        """Seconds that a task takes lately; None while nothing has been reported."""
        return self._seconds / self._tasks if self._tasks else None

    @property
    def task_bytes(self) -> float:
        """Bytes that a task carries lately, as far as they are known."""
        return self._bytes / self._tasks if self._tasks else 0.0

    def next(self, left: int | None = None) -> int:
        """Tasks in the next batch, where `left` inputs remain (None: unknown); at least 1."""
        if self.fixed is not None:
            return self.fixed
        if self.at_once:
            size = min(-(-self.slots // 4), BATCH_AT_ONCE)
            return max(1, size if left is None else min(size, left))
        if not self._tasks:
            return 1
        size = min(self._worth(BATCH_SECONDS), self._largest * GROWTH, BATCH_TASKS)
        if self._bytes:
            size = min(size, int(BATCH_BYTES * self._tasks / self._bytes))
        if left is not None:
            share = -(-left // (self.slots * _SHARES))
            size = min(size, max(share, self._worth(BATCH_SECONDS_MIN)))
        return max(1, size)

    def _worth(self, seconds: float) -> int:
        """Tasks that take that many seconds; it may be 0."""
        return int(min(seconds * self._tasks / max(self._seconds, 1e-9), BATCH_TASKS))


def size_of(values: Sequence[Any]) -> int:
    """Bytes of the values, guessed from the first one: bounds memory where nothing was copied."""
    return _size_of_one(values[0], depth=2) * len(values) if values else 0


def _size_of_one(value: Any, depth: int) -> int:
    kind = type(value)
    if kind.__module__ == "numpy":
        # A view's own size says nothing of what it keeps alive.
        return int(getattr(value, "nbytes", 64))
    if kind.__module__ != "builtins":
        return 64  # its __sizeof__ could be anybody's code
    size = sys.getsizeof(value)
    if depth and kind in (list, tuple) and value:
        size += len(value) * _size_of_one(value[0], depth - 1)
    elif depth and kind is dict and value:
        size += len(value) * _size_of_one(next(iter(value.values())), depth - 1)
    return size
