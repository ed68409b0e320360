"""MemoryQueue: the queue of one process.

Two heaps beside a deque: values that come back after a delay, and deadlines of leases. Both are
looked at when somebody asks, so no thread and no timer is needed.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable

from piecework.bases import Generic, TypeVar

T = TypeVar("T")

_FOREVER = float("inf")


class MemoryLease(Generic[T]):
    """A claim on a value of a MemoryQueue."""

    __slots__ = ("_queue", "deadline", "delivery", "stands", "value")

    def __init__(self, queue: MemoryQueue[T], value: T, delivery: int, deadline: float) -> None:
        self._queue = queue
        self.value = value
        self.delivery = delivery
        self.deadline = deadline
        self.stands = True

    def ack(self) -> bool:
        return self._queue._end(self)

    def nack(self, delay_seconds: float = 0.0) -> bool:
        return self._queue._give_back(self, delay_seconds)

    def extend(self, seconds: float) -> bool:
        return self._queue._extend(self, seconds)


class MemoryQueue(Generic[T]):
    """Values in this process, for any number of threads.

    At most `maxsize` values wait (0: no bound; leased ones are not counted). A lease expires after
    `lease_seconds` (None: never, for who dies here takes the queue along).
    """

    def __init__(
        self,
        maxsize: int = 0,
        *,
        lease_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.maxsize = maxsize
        self.closed = False
        self._lease_seconds = _FOREVER if lease_seconds is None else lease_seconds
        self._clock = clock
        self._waiting: deque[tuple[T, int]] = deque()  # with the number of the next delivery
        self._delayed: list[tuple[float, int, T, int]] = []
        self._leased: list[tuple[float, int, MemoryLease[T]]] = []  # only those with a deadline
        self._order = itertools.count()
        self._changed = threading.Condition(threading.Lock())
        self._sleepers = 0
        self._filled: list[Callable[[], object]] = []
        self._emptied: list[Callable[[], object]] = []

    # -- the contract -------------------------------------------------------------------------

    def put(self, value: T, *, timeout: float | None = 0.0) -> bool:
        with self._changed:
            if not self._wait_until(self._can_put, timeout):
                return False
            if self.closed:
                raise ValueError("the queue is closed: it takes nothing new")
            self._waiting.append((value, 1))
            self._wake()
        self._tell(self._filled)
        return True

    def lease(self, *, timeout: float | None = 0.0) -> MemoryLease[T] | None:
        with self._changed:
            if not self._wait_until(self._can_lease, timeout) or not self._waiting:
                return None
            value, delivery = self._waiting.popleft()
            deadline = _FOREVER
            if self._lease_seconds != _FOREVER:
                deadline = self._clock() + self._lease_seconds
            lease = MemoryLease(self, value, delivery, deadline)
            self._watch(lease)
            if self._sleepers:
                self._changed.notify_all()
        self._tell(self._emptied)
        return lease

    def room(self) -> int:
        return max(0, self.maxsize - len(self._waiting)) if self.maxsize else 1 << 30

    def subscribe(
        self,
        *,
        filled: Callable[[], object] | None = None,
        emptied: Callable[[], object] | None = None,
    ) -> None:
        if filled is not None:
            self._filled.append(filled)
        if emptied is not None:
            self._emptied.append(emptied)

    def wakeup(self) -> float | None:
        with self._changed:
            due = self._next_due()
            return None if due == _FOREVER else max(0.0, due - self._clock())

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._wake()
        self._tell(self._filled)

    def __len__(self) -> int:
        """How many wait to be leased now."""
        with self._changed:
            self._collect_due()
            return len(self._waiting)

    # -- leases -------------------------------------------------------------------------------

    def _end(self, lease: MemoryLease[T]) -> bool:
        with self._changed:
            stood = self._stands(lease)
            lease.stands = False
            return stood

    def _give_back(self, lease: MemoryLease[T], delay_seconds: float) -> bool:
        with self._changed:
            if not self._stands(lease):
                return False
            lease.stands = False
            if delay_seconds > 0:
                due = self._clock() + delay_seconds
                entry = (due, next(self._order), lease.value, lease.delivery + 1)
                heapq.heappush(self._delayed, entry)
            else:
                self._waiting.appendleft((lease.value, lease.delivery + 1))
            self._wake()
        self._tell(self._filled)
        return True

    def _extend(self, lease: MemoryLease[T], seconds: float) -> bool:
        with self._changed:
            if not self._stands(lease):
                return False
            lease.deadline = self._clock() + seconds
            self._watch(lease)
            return True

    def _watch(self, lease: MemoryLease[T]) -> None:
        if lease.deadline != _FOREVER:
            heapq.heappush(self._leased, (lease.deadline, next(self._order), lease))

    def _stands(self, lease: MemoryLease[T]) -> bool:
        if self._leased:
            self._collect_due()
        return lease.stands

    # -- waiting ------------------------------------------------------------------------------

    def _can_put(self) -> bool:
        return self.closed or not self.maxsize or len(self._waiting) < self.maxsize

    def _can_lease(self) -> bool:
        if self._delayed or self._leased:
            self._collect_due()
        return bool(self._waiting or (self.closed and not self._delayed and not self._open()))

    def _open(self) -> bool:
        return any(lease.stands for _, _, lease in self._leased)

    def _collect_due(self) -> None:
        """Move what has come due, by its delay or an expired lease, to those that wait."""
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            _, _, value, delivery = heapq.heappop(self._delayed)
            self._waiting.append((value, delivery))
        while self._leased and self._leased[0][0] <= now:
            deadline, _, lease = heapq.heappop(self._leased)
            if lease.stands and deadline == lease.deadline:  # else acked, or extended since
                lease.stands = False
                self._waiting.append((lease.value, lease.delivery + 1))

    def _next_due(self) -> float:
        while self._leased and not self._leased[0][2].stands:
            heapq.heappop(self._leased)
        delayed = self._delayed[0][0] if self._delayed else _FOREVER
        return min(delayed, self._leased[0][0] if self._leased else _FOREVER)

    def _wait_until(self, possible: Callable[[], bool], timeout: float | None) -> bool:
        if possible():
            return True
        until = _FOREVER if timeout is None else self._clock() + timeout
        self._sleepers += 1
        try:
            while not possible():
                now = self._clock()
                if now >= until:
                    return False
                wait = min(until, self._next_due()) - now
                self._changed.wait(None if wait == _FOREVER else max(wait, 0.0))
            return True
        finally:
            self._sleepers -= 1

    def _wake(self) -> None:
        if self._sleepers:
            self._changed.notify_all()

    @staticmethod
    def _tell(callbacks: list[Callable[[], object]]) -> None:
        for callback in callbacks:
            callback()
