"""Who was it? From the words that a dead worker left behind to the tasks that may have killed it.

Pure: the words and what was outstanding go in, numbers come out.

    phase      what the slot did             who is suspected
    IDLE       waited for work               nobody
    DECODING   unpickled a frame             every task of that frame
    RUNNING    ran one task                  that task
    SENDING    pickled or sent results       every task that had finished and was not reported
    LOADING    unpickled a function          the function: all its tasks (CURRENT is its id)

One suspect is blamed. Several run again one by one, each alone in its worker process, and then a
second death has one suspect.
"""

from __future__ import annotations

from collections.abc import Sequence

from piecework.executors.slot import CURRENT, DECODING, LOADING, PHASE, RUNNING, SENDING
from piecework.record import record


@record(frozen=True, slots=True)
class Verdict:
    """Numbers of one slot: `suspects` is a half-open range, `finished` counts lost results."""

    low: int
    high: int
    finished: int

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
    if phase == LOADING:
        return Verdict(first, first, 0)
    if first >= last or not first <= current < last:
        return Verdict(first, first, 0)
    if phase == DECODING:
        return Verdict(current, max(frame_end, current + 1), 0)
    if phase == RUNNING:
        return Verdict(current, current + 1, current - first)
    if phase == SENDING:
        return Verdict(first, current + 1, 0)
    return Verdict(first, first, 0)


def loading(words: Sequence[int]) -> int:
    """The id of the function that the slot was loading when it died; 0 where it was not."""
    return words[CURRENT] if words[PHASE] == LOADING else 0
