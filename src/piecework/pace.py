"""How fast a run goes, and when it will end: honest about what is not known. Pure.

    now ─┬─ the last seconds ───┐
         ├─ the last tenth ─────┤  each gives tasks / seconds, and how sure that is;
         ├─ the last half ──────┤  the range goes from the fastest to the slowest
         └─ from the beginning ─┘

A single estimate is wrong whenever tasks differ. Few tasks say little (a count of n is known to
about its root), what comes may be as the last tenth was or as all of it, and a trend may go on.
"""

from __future__ import annotations

import math

RECENT_SECONDS = 3.0  # what `rate` shows
ENOUGH_TASKS = 3  # before, nothing is said of the end
SAMPLES_MAX = 128
_SOON = 0.05  # samples closer than that are left out


class Pace:
    """Samples of how far a run is; old ones get sparse, so an endless run needs no more memory."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def add(self, now: float, worked: int) -> None:
        """Note how many tasks were worked off; those of an earlier session are not."""
        samples = self._samples
        if samples and now - samples[-1][0] < _SOON:
            return
        samples.append((now, worked))
        if len(samples) > SAMPLES_MAX:
            half = len(samples) // 2
            self._samples = samples[:half:2] + samples[half:]

    @property
    def rate(self) -> float:
        """Tasks a second lately; over a longer time where tasks come seldom."""
        if len(self._samples) < 2:
            return 0.0
        now, worked = self._samples[-1]
        for seconds in (RECENT_SECONDS, 10 * RECENT_SECONDS, math.inf):
            since, before = self._since(now - seconds)
            if worked - before >= ENOUGH_TASKS and now > since:
                return (worked - before) / (now - since)
        since, before = self._samples[0]
        return (worked - before) / (now - since) if now > since else 0.0

    def eta(self, left: int | None) -> tuple[float | None, float | None]:
        """Seconds left, at best and at worst; (None, None) while nothing can be said."""
        if left is None or len(self._samples) < 2:
            return None, None
        if not left:
            return 0.0, 0.0
        now, worked = self._samples[-1]
        seconds = now - self._samples[0][0]
        rates: list[tuple[float, float]] = []  # each with its doubt, as a share
        for stretch in (seconds, seconds / 2, seconds / 10):
            since, before = self._since(now - stretch)
            count = worked - before
            if count >= ENOUGH_TASKS and now > since:
                rates.append((count / (now - since), 1 / math.sqrt(count)))
        if not rates:
            return None, None
        overall, lately = rates[0][0], rates[-1][0]
        # If it goes faster and faster, or slower and slower, it may well go on so.
        rates.append((lately * math.sqrt(lately / overall), 0.0))
        fastest = max(rate * (1 + doubt) for rate, doubt in rates)
        slowest = min(rate * (1 - doubt) for rate, doubt in rates)
        return left / fastest, left / slowest

    def _since(self, when: float) -> tuple[float, int]:
        """The last sample not later than `when`, else the first."""
        found = self._samples[0]
        for sample in self._samples:
            if sample[0] > when:
                break
            found = sample
        return found
