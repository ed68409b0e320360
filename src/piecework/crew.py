"""Crew: the workers of one run in this process, and the executors that they keep busy.

Usually one worker and one executor. A run that chooses its own way starts with one and goes on
with another: both lease from the same queue, and the master knows of neither.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from piecework.errors import UsageError
from piecework.executors.base import BatchExecutor
from piecework.feeder import Feeder
from piecework.loop import Loop
from piecework.queues.base import Queue
from piecework.task import Batch, Report
from piecework.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.executors.inline import InlineExecutor
    from piecework.journal.source import Recalling


class Crew:
    """Holds what a run has started, so that it can be stopped and freed as one."""

    def __init__(
        self,
        tasks: Queue[Batch],
        results: Queue[Report],
        loop: Loop,
        broken: Callable[[BaseException], object],
    ) -> None:
        self.on = ""  # as the summary names it
        self.why = ""
        self.label = ""  # as it marks what the tasks print
        self.inline: InlineExecutor | None = None  # tasks run in whoever waits
        self.feeder: Feeder | Recalling | None = None  # inputs are drawn there, too
        self.on_free: Callable[[], object] = lambda: None
        self.here = False  # the loop, too, is turned by nobody else
        self._tasks = tasks
        self._results = results
        self._loop = loop
        self._broken = broken
        self._workers: list[Worker] = []
        self._owned: list[BatchExecutor] = []

    def join(
        self,
        executor: BatchExecutor,
        call: Any,
        *,
        owned: bool,
        tap: Callable[[Report], object] | None = None,
    ) -> Worker:
        """Set a worker to work; an `owned` executor is shut down with the run."""
        worker = Worker(self._tasks, self._results, executor, call, self._loop, self._broken)
        worker.tap = tap
        if hasattr(call, "label"):  # what its tasks print comes with it
            call.label = self.label
        self._workers.append(worker)
        if owned:
            self._owned.append(executor)
        if executor.name == "inline":
            self.inline = executor  # type: ignore[assignment]  # by its name
        self.on = f"{executor.slots} {executor.name}" if executor.slots > 1 else executor.name
        return worker

    def check_wait(self) -> None:
        """UsageError where this thread cannot wait: it is the event loop that runs the tasks."""
        if any(getattr(worker.executor, "inside", False) for worker in self._workers):
            raise UsageError(
                "this waits in a coroutine for the event loop that runs it, so for ever. "
                "Use await run, or async for value in run."
            )

    def work(self) -> bool:
        """Do in the caller what is to be done there; False where there is nothing."""
        if self.inline is not None and self.inline.run_next():
            return True
        return self.feeder is not None and self.feeder.step()

    @property
    def has_work(self) -> bool:
        if self.inline is not None and self.inline.has_work:
            return True
        return self.feeder is not None and self.feeder.wanting

    def slots(self) -> tuple[int, int]:
        """How many slots run a task now, and how many there are."""
        executors = {id(w.executor): w.executor for w in self._workers if w.busy}
        busy = sum(executor.busy for executor in executors.values())
        return busy, self._workers[-1].executor.slots if self._workers else 0

    def stop(self, kill: bool) -> None:
        """Lease nothing new; what has not started comes back as cancelled."""
        for worker in self._workers:
            worker.finish()
            worker.executor.cancel(worker.call, kill=kill)

    def hear(self) -> None:
        """Return when all that tasks have printed until now is written."""
        for worker in self._workers:
            hear = getattr(worker.executor, "hear", None)
            if hear is not None:
                hear()
        console = sys.modules.get("piecework.console")
        if console is not None:
            console.CONSOLE.flush()

    def free(self, *, wait: bool = False) -> None:
        """Shut down what the run started."""
        self.on_free()
        for executor in self._owned:
            executor.shutdown(wait=wait)
