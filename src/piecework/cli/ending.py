"""When a run on the command line is told to end: what is done, and when. No I/O, no clock.

             first signal          grace over       it should be gone by now
                  │                     │                   │            │
running ──────▶ STOP ────────────────▶ KILL ─────────────▶ LEAVE ─────▶ EXIT
                  nothing new is        what still runs     the main     whatever else
                  begun, what runs      is ended            thread is    is stuck
                  is finished                               called back
second signal, or none to read the results:  KILL and LEAVE at once, or soon
deadline: the run stops itself; LEAVE after the grace, for threads cannot be ended
"""

from __future__ import annotations

import math

STOP, KILL, LEAVE, EXIT = STEPS = ("stop", "kill", "leave", "exit")

GRACE_SECONDS = 10.0  # for what runs to be finished; --grace
KILL_SECONDS = 1.0  # for what was killed to be gone
EXIT_SECONDS = 4.0  # for the account to be closed, once nobody waits for tasks any more
LOST_SECONDS = 0.5  # nobody reads results: threads are not waited for longer than that

PIPE_CLOSED = 128 + 13  # what any program ends with whose reader has gone
DEADLINE = 124


class Ending:
    """The plan of one run; `due` gives the steps whose time has come, each once and in order."""

    def __init__(self, grace: float = GRACE_SECONDS, deadline: float | None = None) -> None:
        self.number = 0  # of the signal that ends the run
        self.cause = ""  # signal, lost or deadline: the first of them
        self._grace = grace
        self._plan: dict[str, float] = {}  # what is still to be done, and when
        self._taken = 0  # how many of STEPS are done, or too late
        if deadline is not None:
            self._leave(deadline + grace)

    def signalled(self, number: int, now: float) -> None:
        """SIGINT, SIGTERM or SIGHUP came: the first in good order, any further one at once."""
        again = bool(self.cause)
        self.number = self.number or number
        self.cause = self.cause or "signal"
        if again:
            self._at(KILL, now)
            self._leave(now)
            return
        self._at(STOP, now)
        self._at(KILL, now + self._grace)
        self._leave(now + self._grace + KILL_SECONDS)

    def lost(self, now: float) -> None:
        """Nobody takes the results any more: what still runs is for nothing."""
        if not self.cause:
            self.cause = "lost"
            self._at(KILL, now)
            self._leave(now + LOST_SECONDS)

    def _leave(self, when: float) -> None:
        self._at(LEAVE, when)
        self._at(EXIT, when + EXIT_SECONDS)

    def _at(self, step: str, when: float) -> None:
        if STEPS.index(step) >= self._taken:
            self._plan[step] = min(when, self._plan.get(step, when))

    def due(self, now: float) -> list[str]:
        """What is to be done by now."""
        found = [step for step in STEPS if self._plan.get(step, math.inf) <= now]
        if found:
            self._taken = STEPS.index(found[-1]) + 1
            self._plan = {s: at for s, at in self._plan.items() if STEPS.index(s) >= self._taken}
        if LEAVE in found and not self.cause:
            self.cause = "deadline"
        return found

    def next(self) -> float | None:
        """When something is due."""
        return min(self._plan.values(), default=None)

    def over(self) -> None:
        """The run has ended. Unless it was told to, nothing is left to do."""
        left = EXIT if self.cause else ""
        self._plan = {step: when for step, when in self._plan.items() if step == left}

    @property
    def code(self) -> int:
        """The exit code that goes with the cause; 0: none of ours."""
        if self.number:
            return 128 + self.number
        return {"lost": PIPE_CLOSED, "deadline": DEADLINE}.get(self.cause, 0)
