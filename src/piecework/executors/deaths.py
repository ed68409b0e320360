"""What a death means for the tasks that the worker had: pure decisions, no I/O.

    one suspect            blamed: it fails with the cause of death
    several suspects       again, one by one, each alone in its worker
    the rest               again, as if nothing had happened
    nobody, but a function was being loaded, twice: all its tasks fail

Ended by us: a task that passed its time limit fails so, one that was cancelled or terminated is
over, and whoever ran beside it is innocent. Of memory nobody can tell who took it: there whoever
ran is a suspect.
"""

from __future__ import annotations

from collections.abc import Callable

from piecework.executors.blame import Verdict, judge, loading
from piecework.executors.slot import DECODING, PHASE
from piecework.executors.verdicts import (
    broken_failure,
    cancelled_failure,
    lost_failure,
    memory_failure,
    timeout_failure,
)
from piecework.executors.work import Stretch
from piecework.executors.worker_process import Line, WorkerProcess
from piecework.task import Failure

START_FAILURES = 3  # workers in a row that died before they were ready
FRUITLESS_DEATHS = 20  # deaths in a row with nobody to blame and no result between them
LOADING_DEATHS = 2


class Estate:
    """What a dead worker leaves: to be failed, to be run alone, to be run again."""

    __slots__ = ("again", "broken", "failed", "guilty_call", "suspects")

    def __init__(self) -> None:
        self.failed: list[tuple[Stretch, Failure]] = []
        self.suspects: list[Stretch] = []
        self.again: list[Stretch] = []
        self.guilty_call: tuple[int, Failure] | None = None
        self.broken: Failure | None = None


class Deaths:
    """Judges deaths, and knows when they go on without end. `oom_kills` counts the kernel's."""

    def __init__(self, *, coroutines: bool, oom_kills: Callable[[], int]) -> None:
        self._coroutines = coroutines
        self._count_oom = oom_kills
        self._oom_kills = oom_kills()
        self._unexplained = 0  # kills for memory that no death of ours has explained yet
        self._start_failures = 0
        self._supervisors = 0
        self._fruitless = 0
        self._loading: dict[int, int] = {}

    def worker_ready(self) -> None:
        self._start_failures = self._supervisors = 0

    def supervisor_lost(self) -> Failure | None:
        """With it went all its workers; the failure of everything where that happens at once
        every time."""
        self._supervisors += 1
        if self._supervisors < START_FAILURES:
            return None
        return broken_failure("the supervisor process ends before it has started one", None)

    def result_came(self) -> None:
        self._fruitless = 0

    def settle(self, worker: WorkerProcess, *, stopping: bool) -> Estate:
        """The worker is dead: what becomes of what it had. Takes all of it off its books."""
        kills = self._count_oom()
        self._unexplained += kills - self._oom_kills
        self._oom_kills = kills
        failure = lost_failure(worker, memory=self._unexplained > 0)
        self._unexplained -= failure.cause == "memory"
        estate = Estate()
        if worker.doomed == "timeout":
            self._after_timeout(worker, estate)
        elif worker.doomed == "memory":
            self._after_death(worker, estate, memory_failure(worker))
        elif worker.doomed in ("cancelled", "terminated"):
            self._after_order(worker, estate, failure)
        elif not worker.doomed:
            self._after_death(worker, estate, failure)
        for line in worker.lines:
            estate.again += line.cut(0, line.next)
        if worker.doomed == "terminated":
            estate.failed += [(stretch, cancelled_failure()) for stretch in estate.again]
            estate.again = []
        self._count(worker, estate, stopping=stopping)
        return estate

    def _count(self, worker: WorkerProcess, estate: Estate, *, stopping: bool) -> None:
        if worker.stopped or worker.doomed:  # it went because it was told to
            return
        if not (worker.ready or stopping):
            self._start_failures += 1
        self._fruitless = 0 if estate.failed or estate.guilty_call else self._fruitless + 1
        if estate.guilty_call:
            self._start_failures = 0
        if self._start_failures >= START_FAILURES or self._fruitless >= FRUITLESS_DEATHS:
            estate.broken = broken_failure(lost_failure(worker, memory=False).message, None)

    def _after_death(self, worker: WorkerProcess, estate: Estate, failure: Failure) -> None:
        held = [line for line in worker.lines if line.sent]
        verdicts = [self._judge(worker, line) for line in held]
        total = sum(verdict.suspects for verdict in verdicts)
        suspects: list[Stretch] = []
        for line, verdict in zip(held, verdicts, strict=True):
            line.count_repeats(verdict.begun if total > 1 else verdict.low)
            suspects += line.cut(verdict.low, verdict.high)
        if total == 1:
            estate.failed.append((suspects[0], failure))
        for stretch in suspects if total > 1 else ():
            estate.suspects.extend(stretch.singles())
        if not total and not worker.doomed:
            self._suspect_call(held, estate, failure)

    def _judge(self, worker: WorkerProcess, line: Line) -> Verdict:
        first, last = line.sent[0].first, line.sent[-1].end
        if self._coroutines and worker.ready:  # there all that was sent has started
            return Verdict(first, last, last)
        return judge(line.words, first, line.frame_ends[0], last)

    def _suspect_call(self, held: list[Line], estate: Estate, failure: Failure) -> None:
        for call in {loading(line.words) for line in held} - {0}:
            self._loading[call] = self._loading.get(call, 0) + 1
            if self._loading[call] >= LOADING_DEATHS:
                estate.guilty_call = (call, failure)

    def _after_timeout(self, worker: WorkerProcess, estate: Estate) -> None:
        index, number = worker.timed_out
        line = worker.lines[index]
        sent = line.find(number)
        if sent is None:  # it finished in the last moment
            return
        limit = sent.work.call.limit or 0.0
        for other in worker.lines:
            running = other.running()
            other.count_repeats(running if other is line else running + 1)
        busy = [other for other in worker.lines if other.running()]
        if len(busy) > 1 and not worker.stacks:
            # It did not even say where it is: one of them holds the interpreter, and which one
            # shows only where each has its time alone.
            for other in busy:
                for stretch in other.cut(other.running(), other.running() + 1):
                    stretch.work.repeats += other is line
                    estate.suspects.extend(stretch.singles())
            return
        end = number + 1
        if line.words[PHASE] == DECODING:  # it hung while a whole frame was unpickled
            end = max(end, line.frame_ends[0])
        stretches = line.cut(number, end)
        if sum(map(len, stretches)) == 1:
            estate.failed.append((stretches[0], timeout_failure(worker, limit)))
        else:
            for stretch in stretches:
                estate.suspects.extend(stretch.singles())

    def _after_order(self, worker: WorkerProcess, estate: Estate, failure: Failure) -> None:
        for line in worker.lines:
            running = line.running()
            line.count_repeats(running)
            for stretch in line.cut(running, running + 1) if running else ():
                if worker.doomed == "terminated":
                    estate.failed.append((stretch, failure))
                elif stretch.work.call.cancelled:
                    estate.failed.append((stretch, cancelled_failure()))
                else:  # a neighbour, of another call
                    stretch.work.repeats += 1
                    estate.again.append(stretch)
