"""The worker processes of one executor: who there is, who is free, who is started and ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from piecework.executors import channel
from piecework.executors.hearing import Hearing
from piecework.executors.launcher import Launcher
from piecework.executors.worker_process import Line, WorkerProcess
from piecework.lean import signal, suppress
from piecework.loop import Loop

TERM_GRACE = 0.2  # seconds between SIGTERM and SIGKILL
DUMP_GRACE = 0.15  # for a worker that is asked where it is
STOP_GRACE = 30.0  # for exit handlers of a worker that was told to stop


class Roster:
    """At most `max_workers` processes of `threads` slots, or of `coroutines` at once."""

    def __init__(
        self,
        loop: Loop,
        launcher: Launcher,
        hearing: Hearing,
        on_line: Callable[[Line], None],
        *,
        max_workers: int,
        threads: int,
        coroutines: int,
        tasks_per_worker: int | None,
    ) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self.max_workers = max_workers
        self.threads = threads
        self.coroutines = coroutines
        self.tasks_per_worker = tasks_per_worker
        self._loop = loop
        self._launcher = launcher
        self._hearing = hearing
        self._on_line = on_line
        self._numbers = 0

    @property
    def slots(self) -> int:
        return self.max_workers * max(self.threads, self.coroutines)

    @property
    def busy(self) -> int:
        """How many slots have something to do."""
        if self.coroutines:
            return sum(min(line.outstanding, self.coroutines) for line in self.lines())
        return sum(1 for line in self.lines() if line.sent)

    def lines(self) -> Iterator[Line]:
        return (line for worker in self.workers.values() for line in worker.lines)

    def serving(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers.values() if worker.serving]

    @property
    def vacancies(self) -> int:
        """How many more workers may be started."""
        return self.max_workers - len(self.serving())

    # -- who is free ---------------------------------------------------------------------------

    def free_line(self) -> Line | None:
        """An idle line, else one that will be idle soon, unless a fresh worker comes sooner."""
        if self.coroutines:
            return self._least_loaded()
        soon = None
        for worker in self.workers.values():
            if worker.usable and not worker.reserved:
                for line in worker.lines:
                    if not line.sent:
                        return line
                    if soon is None and line.has_room():
                        soon = line
        return None if soon is not None and self.vacancies > 0 else soon

    def _least_loaded(self) -> Line | None:
        lines = [
            worker.lines[0]
            for worker in self.workers.values()
            if worker.usable and worker.lines[0].outstanding < self.coroutines
        ]
        return min(lines, key=lambda line: line.outstanding, default=None)

    def room(self) -> int:
        """Batches that would not have to wait behind two others; of coroutines: tasks."""
        if self.coroutines:
            return self.slots - sum(line.outstanding for line in self.lines())
        usable = [worker for worker in self.workers.values() if worker.usable]
        free = sum(1 for worker in usable for line in worker.lines if line.has_room())
        return free + max(0, self.vacancies) * self.threads

    def quota(self, line: Line) -> int | None:
        """How many more tasks the line may get; None: any number."""
        quota = None
        if self.coroutines:
            quota = self.coroutines - line.outstanding
        if self.tasks_per_worker is not None:
            left = self.tasks_per_worker - line.worker.taken
            quota = left if quota is None else min(quota, left)
        return quota if quota is None else max(quota, 1)

    def count(self, worker: WorkerProcess, tasks: int) -> None:
        """The worker got tasks: it retires with the last that it may have."""
        worker.taken += tasks
        if self.tasks_per_worker is not None and worker.taken >= self.tasks_per_worker:
            worker.retiring = True

    def reserve(self, wanted: bool) -> None:
        """Keep a worker free of new tasks: it will run a suspect alone. Or no longer."""
        if not wanted:
            for worker in self.workers.values():
                worker.reserved = False
            return
        if not any(worker.exclusive or worker.reserved for worker in self.workers.values()):
            for worker in self.workers.values():
                if worker.usable:
                    worker.reserved = True
                    return

    # -- start and end -------------------------------------------------------------------------

    def start(self) -> WorkerProcess:
        """Start a worker; tasks may be sent to it at once, they wait in its channel."""
        self._numbers += 1
        worker = WorkerProcess(self._numbers, self._loop, self.threads)
        self.workers[worker.number] = worker
        worker.watch(self._on_line)
        self._hearing.listen(worker)
        worker.lines[0].post(channel.SETUP, self._launcher.setup(self.coroutines))
        try:
            self._launcher.start(worker)
        except OSError:
            del self.workers[worker.number]
            self._hearing.died(worker)
            worker.close()
            raise
        return worker

    def stop(self, worker: WorkerProcess) -> None:
        """Let an idle worker end by itself."""
        worker.stopped = True
        for line in worker.lines:
            line.post(channel.STOP)
        worker.stop_timer = self._loop.call_later(STOP_GRACE, self.kill, worker)

    def end(self, worker: WorkerProcess, doom: str) -> None:
        """End a worker and all that it started: where it is, SIGTERM, and SIGKILL after a grace."""
        if worker.doomed:
            return
        worker.doomed = doom
        worker.tell(b"D")
        self._loop.call_later(DUMP_GRACE, self._terminate, worker)

    def _terminate(self, worker: WorkerProcess) -> None:
        if not worker.exited:
            worker.read_stacks()
            self._launcher.kill(worker, signal.SIGTERM)
            self._loop.call_later(TERM_GRACE, self.kill, worker)

    def kill(self, worker: WorkerProcess) -> None:
        if not worker.exited:
            self._launcher.kill(worker, signal.SIGKILL)

    def signal_all(self, number: int) -> None:
        """Signal every worker now: it is ended on request."""
        for worker in self.workers.values():
            worker.doomed = worker.doomed or "terminated"
            self._launcher.kill(worker, number)
            self._loop.call_later(TERM_GRACE, self.kill, worker)

    def disown_all(self) -> list[WorkerProcess]:
        """The supervisor is gone, and with it all sight of its workers: they are killed."""
        workers = list(self.workers.values())
        for worker in workers:
            worker.doomed = worker.doomed or "disowned"
            if worker.pid:
                with suppress(OSError):
                    os.killpg(worker.pid, signal.SIGKILL)
        return workers

    def forked(self) -> None:
        """In a forked child: these descriptors belong to the parent."""
        for worker in self.workers.values():
            worker.forked()
        self._launcher.forked()

    def close(self) -> None:
        self._launcher.close()
