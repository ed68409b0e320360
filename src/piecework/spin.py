"""Looking a little before sleeping: a sleeper takes 20 to 60 µs to wake, a look takes one.

Each look gives way first, to whoever shares the processor: often the one that is waited for. Where
giving way took long, other work wants the processor, and for a while there is no looking at all.
"""

from __future__ import annotations

import os
import time

SPIN_SECONDS = 50e-6
_LONG_SECONDS = 0.0005  # giving way took that long: somebody else had work to do
_CROWDED_SECONDS = 0.05

_give_way = getattr(os, "sched_yield", None) or (lambda: time.sleep(0))


class Spin:
    """`begin`, then look for as long as `goes_on` says so."""

    __slots__ = ("_before", "_crowded_until", "_seconds", "_until")

    def __init__(self, seconds: float = SPIN_SECONDS) -> None:
        self._seconds = seconds
        self._before = self._until = self._crowded_until = 0.0

    def begin(self) -> None:
        now = self._before = time.perf_counter()
        self._until = now + self._seconds if now >= self._crowded_until else now

    def goes_on(self) -> bool:
        """Give way, then say whether to look again; False: it is time to sleep."""
        if self._before >= self._until:
            return False
        _give_way()
        now = time.perf_counter()
        if now - self._before > _LONG_SECONDS:
            self._crowded_until = now + _CROWDED_SECONDS
            return False
        self._before = now
        return now < self._until
