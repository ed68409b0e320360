"""The only place that decides a task's fate. No I/O, no clock, no random numbers.

                   ┌────────── tried again, after its delay ──────────┐
                   ▼                                                  │
    draw ──▶ pending ── start ──▶ running ── record ─┬─ success ──▶ done
                │                                    ├─ failure, no attempt left ──▶ failed
                │                                    ├─ lost twice in a row ──▶ quarantined
                └──── the run was stopped ────▶ cancelled ◀── never started (reported so)

Rules:
1. A settled task (done, failed, quarantined, cancelled) stays as it is: what is reported of it
   later is a duplicate, counted and dropped.
2. A success counts from whichever attempt it comes; a failure counts only from the attempt that
   is running: an earlier one has been judged already.
3. A task whose worker died under it runs alone next time. The second loss in a row quarantines
   it; with no retries the first loss is its failure, unless memory ran out: whose it was is told
   by running it once more alone, whatever the retries.
4. Once the run is stopped nothing is tried again: what waits for another attempt has failed.
5. An executor that can start no worker any more stops the run; what it refused is cancelled.
6. At the end inputs = done + failed + quarantined + cancelled; `check` raises otherwise.
7. What has failed with attempts left, or because we ended its worker, is not final: a resumed run
   does it again. What an earlier session settled is recalled: it never runs, and halts nothing.

Time and random numbers are passed in, so any order of events can be played in a test.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from piecework.delivery import Piece, cut, each_seconds, inputs_of
from piecework.errors import PieceworkError, RunHalted
from piecework.groups import Failures
from piecework.halting import Halt
from piecework.record import record
from piecework.retry import Retry
from piecework.states import CANCELLED, DONE, FAILED, PENDING, QUARANTINED, RUNNING, States
from piecework.summary import Timings
from piecework.task import Failure, Report, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record(slots=True)
class Again:
    """A task beyond its first attempt: waiting for its next one, or running it."""

    index: int
    payload: Any
    attempt: int  # the one to come, or running
    losses: int  # in a row, up to the attempt before
    failure: Failure  # of the attempt before
    worker: str

    @property
    def alone(self) -> bool:
        return self.losses > 0


class RunState:
    """The account of one run; see the rules on top of this file."""

    def __init__(
        self, retry: Retry | None = None, *, halt: Halt | None = None, total: int | None = None
    ) -> None:
        self.retry = retry or Retry()
        self.halt = halt
        self.total = total
        self.running = self.done = self.failed = self.quarantined = self.cancelled = 0
        self.executions = self.retries = self.repeats = self.losses = self.duplicates = 0
        self.recalled = 0  # settled by an earlier session; in done, failed, quarantined, too
        self.killing = False  # what still runs is being ended by us
        self.unfinal: set[int] = set()  # failed only because the run was ended (rule 7)
        self.in_quarantine: set[int] = set()
        self.failures = Failures()
        self.timings = Timings()
        self.ended = False  # no further input will be drawn
        self.stopping = False  # nothing new is started, nothing is tried again
        self.stopped = ""  # why the run ends before its input does
        self.error: BaseException | None = None  # what iterating raises at the end
        self._states = States()
        self._recalled_failed = 0
        self._again: dict[int, Again] = {}
        self._due: list[tuple[float, int, int]] = []  # (when, index, attempt); may be stale

    # -- counts -------------------------------------------------------------------------------

    @property
    def drawn(self) -> int:
        return self._states.drawn

    @property
    def settled(self) -> int:
        return self.done + self.failed + self.quarantined + self.cancelled

    @property
    def pending(self) -> int:
        """Drawn and not running: not started yet, or waiting for another attempt."""
        return self.drawn - self.settled - self.running

    @property
    def finished(self) -> bool:
        """Nothing more can happen to any task."""
        return (self.ended or self.stopping) and self.settled == self.drawn

    # -- events -------------------------------------------------------------------------------

    def draw(self, count: int) -> range:
        """The next `count` inputs are tasks now: pending."""
        return self._states.draw(count)

    def recall(self, piece: Piece, *, quarantined: bool = False) -> Piece:
        """The next inputs were settled by an earlier session: the piece takes their place.

        One that failed stands alone; `quarantined` says that it was.
        """
        count, failed = len(piece), bool(piece.failures)
        indexes = self._states.draw(count)
        piece.start, piece.recalled = indexes.start, True
        fate = (QUARANTINED if quarantined else FAILED) if failed else DONE
        self._states.move(indexes.start, indexes.stop, PENDING, fate)
        self.recalled += count
        if not failed:
            self.done += count
            return piece
        if quarantined:
            self.quarantined += 1
            self.in_quarantine.add(piece.start)
        else:
            self.failed += 1
        self._recalled_failed += 1
        self.failures.add(next(piece.results()))
        return piece

    def start(self, indexes: range) -> None:
        """These drawn tasks are handed to a worker: running."""
        if not self._states.move(indexes.start, indexes.stop, PENDING, RUNNING):
            raise PieceworkError(f"internal error: tasks {indexes} were started twice")
        self.running += len(indexes)

    def record(
        self, report: Report, now: float, random: Callable[[], float] | None = None
    ) -> list[Piece]:
        """Decide what a report settles; what is to be tried again is due after its delay."""
        batch, count = report.batch, len(report.values)
        self.executions += count + report.repeats
        self.repeats += report.repeats
        self.timings.add(report.timings)
        part = batch.indexes[report.offset : report.offset + count]
        if report.failures or not self._all_done(part):
            return self._record_each(report, part, now, random)
        self.running -= count
        self.done += count
        settled = [
            Piece(
                start=part[0],
                values=report.values,
                failures={},
                inputs=inputs_of(report),
                timings=report.timings,
                attempt=batch.attempt,
                worker=report.worker,
                nbytes=report.nbytes,
            )
        ]
        return settled if self.halt is None else [*settled, *self._halted()]

    def _all_done(self, part: Sequence[int]) -> bool:
        """Settle a whole stretch that ran and succeeded, in one step; False where it is not one."""
        if type(part) is not range or not part:
            return False
        if self._again and any(index in part for index in self._again):
            return False
        return self._states.move(part.start, part.stop, RUNNING, DONE)

    def _record_each(
        self,
        report: Report,
        part: Sequence[int],
        now: float,
        random: Callable[[], float] | None,
    ) -> list[Piece]:
        inputs, seconds = inputs_of(report), each_seconds(report)
        failures: dict[int, Failure] = {}
        kept: list[int] = []
        refusal: Failure | None = None
        for position, index in enumerate(part):
            failure = report.failures.get(report.offset + position)
            if failure is None:
                if self._succeed(index):
                    kept.append(position)
                continue
            if _is_refusal(failure, report):
                refusal, failure = failure, CANCELLED_FAILURE
            task = Again(index, inputs[position], report.batch.attempt, 0, failure, report.worker)
            final = self._fail(task, seconds[position], now, random)
            if final is not None:
                failures[position] = final
                kept.append(position)
        pieces = [*cut(report, part, kept, failures), *self._halted()]
        if refusal is not None:
            from piecework.losses import ExecutorBroken

            pieces += self.stop("broken", ExecutorBroken(refusal.message))
        return pieces

    def _succeed(self, index: int) -> bool:
        """A success counts once, from whichever attempt it comes (rules 1 and 2)."""
        state = self._states.get(index)
        if state not in (PENDING, RUNNING):
            self.duplicates += 1
            return False
        self._again.pop(index, None)
        self._settle(index, state, DONE)
        return True

    def _fail(
        self, task: Again, seconds: float, now: float, random: Callable[[], float] | None
    ) -> Failure | None:
        """The failure that settles the task; None where it is due again or was a duplicate."""
        earlier = self._again.get(task.index)
        self.executions -= task.failure.cause == "cancelled"  # it never started
        if self._states.get(task.index) != RUNNING or task.attempt != _attempt(earlier):
            self.duplicates += 1
            return None
        losses = _losses(earlier) + 1 if task.failure.lost else 0
        self.losses += task.failure.lost
        fate = self._fate(task, losses)
        if fate == PENDING:
            self._try_again(task, losses, now, random)
            return None
        if fate == CANCELLED and earlier is not None:
            fate, task = FAILED, earlier  # it did run before, and this is how that went
            task.attempt -= 1
        self._again.pop(task.index, None)
        self._settle(task.index, RUNNING, fate)
        if fate != CANCELLED:
            self.failures.add(_result(task, seconds))
            self._note_open_end(task, fate)
        return task.failure

    def _note_open_end(self, task: Again, fate: int) -> None:
        ours = self.killing and task.failure.lost
        left = fate == FAILED and self.retry.wanted(task.failure, task.attempt)
        if self.stopping and (ours or left):
            self.unfinal.add(task.index)
        elif fate == QUARANTINED:
            self.in_quarantine.add(task.index)

    def _fate(self, task: Again, losses: int) -> int:
        if task.failure.cause == "cancelled":
            return CANCELLED
        if losses > 1:
            return QUARANTINED
        if self.stopping:
            return FAILED
        unexplained = losses and task.failure.cause == "memory"  # whose it was (rule 3)
        wanted = unexplained or self.retry.wanted(task.failure, task.attempt)
        return PENDING if wanted else FAILED

    def _try_again(
        self, task: Again, losses: int, now: float, random: Callable[[], float] | None
    ) -> None:
        delay = self.retry.delay(task.attempt, random)
        task.attempt += 1
        task.losses = losses
        self._again[task.index] = task
        heapq.heappush(self._due, (now + delay, task.index, task.attempt))
        self._states.set(task.index, PENDING)
        self.running -= 1
        self.retries += 1

    def _settle(self, index: int, before: int, state: int) -> None:
        self._states.set(index, state)
        if before == RUNNING:
            self.running -= 1
        if state == DONE:
            self.done += 1
        elif state == FAILED:
            self.failed += 1
        elif state == QUARANTINED:
            self.quarantined += 1
        else:
            self.cancelled += 1

    # -- further attempts ---------------------------------------------------------------------

    @property
    def next_due(self) -> float | None:
        """When the next attempt is due; None where nothing waits."""
        while self._due and not self._waits(*self._due[0][1:]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def due(self, now: float, most: int) -> list[Again]:
        """Tasks to be handed out again now: running. At most `most`, all of one attempt.

        One that shall run alone comes alone. Call again until the list is empty.
        """
        found: list[Again] = []
        while len(found) < most and (when := self.next_due) is not None and when <= now:
            task = self._again[self._due[0][1]]
            if found and (task.alone or found[0].alone or task.attempt != found[0].attempt):
                break
            heapq.heappop(self._due)
            self._states.set(task.index, RUNNING)
            self.running += 1
            found.append(task)
        return found

    def _waits(self, index: int, attempt: int) -> bool:
        task = self._again.get(index)
        if task is None or task.attempt != attempt:
            return False
        return self._states.get(index) == PENDING

    # -- the end ------------------------------------------------------------------------------

    def end(self, error: BaseException | None = None, reason: str = "input") -> None:
        """The input has ended, or cannot be drawn any further because of `error`."""
        self.ended = True
        if error is not None and not self.stopping:
            self.stopped, self.error = reason, error

    def stop(self, reason: str, error: BaseException | None = None) -> list[Piece]:
        """Nothing is tried again from now on; what was waiting to be has failed (rule 4)."""
        if self.stopping:
            return []
        self.stopping = True
        self.stopped, self.error = reason, error
        waiting = [task for task in self._again.values() if self._waits(task.index, task.attempt)]
        self._due.clear()
        pieces = []
        for task in sorted(waiting, key=lambda task: task.index):
            del self._again[task.index]
            task.attempt -= 1
            self._settle(task.index, PENDING, FAILED)
            self.failures.add(_result(task, 0.0))
            self.unfinal.add(task.index)
            pieces.append(_piece(task.index, [task.payload], task.failure, task.attempt))
        return pieces

    def cancel(self, indexes: range, payloads: Sequence[Any]) -> list[Piece]:
        """These pending tasks were never started and will not be: cancelled."""
        if not indexes:
            return []
        if not self._states.move(indexes.start, indexes.stop, PENDING, CANCELLED):
            raise PieceworkError(f"internal error: tasks {indexes} were started and cancelled")
        self.cancelled += len(indexes)
        return [_piece(indexes.start, payloads, CANCELLED_FAILURE, 1)]

    def _halted(self) -> list[Piece]:
        failed = self.failed + self.quarantined - self._recalled_failed
        done = self.done - (self.recalled - self._recalled_failed)
        if self.halt is None or self.stopping:
            return []
        if not self.halt.reached(failed, done, self.total):
            return []
        return self.stop("halted", RunHalted(_halt_text(self.halt, failed, done)))

    @property
    def kills(self) -> bool:
        """Whether what still runs is ended too: the rule that stopped the run says `now`."""
        return self.stopped == "halted" and self.halt is not None and self.halt.now

    def check(self) -> None:
        """The closing audit: every input has exactly one fate."""
        failed = self.failed + self.quarantined
        if not self.finished or self.running or self.pending or self._states.unsettled:
            wrong = f"{self.running} running, {self.pending} pending, {self._states.unsettled} open"
        elif len(self.failures) != failed:
            wrong = f"{len(self.failures)} failures kept for {failed} failed tasks"
        elif self._again:
            wrong = f"{len(self._again)} attempts left over"
        else:
            return
        raise PieceworkError(f"internal error: the audit does not close: {wrong}. Please report it")


CANCELLED_FAILURE = Failure(
    type="concurrent.futures.CancelledError",
    message="never started: the run was stopped before",
    cause="cancelled",
)


def _is_refusal(failure: Failure, report: Report) -> bool:
    """Whether no worker can be started any more: the executor is broken, not the task."""
    return not report.worker and ("Broken" in failure.type or _BROKEN in failure.bases)


_BROKEN = "concurrent.futures._base.BrokenExecutor"


def _attempt(earlier: Again | None) -> int:
    return 1 if earlier is None else earlier.attempt


def _losses(earlier: Again | None) -> int:
    return 0 if earlier is None else earlier.losses


def _piece(start: int, inputs: Sequence[Any], failure: Failure, attempt: int) -> Piece:
    count = len(inputs)
    failures = dict.fromkeys(range(count), failure)
    return Piece(start, [None] * count, failures, inputs, (), attempt)


def _result(task: Again, seconds: float) -> Result:
    return Result(
        index=task.index,
        input=task.payload,
        ok=False,
        failure=task.failure,
        seconds=seconds,
        attempt=task.attempt,
        worker=task.worker,
    )


def _halt_text(halt: Halt, failed: int, done: int) -> str:
    count = f"{failed} of {failed + done} finished tasks failed"
    if halt.why == "fail":
        return (
            f"{count}, which halt={str(halt)!r} does not allow. What was finished is kept; "
            "summary.groups says what failed"
        )
    return f"{count}: enough are {halt.why}, as halt={str(halt)!r} asks. What was finished is kept"
