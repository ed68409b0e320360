"""Looks at what runs: ends what passed its limit of time or memory, has results sent that wait.

The time is taken here, from when a task was first seen running: nothing is measured per task in
the worker, and a limit is kept to about a tenth.
"""

from __future__ import annotations

import math
import time

from piecework.executors.roster import Roster
from piecework.executors.work import Work
from piecework.executors.worker_process import Line
from piecework.loop import Loop, Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from piecework.executors.memory_watch import MemoryWatch

WATCH_SECONDS = 0.05
WATCH_SECONDS_MIN = 0.005


class Watch:
    """Runs while anything is at a slot."""

    def __init__(self, loop: Loop, roster: Roster, *, forked: bool) -> None:
        self._loop = loop
        self._roster = roster
        self._forked = forked
        self._memory: MemoryWatch | None = None  # made for the first work with a limit
        self._timer: Timer | None = None
        self._shortest = math.inf

    def expect(self, work: Work) -> None:
        """Work has come whose time limit may be shorter than any before, or that has a limit of
        memory."""
        if work.call.limit is not None:
            self._shortest = min(self._shortest, work.call.limit)
        if work.call.memory is not None and self._memory is None:
            from piecework.executors.memory_watch import MemoryWatch  # few runs have a limit

            self._memory = MemoryWatch(self._roster, forked=self._forked)

    def wake(self) -> None:
        """Something was sent: look at it until it is over."""
        if self._timer is None:
            interval = min(WATCH_SECONDS, max(WATCH_SECONDS_MIN, self._shortest / 10))
            self._timer = self._loop.call_later(interval, self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        busy = False
        for worker in list(self._roster.workers.values()):
            worker.look()
            busy = busy or not worker.idle
            for line in worker.lines:
                if line.seen and not self._roster.coroutines:
                    self._look_at(line, now)
        if busy:
            if self._memory is not None:
                self._memory.look(now)
            self.wake()

    def _look_at(self, line: Line, now: float) -> None:
        sent = line.find(line.seen)
        if sent is None:
            return
        limit = sent.work.call.limit
        if limit is not None and now - line.seen_at >= limit:
            if not line.worker.doomed:
                line.worker.timed_out = (line.number, line.seen)
                self._roster.end(line.worker, "timeout")
        elif line.outstanding > 1 and line.asked != line.seen:
            # It takes long: what finished before it is sent, what waits behind may be taken back.
            line.asked = line.seen
            line.worker.tell(b"F")
