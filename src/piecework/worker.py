"""Worker: joins a queue of tasks, an executor and a queue of results.

    tasks ── lease ──▶ Worker ── submit ──▶ executor
                         │ ▲                   │
    results ◀── put ─────┘ └──── report ───────┘        then ack

Nothing else lives here. Whether the queues are in memory or across the network, and what runs the
tasks, it does not know; what becomes of a task that failed, the master decides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from piecework.executors.base import BatchExecutor
from piecework.loop import Loop
from piecework.queues.base import Lease, Queue
from piecework.task import Batch, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POLL_SECONDS = 0.01


class Worker:
    """Leases batches while the executor has room for them, and reports what became of them."""

    def __init__(
        self,
        tasks: Queue[Batch],
        results: Queue[Report],
        executor: BatchExecutor,
        call: Any,
        loop: Loop,
        broken: Callable[[BaseException], object],
    ) -> None:
        self.executor = executor
        self.call = call
        self._tasks = tasks
        self._results = results
        self._loop = loop
        self._broken = broken
        self.tap: Callable[[Report], object] | None = None  # sees each report first
        self.limit: int | None = None  # batches at a time; None: as many as the executor takes
        self._left: dict[int, int] = {}  # of each leased batch: tasks not reported yet
        self._lock = threading.Lock()  # stretches of a batch are reported by several threads
        self._stopped = False
        self._scheduled = False
        tasks.subscribe(filled=self.lease)

    def lease(self) -> None:
        """Take what the executor has room for; called in the control loop."""
        self._scheduled = False
        while self._may_lease():
            lease = self._tasks.lease()
            if lease is None:
                return
            self._submit(lease)
        if not self._left and not self._stopped:
            # Somebody else keeps the executor busy, and nobody tells when it has room again.
            self._loop.call_later(POLL_SECONDS, self._schedule)

    def _may_lease(self) -> bool:
        if self._stopped or (self.limit is not None and len(self._left) >= self.limit):
            return False
        return self.executor.room() > 0

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.lease)

    def _submit(self, lease: Lease[Batch]) -> None:
        batch = lease.value
        self._left[batch.id] = len(batch)
        try:
            self.executor.submit_batch(self.call, batch, lambda report: self._report(lease, report))
        except Exception as error:  # shut down by its owner, or no worker can be started any more
            self._left.pop(batch.id, None)
            self._stopped = True
            lease.nack()
            self._broken(error)

    def _report(self, lease: Lease[Batch], report: Report) -> None:
        if self.tap is not None:
            self.tap(report)
        count = len(report)  # once it is put, its values belong to whoever reads them
        self._results.put(report)
        with self._lock:
            left = self._left[report.batch.id] = self._left[report.batch.id] - count
            if left:
                return
            del self._left[report.batch.id]
        lease.ack()
        self._schedule()

    def finish(self) -> None:
        """Take nothing new; what is leased is still run and reported."""
        self._stopped = True

    @property
    def busy(self) -> int:
        """Batches that were leased and are not reported whole."""
        return len(self._left)
