"""The contract of a queue: what was put is leased, and comes back unless it is acked.

    put ──▶ waiting ── lease ──▶ leased ── ack ──▶ gone
               ▲                   │
               └── nack, after its delay; or the lease's deadline passed

Whoever leases holds a claim until a deadline, not the value: a worker that dies says nothing, and
its batch is leased again by another. So a value may be seen twice, and is lost never; the run drops
what it has recorded already. An ack counts once, and only while the claim stands.

Nothing here blocks unless a timeout is given. A control loop asks to be told with `subscribe`.
"""

from __future__ import annotations

from collections.abc import Callable

from piecework.bases import Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Lease(Protocol[T_co]):
    """A claim on one value until its deadline."""

    @property
    def value(self) -> T_co:
        """What was put."""

    @property
    def delivery(self) -> int:
        """1 for the first lease of the value, 2 where an earlier one was given up or expired."""

    def ack(self) -> bool:
        """The value is done with and never comes back.

        False where the claim no longer stands: another lease has it, or had it, or this one was
        acked or nacked before. Then nothing has changed.
        """

    def nack(self, delay_seconds: float = 0.0) -> bool:
        """Give the value back: it can be leased again after the delay. False as for `ack`."""

    def extend(self, seconds: float) -> bool:
        """Still at work: the deadline is that many seconds from now. False as for `ack`."""


class Queue(Protocol[T]):
    """A place where values wait, first in, first out, bounded."""

    def put(self, value: T, *, timeout: float | None = 0.0) -> bool:
        """Keep the value until it is acked. False where the queue stayed full for that long.

        Raises ValueError once the queue is closed: the value would never be leased.
        """

    def lease(self, *, timeout: float | None = 0.0) -> Lease[T] | None:
        """Claim the value that has waited longest; None where none came in that time.

        None at once where the queue is closed and nothing is left in it.
        """

    def room(self) -> int:
        """How many values it takes now; by the next moment it may be fewer."""

    def subscribe(
        self,
        *,
        filled: Callable[[], object] | None = None,
        emptied: Callable[[], object] | None = None,
    ) -> None:
        """Call `filled` when there may be something to lease, `emptied` when there may be room.

        From whichever thread made it so, without any lock of the queue: be quick, do not raise. An
        expired lease or a delay that has passed is told of only when somebody asks: look at
        `wakeup`.
        """

    def wakeup(self) -> float | None:
        """Seconds until a waiting value comes due by itself; None where none will."""

    def close(self) -> None:
        """Take nothing new. What is in it can still be leased, and waiting callers return."""
