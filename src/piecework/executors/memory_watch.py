"""Ends the worker of a task that holds more memory than it may.

The whole worker counts, with all that it has started: what earlier tasks have left in it, too. So
a task that was running when the limit was passed is tried once more, alone in a fresh worker,
before anybody believes that it was the culprit.
"""

from __future__ import annotations

import time

from piecework.executors import memory
from piecework.executors.roster import Roster
from piecework.executors.worker_process import WorkerProcess

SHARE = 50  # times longer than looking takes it is not looked again: at most 2 % of the time
EXACT_SECONDS = 0.25  # between two exact looks at a worker that only seems too large


class MemoryWatch:
    """Looks at workers that run tasks with a limit."""

    def __init__(self, roster: Roster, *, forked: bool) -> None:
        self._roster = roster
        self._forked = forked
        self._next = 0.0

    def look(self, now: float) -> None:
        """Look at every worker, unless the last look was so long that this is too early."""
        if now < self._next:
            return
        before = time.thread_time()  # what it costs, not how long others had the core meanwhile
        for worker in list(self._roster.workers.values()):
            limit = self._limit(worker)
            if limit is not None:
                self._look_at(worker, limit)
        self._next = now + SHARE * (time.thread_time() - before)

    def _limit(self, worker: WorkerProcess) -> int | None:
        """The tightest limit of what it runs; None where nothing has one."""
        if worker.doomed or worker.exited or not worker.pid:
            return None
        limits = []
        for line in worker.lines:
            sent = line.find(line.running())
            if sent is not None and sent.work.call.memory is not None:
                limits.append(sent.work.call.memory)
        return min(limits, default=None)

    def _look_at(self, worker: WorkerProcess, limit: int) -> None:
        pids = memory.family(worker.pid)
        if memory.rough(pids) <= limit:
            return
        now, before = time.monotonic(), time.thread_time()
        if now < worker.exact_at:
            return
        held = memory.exact(pids, forked=self._forked)
        if held > limit:
            worker.over_memory = (held, limit)
            worker.doomed = "memory"
            self._roster.kill(worker)  # at once: it may be taking another GB a second
            return
        took = time.thread_time() - before
        worker.exact_at = now + max(EXACT_SECONDS, SHARE * took)
