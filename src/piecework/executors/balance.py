"""Skewed work: idle slots take what busy ones have not started.

Durations are not known before, so a batch may hold one long task and many that wait behind it.
When a slot has been idle for a millisecond and nothing waits, half of what the fullest slot has
not claimed is taken back (see slot.py for how, without a lock) and waits again for any slot.
"""

from __future__ import annotations

from collections.abc import Callable

from piecework.executors.roster import Roster
from piecework.executors.slot import CLAIMED
from piecework.executors.work import Stretch
from piecework.executors.worker_process import Line
from piecework.lean import suppress
from piecework.loop import Loop, Timer

IDLE_SECONDS = 0.001
AGAIN_SECONDS = 0.005
START_SECONDS = 0.02  # work that is worth starting another worker for
STORE_SECONDS = 0.0002  # far longer than a processor holds back a store


class Balancer:
    """`again` gets what was taken back, with the lock held."""

    def __init__(
        self, loop: Loop, roster: Roster, again: Callable[[Line, list[Stretch]], None]
    ) -> None:
        self._loop = loop
        self._roster = roster
        self._again = again
        self._timer: Timer | None = None

    def wake(self) -> None:
        """Nothing waits: look soon whether somebody idles while another has too much."""
        if self._timer is None and not self._roster.coroutines and self._crowded():
            self._timer = self._loop.call_later(IDLE_SECONDS, self._balance)

    def _crowded(self) -> bool:
        return any(line.outstanding > 1 for line in self._roster.lines())

    def _balance(self) -> None:
        self._timer = None
        idle = sum(
            1
            for worker in self._roster.workers.values()
            if worker.usable and worker.ready and not worker.reserved
            for line in worker.lines
            if not line.sent
        )
        victims = [line for line in self._roster.lines() if line.worker.serving and line.unstarted]
        victims.sort(key=lambda line: line.unstarted, reverse=True)
        if not idle:
            self._hire(victims)
        for line in victims[:idle]:
            if not line.soon_done(IDLE_SECONDS):
                self.take_back(line, max(1, line.unstarted // 2))
        for worker in self._roster.workers.values():
            worker.look()
        if self._crowded():  # also for a claim that is lowered when its task takes long: watch.py
            self._timer = self._loop.call_later(AGAIN_SECONDS, self._balance)

    def _hire(self, victims: list[Line]) -> None:
        """One batch may be all there is, and at one slot: another worker may be worth its start."""
        starting = any(not worker.ready for worker in self._roster.workers.values())
        worth_it = any(not line.soon_done(START_SECONDS) for line in victims)
        if worth_it and not starting and self._roster.vacancies > 0:
            with suppress(OSError):  # the workers that there are do the work
                self._roster.start()

    def take_back(self, line: Line, count: int) -> None:
        """Take back the last `count` tasks of the line, as far as it does not start them now."""
        taken = line.forbid(count)
        if taken is not None:
            self._loop.call_later(STORE_SECONDS, self._took_back, line, *taken)

    def _took_back(self, line: Line, low: int, high: int) -> None:
        if not line.worker.lost:
            self._again(line, line.cut(max(low, line.words[CLAIMED]), high))
