"""The engine of a process executor: hands work to slots, takes results, survives every death.

    pending ──assign──▶ lines (at most two frames each) ──▶ results ──▶ deliver
       ▲                   │ idle slot: take back what another has not started
       └── not to blame ───┴── a worker dies: judge ──▶ blamed: its failure
                                                   └──▶ suspects: again, one by one, alone

Everything here runs with the loop's lock held and never blocks. One worker's death costs at most
the tasks that it was running; when workers cannot be started at all the engine breaks, and says
so to everything that waits.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from piecework import codec
from piecework.errors import CannotPickle
from piecework.executors import channel
from piecework.executors.blame import judge, loading
from piecework.executors.future import TaskFuture
from piecework.executors.launcher import Launcher
from piecework.executors.slot import CLAIMED, DECODING, PHASE
from piecework.executors.verdicts import (
    broken_failure,
    cancelled_failure,
    lost_failure,
    oom_kills,
    timeout_failure,
)
from piecework.executors.work import BatchWork, Call, SingleWork, Stretch, Timings, Work
from piecework.executors.workers import Line, WorkerProcess
from piecework.failures import failure_from
from piecework.loop import Loop, Timer
from piecework.task import Failure

FRAME_SECONDS = 0.004  # single calls travel together up to about this much work
FRAME_CALLS = 256
START_FAILURES = 3  # workers in a row that died before they were ready
FRUITLESS_DEATHS = 20  # deaths in a row with nobody to blame and no result between them
STEAL_AFTER = 0.001
TAKE_BACK_AFTER = 0.0002
WATCH_SECONDS = 0.05
TERM_GRACE = 0.2
EXIT_GRACE = 1.0
STOP_GRACE = 30.0


class Engine:
    """All that a ProcessExecutor does; the executor itself is a thin front of it."""

    def __init__(
        self,
        *,
        workers: int,
        threads: int,
        coroutines: int,
        method: str,
        initializer: Callable[..., Any] | None,
        initargs: tuple[Any, ...],
        tasks_per_worker: int | None,
        limit: float | None,
    ) -> None:
        self.loop = Loop("piecework-processes")
        self.loop.on_error = self._fault
        self.loop.on_fork = self._forked
        self.max_workers = workers
        self.threads = threads
        self.coroutines = coroutines
        self.tasks_per_worker = tasks_per_worker
        self.singles = Call(b"", limit=limit)
        self.workers: dict[int, WorkerProcess] = {}
        self.pending: deque[Stretch] = deque()
        self.suspects: deque[Stretch] = deque()
        self.broken: Failure | None = None
        self.stopping = False
        self.closed = False
        self.room_wanted: Callable[[], None] | None = None
        self._launcher = Launcher(self.loop, method, initializer, initargs, self._on_process)
        self._method = method
        self._numbers = 0
        self._start_failures = 0
        self._fruitless = 0
        self._watching: Timer | None = None
        self._balancing: Timer | None = None
        self._limit_min = math.inf
        self._loading_deaths: dict[int, int] = {}
        self._oom_kills = oom_kills()

    # -- work comes in -------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        return self.max_workers * max(self.threads, self.coroutines, 1)

    def submit_single(self, work: SingleWork) -> None:
        self._limit_min = min(self._limit_min, work.call.limit or math.inf)
        if not self.pending:
            line = self._free_line()
            if line is not None and work.may_run():
                self._send_singles(line, [work])
                self._grow()
                return
        self.pending.append(Stretch(work, 0, 1))
        self.assign()

    def submit_batch(self, work: BatchWork) -> None:
        self._limit_min = min(self._limit_min, work.call.limit or math.inf)
        if self.broken is not None:
            self._fail(Stretch(work, 0, len(work.batch)), self.broken)
        elif work.batch.alone:
            self.suspects.extend(Stretch(work, 0, len(work.batch)).singles())
        else:
            self.pending.append(Stretch(work, 0, len(work.batch)))
        self.assign()

    def room(self) -> int:
        """Batches that would not have to wait behind two others at their slot."""
        if self.coroutines:
            waiting = sum(len(stretch) for stretch in self.pending)
            running = sum(w.lines[0].outstanding for w in self.workers.values())
            return max(0, self.slots - waiting - running)
        lines = [line for w in self.workers.values() if w.usable for line in w.lines]
        free = sum(1 for line in lines if not line.sent)
        free += sum(1 for line in lines if line.sent and line.has_room())
        starting = self.max_workers - sum(1 for w in self.workers.values() if w.serving)
        free += max(0, starting) * self.threads
        return max(0, free - len(self.pending))

    # -- handing out ---------------------------------------------------------------------------

    def assign(self) -> None:
        """Send what is pending to the slots that have room; start workers where it helps."""
        if self.closed or self.broken is not None:
            return
        if self.suspects:
            self._assign_suspects()
        while self.pending:
            line = self._free_line()
            if line is None:
                break
            self._send_next(line)
        self._grow()
        if self._balancing is None and not self.pending and self._may_balance():
            self._balancing = self.loop.call_later(STEAL_AFTER, self._balance)
        self._stop_if_done()

    def _free_line(self) -> Line | None:
        """An idle line, else one that will be idle soon. The least loaded first."""
        best = None
        for worker in self.workers.values():
            if not worker.usable or worker.reserved:
                continue
            for line in worker.lines:
                if self.coroutines:
                    if line.outstanding < self.coroutines and (
                        best is None or line.outstanding < best.outstanding
                    ):
                        best = line
                elif not line.sent:
                    return line
                elif best is None and line.has_room():
                    best = line
        if best is not None and best.sent and not self.coroutines and self._can_grow():
            return None  # a fresh worker will take it sooner than a busy one
        return best

    def _send_next(self, line: Line) -> None:
        stretch = self.pending.popleft()
        quota = self._quota(line)
        work = stretch.work
        if isinstance(work, BatchWork):
            if len(stretch) > quota:
                self.pending.appendleft(Stretch(work, stretch.start + quota, stretch.stop))
                stretch = Stretch(work, stretch.start, stretch.start + quota)
            self._send_tasks(line, work, stretch.start, stretch.stop)
            return
        works = [work] if work.may_run() else []
        while self.pending and len(works) < quota:
            following = self.pending[0].work
            if not isinstance(following, SingleWork):
                break
            self.pending.popleft()
            if following.may_run():
                works.append(following)
        if works:
            self._send_singles(line, works)

    def _quota(self, line: Line) -> int:
        """How many tasks this line may get now."""
        quota = sys.maxsize
        if self.coroutines:
            quota = self.coroutines - line.outstanding
        elif isinstance(self.pending[0].work if self.pending else None, SingleWork):
            mean = self.singles.seconds
            share = -(-(len(self.pending) + 1) // (2 * self.max_workers * self.threads))
            quota = 1 if mean is None else int(FRAME_SECONDS / max(mean, 1e-7))
            quota = min(max(quota, 1), FRAME_CALLS, share)
        if self.tasks_per_worker is not None:
            quota = min(quota, self.tasks_per_worker - line.worker.taken)
        return max(quota, 1)

    def _send_singles(self, line: Line, works: list[SingleWork]) -> None:
        first = line.next
        for work in works:
            line.note(work, 0, 1)
        self._count(line.worker, len(works))
        line.post_singles([work.data for work in works], first)
        self._watch()

    def _send_tasks(self, line: Line, work: BatchWork, start: int, stop: int) -> None:
        payloads = work.batch.payloads[start:stop]
        try:
            body, large = codec.dumps_buffers(payloads, what="input")
        except CannotPickle as error:
            self._refuse(line, work, start, stop, error)
            return
        buffers = [buffer.raw() for buffer in large]
        work.batch.nbytes += len(body) + sum(buffer.nbytes for buffer in buffers)
        line.teach(work.call)
        first = line.note(work, start, stop - start)
        self._count(line.worker, stop - start)
        line.post_tasks(work.call, body, first, stop - start, buffers)
        self._watch()

    def _refuse(
        self, line: Line, work: BatchWork, start: int, stop: int, error: CannotPickle
    ) -> None:
        """An input cannot be pickled: find which, fail those, send the others."""
        if stop - start == 1:
            self._fail(Stretch(work, start, stop), failure_from(error, cause="pickle"))
            return
        for position in range(start, stop):
            self._send_tasks(line, work, position, position + 1)

    def _count(self, worker: WorkerProcess, tasks: int) -> None:
        worker.taken += tasks
        if self.tasks_per_worker is not None and worker.taken >= self.tasks_per_worker:
            worker.retiring = True

    def _assign_suspects(self) -> None:
        """Give each suspect a worker of its own, and nobody beside it."""
        for worker in self.workers.values():
            if self.suspects and worker.ready and worker.usable and worker.idle:
                worker.exclusive, worker.reserved = True, False
                stretch = self.suspects.popleft()
                if isinstance(stretch.work, SingleWork):
                    self._send_singles(worker.lines[0], [stretch.work])
                else:
                    self._send_tasks(worker.lines[0], stretch.work, stretch.start, stretch.stop)
                if worker.idle:  # it was refused before it was sent
                    worker.exclusive = False
        taken = [w for w in self.workers.values() if w.exclusive or w.reserved]
        if self.suspects and not taken:
            for worker in self.workers.values():
                if worker.usable:
                    worker.reserved = True
                    break

    def _can_grow(self) -> bool:
        alive = sum(1 for w in self.workers.values() if w.serving)
        return alive < self.max_workers

    def _grow(self) -> None:
        """Start as many workers as there is work for that nobody is waiting to take."""
        if not self.pending and not self.suspects:
            return
        wanted = len(self.pending) + bool(self.suspects)
        if wanted and self.coroutines:
            wanted = self.max_workers
        alive = [w for w in self.workers.values() if w.serving]
        starting = sum(1 for w in alive if not w.ready and w.idle)
        for _ in range(min(wanted - starting, self.max_workers - len(alive))):
            self._start_worker()

    def _start_worker(self) -> None:
        self._numbers += 1
        worker = WorkerProcess(self._numbers, self.loop, self.threads)
        self.workers[worker.number] = worker
        worker.watch(self._on_line)
        worker.lines[0].post(channel.SETUP, self._launcher.setup(self.coroutines))
        self._launcher.start(worker)
        while self.pending and not worker.lines[-1].sent:
            line = next(line for line in worker.lines if not line.sent)
            before = len(self.pending)
            if not self.suspects or len(self.workers) > 1:
                self._send_next(line)
            if len(self.pending) == before:
                break

    # -- balance -------------------------------------------------------------------------------

    def _may_balance(self) -> bool:
        """True where a slot has more than one task: only then can another one help."""
        if self.coroutines:
            return False
        return any(
            line.outstanding > 1 for worker in self.workers.values() for line in worker.lines
        )

    def _balance(self) -> None:
        """Let idle slots take what busy ones have not started."""
        self._balancing = None
        if self.pending or self.closed:
            return
        idle = [
            line
            for worker in self.workers.values()
            if worker.usable and worker.ready and not worker.reserved
            for line in worker.lines
            if not line.sent
        ]
        if not idle:
            return
        lines = [
            line
            for worker in self.workers.values()
            if not (worker.lost or worker.exclusive)
            for line in worker.lines
            if line.unstarted
        ]
        lines.sort(key=lambda line: line.unstarted, reverse=True)
        for victim, _ in zip(lines, idle, strict=False):
            left = victim.seconds_left()
            if left is not None and left < STEAL_AFTER and victim.seen != victim.running():
                continue
            taken = victim.forbid(max(1, victim.unstarted // 2))
            if taken is not None:
                self.loop.call_later(TAKE_BACK_AFTER, self._take_back, victim, *taken)
        if lines:
            for worker in self.workers.values():
                worker.look()
            self._balancing = self.loop.call_later(5 * STEAL_AFTER, self._balance)

    def _take_back(self, line: Line, low: int, high: int) -> None:
        """What the slot had not claimed when it was told is ours again; see slot.py."""
        if line.worker.lost:
            return
        self._requeue(line.cut(max(low, line.words[CLAIMED]), high))
        self._after_results(line.worker)

    def _requeue(self, stretches: list[Stretch]) -> None:
        """Work that was at a slot waits again, at the front; unless it was given up meanwhile."""
        wanted = []
        for stretch in stretches:
            if stretch.work.call.cancelled:
                self._fail(stretch, cancelled_failure())
            else:
                wanted.append(stretch)
        self.pending.extendleft(reversed(wanted))

    # -- results -------------------------------------------------------------------------------

    def _on_line(self, line: Line) -> None:
        """Read what a worker sent; its end is where it died."""
        worker = line.worker
        try:
            for _ in range(8):  # then let the others have a turn
                if not line.frames.fill():
                    self._line_ended(line)
                    return
                for frame in line.frames.frames():
                    self._on_frame(line, frame)
                    del frame
                if line.frames.drained:
                    break
        except BlockingIOError:
            pass
        except OSError:
            self._line_ended(line)
            return
        self._after_results(worker)

    def _after_results(self, worker: WorkerProcess) -> None:
        if worker.exclusive and worker.idle:
            worker.exclusive = False
        if worker.retiring and worker.idle and not worker.stopped:
            self._stop_worker(worker)
        self.assign()
        if self.room_wanted is not None:
            self.room_wanted()

    def _on_frame(self, line: Line, frame: channel.Frame) -> None:
        if frame.kind == channel.RESULTS:
            self._on_results(line, frame)
        elif frame.kind == channel.SKIPPED:
            self._requeue(line.cut(frame.first, frame.first + frame.count))
        elif frame.kind == channel.READY:
            line.worker.ready = True
            self._start_failures = 0
        elif frame.kind == channel.REFUSED:
            self._break(broken_failure("its initializer raised", pickle.loads(frame.body)))

    def _on_results(self, line: Line, frame: channel.Frame) -> None:
        values, failures, timings, cpu = pickle.loads(frame.body)
        nbytes = len(frame.body)
        if frame.flags & channel.PER_ITEM:
            nbytes += sum(len(buffer) for buffer in frame.buffers)
            self._unpack(values, frame, failures)
        if not line.sent or line.sent[0].first != frame.first:
            self._stray(line, frame, values, failures, timings, cpu)
            return
        self._fruitless = 0
        worker = line.worker.name
        sent = line.sent[0]
        if frame.count <= sent.count and isinstance(sent.work, BatchWork):
            start, work = sent.start, sent.work
            line.settle(frame.count)
            if failures:
                shift = start - frame.first
                failures = {number + shift: f for number, f in failures.items()}
            for count, seconds in timings:
                if seconds:
                    work.call.learn(count, seconds)
            work.deliver(start, values, failures, timings, worker, nbytes, cpu)
            return
        self._deliver_parts(line, frame, values, failures, timings, cpu)

    def _deliver_parts(
        self,
        line: Line,
        frame: channel.Frame,
        values: list[Any],
        failures: dict[int, Failure],
        timings: Timings,
        cpu: float,
    ) -> None:
        """Results of several works in one frame: each gets its own."""
        mean = sum(seconds for _, seconds in timings) / frame.count
        number = 0
        for sent, start, count in line.settle(frame.count):
            sent.work.call.learn(count, mean * count)
            for offset in range(count):
                failure = failures.get(frame.first + number)
                self._deliver_one(
                    sent.work, start + offset, values[number], failure, mean, line.worker.name
                )
                number += 1

    def _stray(
        self,
        line: Line,
        frame: channel.Frame,
        values: list[Any],
        failures: dict[int, Failure],
        timings: Timings,
        cpu: float,
    ) -> None:
        """Results that do not begin where the books do (coroutines end in any order)."""
        mean = sum(seconds for _, seconds in timings) / max(frame.count, 1)
        for offset in range(frame.count):
            number = frame.first + offset
            for stretch in line.cut(number, number + 1):
                stretch.work.call.learn(1, mean)
                self._deliver_one(
                    stretch.work,
                    stretch.start,
                    values[offset],
                    failures.get(number),
                    mean,
                    line.worker.name,
                )

    def _deliver_one(
        self,
        work: Work,
        position: int,
        value: Any,
        failure: Failure | None,
        seconds: float,
        worker: str,
    ) -> None:
        if isinstance(work, BatchWork):
            failures = {} if failure is None else {position: failure}
            work.deliver(position, [value], failures, [(1, seconds)], worker)
        elif failure is not None:
            self.loop.after(work.future.fail, failure)
        else:
            self.loop.after(work.future.set_result, value)

    def _unpack(
        self, values: list[Any], frame: channel.Frame, failures: dict[int, Failure]
    ) -> None:
        """Unpickle each value by itself: one that cannot be is a failure of its task alone."""
        at = 0
        for offset, packed in enumerate(values):
            if packed is None:
                continue
            data, count = packed
            buffers = frame.buffers[at : at + count]
            at += count
            try:
                values[offset] = codec.loads(data, buffers)
            except BaseException as error:
                failures[frame.first + offset] = failure_from(error, cause="pickle")
                values[offset] = None
        frame.buffers.clear()

    def _fail(self, stretch: Stretch, failure: Failure) -> None:
        """Settle every position of a stretch with the same failure."""
        work, count = stretch.work, len(stretch)
        if isinstance(work, BatchWork):
            failures = dict.fromkeys(range(stretch.start, stretch.stop), failure)
            work.deliver(stretch.start, [None] * count, failures, [(count, 0.0)], "")
        elif not work.future.done():
            if failure.cause == "cancelled" and work.future.cancel():
                self.loop.after(work.future.set_running_or_notify_cancel)
            else:
                self.loop.after(_fail_future, work.future, failure)

    # -- watching ------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._watching is None:
            interval = max(0.005, min(WATCH_SECONDS, self._limit_min / 10))
            self._watching = self.loop.call_later(interval, self._look)

    def _look(self) -> None:
        """End what passed its time limit; have results sent that wait behind a long task."""
        self._watching = None
        now = time.monotonic()
        for worker in list(self.workers.values()):
            worker.look()
            for line in worker.lines:
                if not line.seen or self.coroutines:
                    continue
                sent = line.find(line.seen)
                limit = sent.work.call.limit if sent is not None else None
                if limit is not None and now - line.seen_at >= limit and not worker.doomed:
                    self._time_out(worker, line, line.seen)
                elif line.seen > line.sent[0].first and line.asked != line.seen:
                    line.asked = line.seen
                    worker.tell(b"F")
        if any(not worker.idle for worker in self.workers.values()):
            self._watch()

    def _time_out(self, worker: WorkerProcess, line: Line, number: int) -> None:
        worker.doomed = "timeout"
        worker.timed_out = (line.number, number)
        worker.tell(b"D")
        self.loop.call_later(0.05, self._end, worker)

    def _end(self, worker: WorkerProcess) -> None:
        """SIGTERM, and SIGKILL after a grace, to the worker and all that it started."""
        if worker.lost:
            return
        worker.read_stacks()
        self._launcher.kill(worker, signal.SIGTERM)
        self.loop.call_later(TERM_GRACE, self._kill, worker)

    def _kill(self, worker: WorkerProcess) -> None:
        if not worker.exited:
            self._launcher.kill(worker, signal.SIGKILL)

    # -- deaths --------------------------------------------------------------------------------

    def _line_ended(self, line: Line) -> None:
        worker = line.worker
        worker.close_line(line)
        worker.dying = True
        if worker.lost:
            return
        if worker.exited:
            self._bury(worker)
        elif all(not other.open for other in worker.lines):
            # Its exit status is on its way; if it closed its socket and lives on, it is ended.
            self.loop.call_later(EXIT_GRACE, self._overdue, worker)

    def _overdue(self, worker: WorkerProcess) -> None:
        if not worker.lost:
            self._kill(worker)
            self._bury(worker)

    def _on_process(self, worker: WorkerProcess | None) -> None:
        """The launcher knows more: a worker started or exited; None: the supervisor is gone."""
        if worker is None:
            self._supervisor_lost()
        elif worker.exited and not worker.lost:
            for line in worker.lines:  # the last results first
                if line.open:
                    self._drain(line)
            self._bury(worker)

    def _drain(self, line: Line) -> None:
        with contextlib.suppress(OSError):
            while line.open and line.frames.fill():
                for frame in line.frames.frames():
                    self._on_frame(line, frame)
                    del frame

    def _supervisor_lost(self) -> None:
        """Its workers are beyond our sight: end them, and hand their work out again."""
        for worker in list(self.workers.values()):
            if not worker.lost:
                worker.doomed = worker.doomed or "supervisor"
                if worker.pid:
                    with contextlib.suppress(OSError):
                        os.killpg(worker.pid, signal.SIGKILL)
                self._bury(worker)

    def _bury(self, worker: WorkerProcess) -> None:
        """A worker is gone: judge, settle or hand out what it had, and put another in its place."""
        if worker.lost:
            return
        worker.lost = True
        for line in worker.lines:
            if line.open:
                self._drain(line)
        self.workers.pop(worker.number, None)
        kills = oom_kills()
        memory, self._oom_kills = kills > self._oom_kills, kills
        held = [line for line in worker.lines if line.sent]
        if not worker.ready and not self.stopping and not worker.doomed:
            self._start_failures += 1
        if worker.doomed == "timeout":
            self._judge_timeout(worker)
        elif worker.doomed in ("cancelled", "terminated"):
            self._settle_running(worker)
        elif worker.doomed == "supervisor":
            pass
        elif held:
            self._judge_death(worker, held, memory)
        for line in reversed(worker.lines):
            left = line.cut(0, line.next)
            if worker.doomed == "terminated":
                for stretch in left:
                    self._fail(stretch, cancelled_failure())
            else:
                self._requeue(left)
        worker.close()
        self._fruitless += 1
        if self._start_failures >= START_FAILURES or self._fruitless >= FRUITLESS_DEATHS:
            self._break(broken_failure(lost_failure(worker, False).message, None))
        self.assign()
        if self.room_wanted is not None:
            self.room_wanted()

    def _judge_death(self, worker: WorkerProcess, held: list[Line], memory: bool) -> None:
        """One suspect is blamed; several run again, one by one, each alone in its worker."""
        failure = lost_failure(worker, memory)
        suspects: list[Stretch] = []
        for line in held:
            low, high = line.sent[0].first, line.sent[-1].end
            if not (self.coroutines and worker.ready):  # there all that was sent has started
                verdict = judge(line.words, low, line.frame_ends[0], high)
                low, high = verdict.low, min(verdict.high, high)
                line.count_repeats(low if verdict.finished else 0)
            suspects += line.cut(low, high)
        total = sum(len(stretch) for stretch in suspects)
        if total == 1:
            self._fail(suspects[0], failure)
            self._fruitless = -1
        elif total:
            for stretch in suspects:
                stretch.work.repeats += len(stretch)
                self.suspects.extend(stretch.singles())
        else:
            self._blame_loading(held, failure)

    def _blame_loading(self, held: list[Line], failure: Failure) -> None:
        """Nobody ran: was a function being loaded? One that kills its loader twice is to blame."""
        for call in {loading(line.words) for line in held} - {0}:
            deaths = self._loading_deaths[call] = self._loading_deaths.get(call, 0) + 1
            if deaths < 2:
                continue
            mine = [stretch for line in held for stretch in line.cut(0, line.next)]
            for queue in (self.pending, self.suspects):
                mine += queue
                queue.clear()
            for stretch in mine:
                if stretch.work.call.id == call:
                    self._fail(stretch, failure)
                else:
                    self.pending.append(stretch)
            self._fruitless = self._start_failures = 0

    def _judge_timeout(self, worker: WorkerProcess) -> None:
        """One passed its limit; whoever ran beside it is innocent and runs again."""
        index, number = worker.timed_out
        line = worker.lines[index]
        sent = line.find(number)
        if sent is None:
            return
        limit = sent.work.call.limit or 0.0
        ends = number + 1
        if line.words[PHASE] == DECODING and line.frame_ends:
            ends = max(ends, line.frame_ends[0])  # it hung while a whole frame was unpickled
        stretches = line.cut(number, ends)
        if sum(map(len, stretches)) == 1:
            self._fail(stretches[0], timeout_failure(worker, limit))
            self._fruitless = -1
        else:
            for stretch in stretches:
                self.suspects.extend(stretch.singles())

    def _settle_running(self, worker: WorkerProcess) -> None:
        """We killed it on request: what it ran is over, what had not started waits on."""
        cancelled = worker.doomed == "cancelled"
        failure = cancelled_failure() if cancelled else lost_failure(worker, False)
        for line in worker.lines:
            running = line.running()
            if running:
                for stretch in line.cut(running, running + 1):
                    self._fail(stretch, failure)

    def _break(self, failure: Failure) -> None:
        """No worker can be started: everything that waits, and all that comes, fails so."""
        if self.broken is not None:
            return
        self.broken = failure
        stretches = [*self.pending, *self.suspects]
        self.pending.clear()
        self.suspects.clear()
        for worker in list(self.workers.values()):
            for line in worker.lines:
                stretches += line.cut(0, line.next)
        for stretch in stretches:
            self._fail(stretch, failure)
        self.stop()

    def _fault(self, error: BaseException) -> None:
        """A fault of our own: say it to whoever waits instead of leaving them waiting."""
        self._break(failure_from(error))

    # -- the end -------------------------------------------------------------------------------

    def cancel_pending(self) -> None:
        """Cancel what has not been sent; what a slot has is finished."""
        stretches = [*self.pending, *self.suspects]
        self.pending.clear()
        self.suspects.clear()
        for stretch in stretches:
            self._fail(stretch, cancelled_failure())
        self.assign()

    def cancel_call(self, call: Call, *, kill: bool) -> None:
        """Give up what of the call has not started; with `kill` what runs, too."""
        call.cancelled = True
        for queue in (self.pending, self.suspects):
            stretches = list(queue)
            queue.clear()
            for stretch in stretches:
                if stretch.work.call.cancelled:
                    self._fail(stretch, cancelled_failure())
                else:
                    queue.append(stretch)
        for worker in list(self.workers.values()):
            if not any(s.work.call is call for line in worker.lines for s in line.sent):
                continue
            if kill:
                worker.doomed = worker.doomed or "cancelled"
                self._end(worker)
            elif not self.coroutines:
                for line in worker.lines:
                    taken = line.forbid(line.unstarted) if line.unstarted else None
                    if taken is not None:
                        self.loop.call_later(TAKE_BACK_AFTER, self._take_back, line, *taken)
        self.assign()

    def kill_all(self, number: int) -> None:
        """End every worker now: what runs fails, what waits is cancelled."""
        self.stopping = True
        for worker in list(self.workers.values()):
            worker.doomed = worker.doomed or "terminated"
            self._launcher.kill(worker, number)
        self.cancel_pending()

    def stop(self) -> None:
        """Take nothing new; workers end when all is done."""
        self.stopping = True
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if not self.stopping or self.closed or self.pending or self.suspects:
            return
        for worker in list(self.workers.values()):
            if worker.idle and not worker.stopped:
                self._stop_worker(worker)
        if not self.workers:
            self._close()

    def _stop_worker(self, worker: WorkerProcess) -> None:
        worker.stopped = True
        for line in worker.lines:
            line.post(channel.STOP)
        self.loop.call_later(STOP_GRACE, self._kill, worker)

    def _close(self) -> None:
        self.closed = True
        self._launcher.close()
        self.loop.close()

    def wait_closed(self) -> None:
        """Return when no work and no process is left; several threads may wait."""
        self.loop.drive(lambda: self.closed)
        self.loop.join()

    def _forked(self) -> None:
        """In a forked child: these sockets belong to the parent."""
        self.closed = True
        for worker in self.workers.values():
            for line in worker.lines:
                line.open = False
                line.sock.close()
            worker.control.close()
            for sock in worker.theirs:
                sock.close()
            os.close(worker.memory)
        self._launcher.forked()


def _fail_future(future: TaskFuture, failure: Failure) -> None:
    if future.running() or future.set_running_or_notify_cancel():
        future.fail(failure)
