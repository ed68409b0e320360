"""When another command may start, and how long it may take. Pure: time and readings come in.

started ──▶ delay ──▶ load ──▶ memory ──▶ may start         seconds to wait, or 0
"""

from __future__ import annotations

from bisect import insort

from piecework.record import record

LOOK_SECONDS = 1.0  # between two looks at load and memory
TIMES_MAX = 1000  # of finished commands, for their median
TIMES_MIN = 3  # as GNU parallel: before that nobody knows what is usual


@record(frozen=True, slots=True)
class Reading:
    """What the machine said: the load, and the bytes of memory that are free."""

    load: float = 0.0
    free: int = 0


class Gate:
    """Says how many seconds to wait before the next start."""

    def __init__(
        self, delay: float = 0.0, load: float | None = None, memory: int | None = None
    ) -> None:
        self.why = ""  # what it waits for
        self._delay = delay
        self._load = load
        self._memory = memory
        self._started: float | None = None

    @property
    def looks(self) -> bool:
        """Whether it needs readings at all."""
        return self._load is not None or self._memory is not None

    def wait(self, now: float, reading: Reading | None) -> float:
        """0 where a command may start now."""
        if self._started is not None and (left := self._started + self._delay - now) > 0:
            return left
        self.why = "" if reading is None else self._closed(reading)
        return LOOK_SECONDS if self.why else 0.0

    def started(self, now: float) -> None:
        """A command was started: the delay begins."""
        self._started = now

    def too_little(self, reading: Reading) -> bool:
        """Less than half of the memory that is asked for: the youngest command has to go."""
        return self._memory is not None and reading.free < self._memory / 2

    def _closed(self, reading: Reading) -> str:
        if self._load is not None and reading.load >= self._load:
            return f"the load is {reading.load:.1f} and --load {self._load:g} is the limit"
        if self._memory is not None and reading.free < self._memory:
            return f"{size(reading.free)} are free and --memfree asks for {size(self._memory)}"
        return ""


class Usual:
    """A time limit as a share of the median of what commands took."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._times: list[float] = []  # sorted
        self._order: list[float] = []  # as they came: the oldest leaves first
        self._next = 0

    def add(self, seconds: float) -> None:
        """A command finished, whichever way, by itself."""
        if len(self._order) == TIMES_MAX:
            self._times.remove(self._order[self._next])
            self._order[self._next] = seconds
            self._next = (self._next + 1) % TIMES_MAX
        else:
            self._order.append(seconds)
        insort(self._times, seconds)

    @property
    def limit(self) -> float | None:
        """Seconds; None while too few have finished."""
        if len(self._times) < TIMES_MIN:
            return None
        return self._share * self._times[len(self._times) // 2]


def size(number: int) -> str:
    """`1.5 GiB`: as exact as is of use."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"
