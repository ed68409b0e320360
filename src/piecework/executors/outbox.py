"""From outcomes in any order to reports of stretches: for slots that share this process.

A batch that lies open to several threads, or to thousands of coroutines, ends in any order. An
outbox collects outcomes for some milliseconds and hands them over as stretches without gaps.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from piecework.executors.overheard import LISTENING, Overheard
from piecework.failures import failure_from, with_output
from piecework.task import Batch, Cause, Failure, Report

_TINY_SECONDS = 0.00005  # tasks shorter than this are timed together

Outcome = tuple[int, Any, "Failure | None", float]


class OpenBatch:
    """A batch that slots take tasks from, one at a time, until `claims` is empty."""

    def __init__(
        self,
        fn: Callable[..., Any],
        star: bool,
        batch: Batch,
        report: Callable[[Report], None],
        ended: Callable[[OpenBatch], None],
        call_open: set[OpenBatch],
    ) -> None:
        self.fn = fn
        self.star = star
        self.batch = batch
        self.call_open = call_open
        self.claims: deque[tuple[int, Any]] = deque(enumerate(batch.payloads))
        self._report = report
        self._ended = ended
        self._left = len(self.claims)
        LISTENING.begin()
        self._counting = threading.Lock()

    def outbox(self, worker: str) -> Outbox:
        return Outbox(self, worker)

    def hand_over(self, outcomes: list[Outcome], worker: str, cpu: float = 0.0) -> None:
        """Report the outcomes, as few stretches as they make."""
        if not outcomes:
            return
        outcomes.sort(key=position_of)
        for stretch in stretches_of(outcomes):
            share = cpu * len(stretch) / len(outcomes)
            self._report(_report(self.batch, stretch, worker, share))
        with self._counting:
            self._left -= len(outcomes)
            ended = not self._left
        if ended:
            self._ended(self)

    def give_up(self) -> None:
        """What has not started is reported as cancelled."""
        self._fail_unstarted(Failure("CancelledError", "it was not started", cause="cancelled"))

    def fail(self, error: BaseException) -> None:
        """What has not started is reported as failed."""
        self._fail_unstarted(failure_from(error))

    def _fail_unstarted(self, failure: Failure) -> None:
        outcomes: list[Outcome] = []
        while True:
            try:
                position, _ = self.claims.popleft()  # whoever pops it answers for it
            except IndexError:
                break
            outcomes.append((position, None, failure, 0.0))
        self.hand_over(outcomes, "")


class Outbox:
    """What one slot has finished of a batch and not reported; another thread may flush it."""

    def __init__(self, work: OpenBatch, worker: str) -> None:
        self.overheard = Overheard(work.batch.indexes, worker)
        self._work = work
        self._worker = worker
        self._done: deque[Outcome] = deque()

    def add(
        self,
        position: int,
        value: Any,
        error: BaseException | None,
        seconds: float,
        cause: Cause = "exception",
    ) -> None:
        """The outcome of one position; it is reported with the next flush."""
        failure = None if error is None else failure_from(error, cause=cause)
        if self.overheard.heard:
            output = self.overheard.take(position)
            if failure is not None:
                failure = with_output(failure, output)
        self._done.append((position, value, failure, seconds))

    def flush(self, cpu: float = 0.0) -> None:
        """Report what is there; from any thread: an outcome is popped once."""
        outcomes: list[Outcome] = []
        try:
            while True:
                outcomes.append(self._done.popleft())
        except IndexError:
            pass
        self._work.hand_over(outcomes, self._worker, cpu)


def position_of(outcome: Outcome) -> int:
    return outcome[0]


def stretches_of(outcomes: list[Outcome]) -> list[list[Outcome]]:
    if outcomes[-1][0] - outcomes[0][0] == len(outcomes) - 1:
        return [outcomes]
    found: list[list[Outcome]] = []
    expected = -1
    for outcome in outcomes:
        if outcome[0] != expected:
            found.append([])
        found[-1].append(outcome)
        expected = outcome[0] + 1
    return found


def _report(batch: Batch, stretch: list[Outcome], worker: str, cpu: float) -> Report:
    values = [outcome[1] for outcome in stretch]
    failures = {position: failure for position, _, failure, _ in stretch if failure is not None}
    timings = timings_of([outcome[3] for outcome in stretch])
    return Report(batch, stretch[0][0], values, failures, timings, worker, cpu=cpu)


def timings_of(seconds: list[float]) -> list[tuple[int, float]]:
    """As `(tasks, seconds)`: each by itself, tiny ones together."""
    timings: list[tuple[int, float]] = []
    count, total = 0, 0.0
    for one in seconds:
        if one < _TINY_SECONDS:
            count += 1
            total += one
            continue
        if count:
            timings.append((count, total))
            count, total = 0, 0.0
        timings.append((1, one))
    if count:
        timings.append((count, total))
    return timings
