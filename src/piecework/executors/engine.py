"""The engine of a process executor: hands work to slots, takes results, survives every death.

    pending ──assign──▶ lines (at most two frames each) ──frames──▶ results.deliver
       ▲                   │ an idle slot: balance.py takes back what another has not started
       └── not to blame ───┴── a worker dies: deaths.py ──▶ blamed: its failure
                                                       └──▶ suspects: again, alone

Everything here runs with the loop's lock held and never blocks. One worker's death costs at most
the tasks that it was running; when workers cannot be started at all the engine breaks, and says
so to everything that waits.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable

from piecework import codec
from piecework.errors import CannotPickle
from piecework.executors import channel
from piecework.executors.balance import Balancer
from piecework.executors.boot import Boot
from piecework.executors.cores import part
from piecework.executors.deaths import Deaths
from piecework.executors.hearing import Hearing
from piecework.executors.launcher import Launcher
from piecework.executors.results import decode, deliver
from piecework.executors.roster import Roster
from piecework.executors.verdicts import broken_failure, cancelled_failure, oom_kills
from piecework.executors.watch import Watch
from piecework.executors.work import BatchWork, Call, SingleWork, Stretch
from piecework.executors.worker_process import Line, WorkerProcess
from piecework.failures import failure_from, with_output
from piecework.lean import pickle, socket, suppress
from piecework.loop import Loop
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.executors.future import TaskFuture

FRAME_SECONDS = 0.004  # single calls travel together up to about this much work
FRAME_CALLS = 256
SLOT_THREADS_MIN = 4  # in each slot, for maps inside a task: a process has no others
EXIT_GRACE = 1.0  # between the end of a worker's channels and its exit status


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
        memory: int | None,
        boot: Boot,
        booted: tuple[socket.socket, int] | None = None,
    ) -> None:
        self.loop = Loop("piecework-processes", spin=True)
        self.loop.on_error = self._fault
        self.loop.on_fork = self._forked
        self.singles = Call(b"", limit=limit, memory=memory)
        self.pending: deque[Stretch] = deque()
        self.suspects: deque[Stretch] = deque()
        self.broken: Failure | None = None
        self.stopping = False
        self.closed = False
        each = part(workers * threads, threads_min=SLOT_THREADS_MIN)
        launcher = Launcher(
            self.loop, method, initializer, initargs, self._on_process, boot, booted, each
        )
        self.hearing = Hearing(self.loop, one_slot=threads == 1 and not coroutines)
        self.roster = Roster(
            self.loop,
            launcher,
            self.hearing,
            self._on_line,
            max_workers=workers,
            threads=threads,
            coroutines=coroutines,
            tasks_per_worker=tasks_per_worker,
        )
        self._balancer = Balancer(self.loop, self.roster, self._took_back)
        self._watch = Watch(self.loop, self.roster, forked=method == "fork")
        self._deaths = Deaths(coroutines=bool(coroutines), oom_kills=oom_kills)

    # -- work comes in -------------------------------------------------------------------------

    def submit_single(self, work: SingleWork) -> None:
        self._watch.expect(work)
        if not self.pending and (line := self.roster.free_line()) is not None:
            if work.may_run():
                self._send_singles(line, [work])
            return
        self.pending.append(Stretch(work, 0, 1))
        self.assign()

    def submit_batch(self, work: BatchWork) -> None:
        self._watch.expect(work)
        if work.call.label is not None:
            self.hearing.tag()
        stretch = Stretch(work, 0, len(work.batch))
        if self.broken is not None:
            self._fail(stretch, self.broken)
        elif work.batch.alone:
            self.suspects.extend(stretch.singles())
        else:
            self.pending.append(stretch)
        self.assign()

    def room(self) -> int:
        """Batches that would not have to wait behind two others at their slot."""
        waiting = len(self.pending)
        if self.roster.coroutines:
            waiting = sum(len(stretch) for stretch in self.pending)
        return max(0, self.roster.room() - waiting)

    # -- handing out ---------------------------------------------------------------------------

    def assign(self) -> None:
        """Send what is pending to the slots that have room; start workers where it helps."""
        if self.closed or self.broken is not None:
            self._stop_if_done()
            return
        if self.suspects:
            self._assign_suspects()
        else:
            self.roster.reserve(False)
        while self.pending:
            line = self.roster.free_line()
            if line is None:
                break
            self._send_next(line)
        if self.pending or self.suspects:
            self._start_workers()
        else:
            self._balancer.wake()
        self._stop_if_done()

    def _send_next(self, line: Line) -> None:
        work = self.pending[0].work
        if isinstance(work, BatchWork):
            stretch = self.pending.popleft()
            quota = self.roster.quota(line)
            if quota is not None and len(stretch) > quota * work.call.chunk:
                middle = stretch.start + quota * work.call.chunk
                self.pending.appendleft(Stretch(work, middle, stretch.stop))
                stretch = Stretch(work, stretch.start, middle)
            self._send_tasks(line, work, stretch.start, stretch.stop)
        else:
            self._send_singles(line, self._next_singles(line))

    def _next_singles(self, line: Line) -> list[SingleWork]:
        """Calls that travel together: as many as are worth a frame, and leave some for others."""
        mean = self.singles.seconds
        share = -(-len(self.pending) // (2 * self.roster.max_workers * self.roster.threads))
        size = 1 if mean is None else int(FRAME_SECONDS / max(mean, 1e-7))
        quota = self.roster.quota(line) or FRAME_CALLS
        size = max(1, min(size, FRAME_CALLS, share, quota))
        works: list[SingleWork] = []
        while self.pending and len(works) < size:
            work = self.pending[0].work
            if not isinstance(work, SingleWork):
                break
            self.pending.popleft()
            if work.may_run():
                works.append(work)
        return works

    def _send_singles(self, line: Line, works: list[SingleWork]) -> None:
        if not works:
            return
        first = line.next
        for work in works:
            line.note(work, 0, 1)
        self.roster.count(line.worker, len(works))
        line.post_singles([work.data for work in works], first)
        self._watch.wake()

    def _send_tasks(self, line: Line, work: BatchWork, start: int, stop: int) -> None:
        try:
            body, large = codec.dumps_buffers(work.batch.payloads[start:stop], what="input")
        except CannotPickle as error:
            self._send_what_can_be(line, work, start, stop, error)
            return
        buffers = [buffer.raw() for buffer in large]
        work.batch.nbytes += len(body) + sum(buffer.nbytes for buffer in buffers)
        line.teach(work.call)
        first = line.note(work, start, stop - start)
        self.roster.count(line.worker, -(-(stop - start) // work.call.chunk))
        line.post_tasks(work.call, body, first, stop - start, buffers)
        self._watch.wake()

    def _send_what_can_be(
        self, line: Line, work: BatchWork, start: int, stop: int, error: CannotPickle
    ) -> None:
        """An input cannot be pickled: it fails, the others are sent."""
        if stop - start == 1:
            self._fail(Stretch(work, start, stop), failure_from(error, cause="pickle"))
            return
        for position in range(start, stop):
            self._send_tasks(line, work, position, position + 1)

    def _assign_suspects(self) -> None:
        """Give each suspect a worker of its own, and nobody beside it."""
        for worker in list(self.roster.workers.values()):
            if self.suspects and worker.ready and worker.usable and worker.idle:
                if self._wants_fresh() and worker.taken:
                    self._replace(worker)
                    continue
                worker.exclusive, worker.reserved = True, False
                stretch = self.suspects.popleft()
                if isinstance(stretch.work, BatchWork):
                    self._send_tasks(worker.lines[0], stretch.work, stretch.start, stretch.stop)
                elif stretch.work.may_run():
                    self._send_singles(worker.lines[0], [stretch.work])
                worker.exclusive = not worker.idle  # it may have been refused before it was sent
        self.roster.reserve(bool(self.suspects))

    def _wants_fresh(self) -> bool:
        """What earlier tasks have left in a worker's memory is not the next suspect's."""
        return bool(self.suspects) and self.suspects[0].work.call.memory is not None

    def _replace(self, worker: WorkerProcess) -> None:
        """Let it end, unless a fresh one that waits for a suspect is on its way already."""
        fresh = (other for other in self.roster.serving() if other.reserved and not other.taken)
        if next(fresh, None) is None:
            worker.reserved = False
            self.roster.stop(worker)

    def _start_workers(self) -> None:
        """Start as many as there is work for that nobody is about to take."""
        wanted = len(self.pending) + bool(self.suspects)
        if self.roster.coroutines:
            wanted = self.roster.max_workers
        starting = sum(1 for w in self.roster.serving() if not w.ready and w.idle)
        for _ in range(min(wanted - starting, self.roster.vacancies)):
            try:
                worker = self.roster.start()
            except OSError as error:  # no descriptors, no memory, no interpreter
                if not self.roster.workers:
                    self._break(broken_failure(str(error), failure_from(error)))
                return
            worker.reserved = self._wants_fresh()
            for line in worker.lines:
                if self.pending and not self.suspects and worker.usable:
                    self._send_next(line)

    def populate(self) -> None:
        """Start all workers that there may be, before there is work for them."""
        while self.roster.vacancies > 0:
            try:
                self.roster.start()
            except OSError:  # fewer, then; without any whoever made us should know
                if not self.roster.workers:
                    raise
                return

    # -- what workers say ----------------------------------------------------------------------

    def _on_line(self, line: Line) -> None:
        """Read what a worker sent; its end is where it died."""
        try:
            for _ in range(8):  # then let the others have a turn
                if not line.frames.fill():
                    self._line_ended(line)
                    return
                self._read_frames(line)
                if line.frames.drained:
                    break
        except BlockingIOError:
            pass
        except OSError:
            self._line_ended(line)
            return
        self._after_results(line.worker)

    def _read_frames(self, line: Line) -> None:
        for frame in line.frames.frames():
            if frame.kind == channel.RESULTS:
                self._deaths.result_came()
                outcome = decode(frame)
                self.hearing.results_came(line, outcome)
                deliver(line, outcome, self.loop)
            elif frame.kind == channel.SKIPPED:
                self._again(line.cut(frame.first, frame.first + frame.count))
            elif frame.kind == channel.READY:
                line.worker.ready = True
                self._deaths.worker_ready()
            elif frame.kind == channel.REFUSED:
                self._break(broken_failure("its initializer raised", pickle.loads(frame.body)))
            del frame

    def _after_results(self, worker: WorkerProcess) -> None:
        if worker.idle:
            worker.exclusive = False
            if worker.retiring and not worker.stopped:
                self.roster.stop(worker)
        self.assign()

    def _took_back(self, line: Line, stretches: list[Stretch]) -> None:
        self._again(stretches)
        self._after_results(line.worker)

    def _again(self, stretches: list[Stretch]) -> None:
        """Work that was at a slot waits again, at the front; unless it was given up meanwhile."""
        for stretch in reversed(stretches):
            if stretch.work.call.cancelled:
                self._fail(stretch, cancelled_failure())
            else:
                self.pending.appendleft(stretch)

    def _fail(self, stretch: Stretch, failure: Failure) -> None:
        """Settle every position of a stretch with the same failure."""
        work, count = stretch.work, len(stretch)
        if isinstance(work, BatchWork):
            failures = dict.fromkeys(range(stretch.start, stretch.stop), failure)
            work.deliver(stretch.start, [None] * count, failures, [(count, 0.0)], "")
        else:  # without the lock: callbacks of the user run in it
            self.loop.after(_fail_future, work.future, failure)

    # -- deaths --------------------------------------------------------------------------------

    def _line_ended(self, line: Line) -> None:
        worker = line.worker
        worker.close_line(line)
        worker.dying = True
        if worker.exited:
            self._bury(worker)
        elif all(not other.open for other in worker.lines):
            # Its exit status is on its way; if it closed its socket and lives on, it is ended.
            self.loop.call_later(EXIT_GRACE, self._overdue, worker)

    def _overdue(self, worker: WorkerProcess) -> None:
        if not worker.lost:
            self.roster.kill(worker)
            self._bury(worker)

    def _on_process(self, worker: WorkerProcess | None) -> None:
        """The launcher knows more: a worker has exited; None: the supervisor is gone."""
        if worker is not None:
            self._bury(worker)
            return
        disowned = self.roster.disown_all()
        failure = self._deaths.supervisor_lost()
        if failure is not None:
            self._break(failure)
        for worker in disowned:
            self._bury(worker)

    def _bury(self, worker: WorkerProcess) -> None:
        """A worker is gone: its last results, then what becomes of the rest; then another one."""
        if worker.lost:
            return
        worker.lost = True
        for line in worker.lines:
            self._drain(line)
        self.roster.workers.pop(worker.number, None)
        printed = self.hearing.died(worker)
        estate = self._deaths.settle(worker, stopping=self.stopping)
        for stretch, failure in estate.failed:
            output = printed.get((stretch.work, stretch.start), "")
            self._fail(stretch, with_output(failure, output))
        self.suspects.extend(estate.suspects)
        self._again(estate.again)
        worker.close()
        if estate.guilty_call is not None:
            self._fail_call(*estate.guilty_call)
        if estate.broken is not None:
            self._break(estate.broken)
        self.assign()

    def _drain(self, line: Line) -> None:
        with suppress(OSError):
            while line.open and line.frames.fill():
                self._read_frames(line)

    def _fail_call(self, number: int, failure: Failure) -> None:
        """The function itself kills whoever loads it: all its tasks fail."""
        for stretch in self._take_waiting(lambda stretch: stretch.work.call.id == number):
            self._fail(stretch, failure)

    def _take_waiting(self, wanted: Callable[[Stretch], bool]) -> list[Stretch]:
        taken: list[Stretch] = []
        for queue in (self.pending, self.suspects):
            stretches = list(queue)
            queue.clear()
            for stretch in stretches:
                (taken if wanted(stretch) else queue).append(stretch)
        return taken

    def _break(self, failure: Failure) -> None:
        """No worker can be started: everything that waits, and all that comes, fails so."""
        if self.broken is not None:
            return
        self.broken = failure
        stretches = self._take_waiting(lambda _: True)
        for line in self.roster.lines():
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
        for stretch in self._take_waiting(lambda _: True):
            self._fail(stretch, cancelled_failure())
        self.assign()

    def cancel_call(self, call: Call, *, kill: bool) -> None:
        """Give up what of the call has not started; with `kill` what runs, too."""
        call.cancelled = True
        for stretch in self._take_waiting(lambda stretch: stretch.work.call is call):
            self._fail(stretch, cancelled_failure())
        for worker in self.roster.workers.values():
            if not any(sent.work.call is call for line in worker.lines for sent in line.sent):
                continue
            if kill:
                self.roster.end(worker, "cancelled")
            elif not self.roster.coroutines:
                for line in worker.lines:
                    if line.unstarted:
                        self._balancer.take_back(line, line.unstarted)
        self.assign()

    def track(self, call: Call) -> None:
        """When nobody has the call any more, the workers need not keep its function either."""
        loop = self.loop
        weakref.finalize(call, loop.call_soon, self.forget, call.id).atexit = False

    def forget(self, call: int) -> None:
        """Nobody has this call any more: the workers may free its function."""
        for line in self.roster.lines():
            if call in line.known:
                line.known.discard(call)
                line.post(channel.FORGET, call=call)

    def end_workers(self, number: int) -> None:
        """Signal every worker now: what runs fails, what waits is cancelled."""
        self.stopping = True
        self.roster.signal_all(number)
        self.cancel_pending()

    def stop(self) -> None:
        """Take nothing new; workers end when all is done."""
        self.stopping = True
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if not self.stopping or self.closed or self.pending or self.suspects:
            return
        for worker in self.roster.workers.values():
            if worker.idle and not worker.stopped:
                self.roster.stop(worker)
        if not self.roster.workers:
            self.closed = True
            self.hearing.close()
            self.roster.close()
            self.loop.close()

    def wait_closed(self) -> None:
        """Return when no work and no process is left; several threads may wait."""
        self.loop.drive(lambda: self.closed)
        self.loop.join()
        self.hearing.written()

    def _forked(self) -> None:
        """In a forked child: nothing here is ours."""
        self.closed = True
        self.roster.forked()
        self.hearing.forked()


def _fail_future(future: TaskFuture, failure: Failure) -> None:
    if failure.cause == "cancelled" and future.cancel():
        future.set_running_or_notify_cancel()
    elif not future.done() and (future.running() or future.set_running_or_notify_cancel()):
        future.fail(failure)
