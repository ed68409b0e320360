"""What `on="auto"` measures beside durations: crowded cores, and who gets to run meanwhile.

Sampling is imported by worker processes: it costs them next to nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from piecework.bases import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TICK_SECONDS = 0.0003  # a thread that wakes as often as it can, undisturbed
TICKS_SHARE = 0.3  # of the ticks that were possible: more means that it was let to run


class Crowding:
    """How much of the time that a process wanted to compute it got a core.

    Where others want the same cores a task that computes seems to wait. The kernel knows better.
    """

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int]] = {}

    def share(self, worker: str) -> float:
        """For the process "process 123", since the last call; 1 where nobody knows."""
        kind, _, pid = worker.partition(" ")
        now = _ran_and_waited(pid) if kind == "process" else None
        before = self._before.get(worker, (0, 0))
        if now is None:
            return 1.0
        self._before[worker] = now
        ran, waited = now[0] - before[0], now[1] - before[1]
        return max(0.1, ran / (ran + waited)) if ran > 0 and waited >= 0 else 1.0


def _ran_and_waited(pid: str) -> tuple[int, int] | None:
    """Nanoseconds that the threads of a process ran, and were kept waiting for a core."""
    ran = waited = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                one, other, _ = file.read().split()
            ran, waited = ran + int(one), waited + int(other)
    except (OSError, ValueError):  # another system than Linux, or a kernel built without it
        return None
    return ran, waited


class Sampled(NamedTuple):
    """A value, and how often another thread got to run while it was made."""

    value: Any
    ticks: int
    seconds: float


class Sampling:
    """Calls `fn` with a thread beside it that wakes up as often as it can.

    While C code has let go of the interpreter lock that is every 0.3 ms; while it is held, only
    when it changes hands, every 5 ms.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, item: Any) -> Sampled:
        ticks, over = 0, False

        def tick() -> None:
            nonlocal ticks
            while not over:
                time.sleep(TICK_SECONDS / 2)
                ticks += not over

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        started = time.perf_counter()
        try:
            value = self.fn(item)
        finally:
            seconds = time.perf_counter() - started
            over = True
            thread.join()
        return Sampled(value, ticks, seconds)
