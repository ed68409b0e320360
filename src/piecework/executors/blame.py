"""Who was it? From the words that a dead worker left behind to the tasks that may have killed it.

Pure: the words and what was outstanding go in, numbers come out.

    phase      what the slot did             who is suspected
    IDLE       waited for work               nobody
    DECODING   unpickled a frame             every task of that frame
    RUNNING    ran one task                  that task; with FLUSHING, what was sent for it, too
    SENDING    pickled or sent results       every task that had finished and was not reported
    LOADING    unpickled a function          the function: all its tasks (LOADED is its id)

One suspect is blamed. Several run again one by one, each alone in its worker process, and then a
second death has one suspect.
"""

from __future__ import annotations

from collections.abc import Sequence

from piecework.executors.slot import (
    CURRENT,
    DECODING,
    FLUSHING,
    LOADED,
    LOADING,
    PHASE,
    RUNNING,
    SENDING,
)
from piecework.record import record


@record(frozen=True, slots=True)
class Verdict:
    """Numbers of one slot: suspects from `low` to `high`; below `begun` all had been started."""

    low: int
    high: int
    begun: int

    @property
    def suspects(self) -> int:
        return max(self.high - self.low, 0)


def judge(words: Sequence[int], first: int, frame_end: int, last: int) -> Verdict:
    """Judge one slot of a dead worker.

    `first` is its first number that was not reported, `last` one past its last, `frame_end` one
    past the last number of the frame that `first` came in. With nothing outstanding nobody is
    suspected.
    """
    current, phase = words[CURRENT], words[PHASE]
    if not first <= current < last:
        return Verdict(first, first, first)
    if phase == DECODING:
        return Verdict(current, min(max(frame_end, current + 1), last), current)
    if phase == RUNNING and not words[FLUSHING]:
        return Verdict(current, current + 1, current + 1)
    if phase in (RUNNING, SENDING):
        return Verdict(first, current + 1, current + 1)
    return Verdict(first, first, first)


def loading(words: Sequence[int]) -> int:
    """The id of the function that the slot was loading when it died; 0 where it was not."""
    return words[LOADED] if words[PHASE] == LOADING else 0
