"""When the next command may start: asks the machine, and `limits.py` what follows from it."""

from __future__ import annotations

import os
import time
from typing import Protocol

from piecework.cli.exec.limits import LOOK_SECONDS, Gate, Reading
from piecework.screen import say

SILENT_SECONDS = 10.0  # waiting for longer than that, with nothing running, is said once


class Gives(Protocol):
    """An executor, as far as a lack of memory concerns it."""

    def give_back_youngest(self) -> object:
        """End the command that was started last; it runs again later."""


class Pace:
    """The gate of an executor: called before each start, says for how long to wait."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._reading: Reading | None = None
        self._read_at = 0.0
        self._idle_since: float | None = None
        self._said = False

    def __call__(self, running: int) -> float:
        """Seconds before another command may start; 0: now."""
        now = time.monotonic()
        reading = self._look(now) if self._gate.looks else None
        wait = self._gate.wait(now, reading)
        if not wait:
            self._gate.started(now)
            self._idle_since = None
        elif not running and self._gate.why:
            self._explain(now)
        return wait

    def relieve(self, executor: Gives) -> float:
        """Where memory is very short end the youngest command; seconds to the next look."""
        reading = self._look(time.monotonic())
        if self._gate.too_little(reading):
            executor.give_back_youngest()
        return LOOK_SECONDS

    def _look(self, now: float) -> Reading:
        if self._reading is None or now - self._read_at >= LOOK_SECONDS:
            self._reading = Reading(os.getloadavg()[0], free_memory())
            self._read_at = now
        return self._reading

    def _explain(self, now: float) -> None:
        if self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= SILENT_SECONDS and not self._said:
            self._said = True
            say(f"piecework: nothing starts: {self._gate.why}.")


def free_memory() -> int:
    """Bytes that can be had without swapping."""
    try:
        with open("/proc/meminfo", "rb") as file:
            text = file.read()
        return int(text.partition(b"MemAvailable:")[2].split(None, 1)[0]) * 1024
    except (OSError, ValueError, IndexError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
