"""What the map asks of an executor beyond the standard `concurrent.futures.Executor`.

The standard contract hands over one call at a time and pays a Future for each. The map hands
over a batch and is told of stretches of it. The promise, which every implementation keeps:

- every position of a submitted batch is reported exactly once, over any number of reports, in any
  order, from any thread, possibly with the loop's lock held;
- nothing a task does escapes: an exception, a death, a passed time limit, a result that cannot be
  sent are `Failure`s in a report;
- the executor runs again by itself only what was not to blame for a death, and says so in
  `Report.repeats`; a blamed task is reported, and the master decides.
"""

from __future__ import annotations

from collections.abc import Callable

from piecework.bases import Protocol
from piecework.loop import Loop
from piecework.task import Batch, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class BatchExecutor(Protocol):
    """An executor that takes batches."""

    @property
    def name(self) -> str:
        """threads, processes, coroutines or inline."""

    @property
    def slots(self) -> int:
        """How many tasks can run at once."""

    @property
    def busy(self) -> int:
        """How many of them run a task now, or are about to: for whoever watches."""

    @property
    def loop(self) -> Loop:
        """The control loop; reports may be handled in it with `call_soon`."""

    def prepare(
        self, fn: Callable[..., Any], *, star: bool = False, task_timeout: float | None = None
    ) -> Any:
        """A call to submit batches of: `fn(payload)`, or `fn(*payload)` with `star`.

        Raises CannotPickle or UsageError now, before anything has run, where `fn` cannot be
        called here or the time limit cannot be kept.
        """

    def room(self) -> int:
        """How many more batches it takes now: at most two wait at a slot, one runs, one is next."""

    def submit_batch(self, call: Any, batch: Batch, report: Callable[[Report], None]) -> None:
        """Run `call` over the batch; `report` is called with what has finished."""

    def cancel(self, call: Any, *, kill: bool = False) -> None:
        """Give up what of this call has not started: it is reported as cancelled.

        With `kill` what is running is ended too, where that is possible; a thread cannot be
        ended, and its tasks are reported when they end by themselves.
        """

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As in the standard library: take nothing new; with `wait`, return when all has ended."""
