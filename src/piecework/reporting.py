"""What a run tells about itself: snapshots while it goes, the summary at any time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

from piecework.crew import Crew
from piecework.loop import Loop, Timer
from piecework.master import Master
from piecework.pace import Pace
from piecework.summary import Progress, Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from piecework.watching import Watcher

INTERVAL_SECONDS = 0.1
_GROUPS_MAX = 5


class Reporter:
    """Makes Progress and Summary of a run; calls `tell` with the former while the run goes."""

    def __init__(
        self,
        master: Master,
        crew: Crew,
        loop: Loop,
        name: str | None,
        tell: Callable[[Progress], object] | bool | None,
    ) -> None:
        self._master = master
        self._crew = crew
        self._loop = loop
        self._name = name
        self._watcher = _watcher(name) if tell is True else None
        self._tell = self._watcher or (tell if callable(tell) else None)
        self._pace = Pace()
        self._timer: Timer | None = None

    def start(self) -> None:
        self._pace.add(self._master.started_at, 0)
        if self._tell is not None:
            self._timer = self._loop.call_later(INTERVAL_SECONDS, self._tick)

    def _tick(self) -> None:
        if self._tell is not None and not self._master.finished:
            self._loop.after(self._call, self.progress())
            self._timer = self._loop.call_later(INTERVAL_SECONDS, self._tick)

    def finish(self) -> None:
        """The last snapshot."""
        if self._timer is not None:
            self._timer.cancel()
        if self._tell is not None:
            self._loop.after(self._call, self.progress())
            self._loop.after(self.settle)

    def settle(self) -> None:
        """Whoever waited for the end goes on now: what `progress=True` shows is complete."""
        if self._watcher is not None and self._master.finished:
            self._watcher.end(self.progress(), self.summary())

    def leave(self) -> None:
        """Freed before it has ended: nobody holds the run; nothing of it stays on the screen."""
        if self._watcher is not None and not self._master.finished:
            self._watcher.leave()

    def _call(self, progress: Progress) -> None:
        """Run the user's function; one that raises is not called again."""
        tell = self._tell
        if tell is None:
            return
        try:
            tell(progress)
        except Exception as error:
            self._tell = None
            warnings.warn(
                f"progress raised {type(error).__name__}: {error}; it is not called again",
                RuntimeWarning,
                stacklevel=1,
            )

    def progress(self) -> Progress:
        """A snapshot; from any thread."""
        with self._loop.entered():
            state, now = self._master.state, time.monotonic()
            seconds = self._seconds(now)
            # What was cancelled, or done in an earlier session, says nothing of the pace.
            worked = state.settled - state.cancelled - state.recalled
            self._pace.add(now, worked)
            left = None if state.total is None else max(0, state.total - state.settled)
            low, high = self._pace.eta(left)
            busy, slots = self._crew.slots()
            return Progress(
                total=state.total,
                done=state.done,
                failed=state.failed,
                quarantined=state.quarantined,
                cancelled=state.cancelled,
                running=state.running,
                waiting=state.pending,
                retries=state.retries,
                repeats=state.repeats,
                groups=tuple(state.failures.groups(_GROUPS_MAX)),
                seconds=seconds,
                rate=self._pace.rate or (worked / seconds if seconds > 0 else 0.0),
                eta_low=low,
                eta_high=high,
                recalled=state.recalled,
                busy=busy,
                slots=slots,
                group_count=state.failures.group_count,
                firsts=state.failures.firsts,
                stopped=state.stopped,
            )

    def summary(self) -> Summary:
        """The account so far; final once the run has finished. From any thread."""
        with self._loop.entered():
            state, journal = self._master.state, self._master.journal
            seconds = self._seconds(time.monotonic())
            return Summary(
                name=self._name,
                on=self._crew.on,
                why=self._crew.why,
                inputs=state.drawn,
                total=state.total,
                done=state.done,
                failed=state.failed,
                quarantined=state.quarantined,
                cancelled=state.cancelled,
                executions=state.executions,
                retries=state.retries,
                repeats=state.repeats,
                losses=state.losses,
                duplicates=state.duplicates,
                seconds=seconds,
                rate=(state.settled - state.recalled) / seconds if seconds > 0 else 0.0,
                percentiles=state.timings.percentiles(),
                groups=tuple(state.failures.groups()),
                stopped=state.stopped,
                error=state.error,
                recalled=state.recalled,
                in_flight=journal.in_flight if journal is not None else 0,
            )

    def _seconds(self, now: float) -> float:
        ended = self._master.ended_at
        return (now if ended is None else ended) - self._master.started_at


def _watcher(name: str | None) -> Watcher:
    from piecework.watching import Watcher  # what draws is imported where something is drawn

    return Watcher(name)
