"""Master: draws the input, hands out batches, collects reports, asks the run what is next.

    source ── take ──▶ Master ── put ──▶ tasks queue ──▶ worker ...
                        │  ▲
              RunState ◀┤  └── lease ─── results queue ◀── ... worker
                        ▼
               Unread, Journal ── take ──▶ consumer

It talks to queues only. Everything happens in `turn`, in the control loop, whoever turns that; so
there is one change at a time, and no lock but the loop's. It decides nothing about a task: RunState
does. What it decides is how much is under way at once:

    drawn - read <= window          a consumer that stops reading stops the drawing
    bytes unread <= 128 MB          as far as sizes are known
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from piecework.batching import Sizer, size_of
from piecework.delivery import Piece, Unread
from piecework.errors import InputError, JournalError, UsageError
from piecework.feeder import Source
from piecework.loop import Loop, Timer
from piecework.queues.base import Queue
from piecework.run import CANCELLED_FAILURE, RunState
from piecework.task import Batch, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.journal.journal import Journal
    from piecework.journal.segments import Fresh, Known
    from piecework.journal.source import Recalling

WINDOW_MIN = 1000
WINDOW_BATCHES = 8  # a slot
WINDOW_MAX = 1 << 16  # of the tiniest tasks: some 5 MB of small values
WINDOW_WAITING = 16  # times wider while the consumer waits for one slow task before the others
UNREAD_BYTES = 128 << 20
RECALLED_AHEAD = 1 << 14  # looked up before the reader needs them


class Master:
    """Drives one run. `read`, `take` and `stop` are the consumer's side."""

    def __init__(
        self,
        state: RunState,
        tasks: Queue[Batch],
        results: Queue[Report],
        loop: Loop,
        sizer: Sizer,
        *,
        buffersize: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] | None = None,
    ) -> None:
        self.state = state
        self.sizer = sizer
        self.unread = Unread()
        self.keep = True  # False: nobody will read the values
        self.ordered = False  # the consumer waits for what comes next in input order
        self.awaited = False  # the consumer waits now
        self.finished = False
        self.ended_at: float | None = None
        self.on_stop: Callable[[bool], object] = lambda kill: None
        self.on_finish: Callable[[], object] = lambda: None
        self.watchers: list[Callable[[], object]] = []  # told after the lock is released
        self.source: Source | None = None
        self.journal: Journal | None = None  # what is settled is recorded there
        self.recalling: Recalling | None = None  # the source, where it knows what is done already
        self.started_at = clock()
        self._tasks = tasks
        self._results = results
        self._loop = loop
        self._buffersize = buffersize
        self._clock = clock
        self._random = random
        self._batches = 0  # so far: the next one's id
        self._left: dict[int, int] = {}  # of each batch handed out: tasks not reported yet
        self._timers: dict[str, Timer] = {}
        self._scheduled = False
        self._asked: deque[tuple[str, BaseException | None, bool]] = deque()
        self._in_hand = 0  # tasks of the piece that is being read
        self._starved = False  # wants to draw, but too much is unread
        self._told_stop = False
        self._news = False  # something has settled in this turn
        self._recorded = False  # the journal was told that this is the end
        results.subscribe(filled=self.soon)
        tasks.subscribe(emptied=self.soon)

    # -- the control loop's side --------------------------------------------------------------

    def soon(self) -> None:
        """Have a turn as soon as possible; from any thread."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.turn)

    def turn(self) -> None:
        """Collect what has come, hand out what there is room for."""
        self._scheduled = False
        if self.finished:
            return
        self._collect()
        while self._asked:
            self._stop_as_asked()
        if self.state.stopping:
            self._stop(kill=self.state.kills and not self._told_stop)
        else:
            self._hand_out()
        if self.state.finished and self._is_recorded():
            self._finish()
        if self._news or self.finished:
            self._news = False
            self.tell()

    def tell(self) -> None:
        """Have those who wait look again."""
        for watcher in self.watchers:
            self._loop.after(watcher)

    def _collect(self) -> None:
        while (lease := self._results.lease()) is not None:
            report = lease.value
            self._learn(report)
            for piece in self.state.record(report, self._clock(), self._random):
                self._settled(piece)
            self._news = True
            lease.ack()

    def _learn(self, report: Report) -> None:
        batch, count = report.batch, len(report.values)
        seconds = 0.0
        for _, stretch in report.timings:
            seconds += stretch
        # Inputs are kept until the result is read: they count like the values.
        arguments = batch.nbytes or size_of(batch.payloads)
        report.nbytes = report.nbytes or size_of(report.values)
        report.nbytes += arguments * count // len(batch.payloads)
        if report.timings:
            self.sizer.record(count, seconds, report.nbytes)
        left = self._left[batch.id] = self._left.get(batch.id, 0) - count
        if left <= 0:
            del self._left[batch.id]

    def _settled(self, piece: Piece) -> None:
        if self.journal is not None:  # before anybody who reads the values can change them
            self.journal.settled(piece)
        if self.keep:
            self.unread.add(piece)

    # -- handing out --------------------------------------------------------------------------

    def _hand_out(self) -> None:
        self._starved = False
        while self._tasks.room() > 0:
            batch = self._again() or self._fresh()
            if batch is None:
                break
            self._left[batch.id] = len(batch)
            self._tasks.put(batch)
        due = self.state.next_due
        if (
            due is not None and due > self._clock()
        ):  # else there is no room, and a word when there is
            self._at("retry", due - self._clock())

    def _again(self) -> Batch | None:
        if self.state.next_due is None:
            return None
        tasks = self.state.due(self._clock(), self.sizer.next())
        if not tasks:
            return None
        indexes = tuple(task.index for task in tasks)
        payloads = [task.payload for task in tasks]
        self._batches += 1
        return Batch(self._batches, indexes, payloads, tasks[0].attempt, tasks[0].alone)

    def _fresh(self) -> Batch | None:
        source = self.source
        if source is None or self.state.ended:
            return None
        size, more = self._allowed(source)
        if self.recalling is not None and size > 0:
            indexes, payloads = self._gather(self.recalling, size)
        else:
            payloads = source.take(size, more) if size > 0 else []
            indexes = self._drawn(payloads)
        if not indexes:
            self._nothing_drawn(source, size)
            return None
        self._batches += 1
        batch = Batch(self._batches, indexes, payloads)
        if source.ended:
            self._input_ended(source)
        return batch

    def _drawn(self, payloads: list[Any], known: Fresh | None = None) -> range:
        """These are tasks now and about to run; the journal is told before they do."""
        if not payloads:
            return range(0)
        journal = self.journal
        if journal is not None and known is None:
            try:
                known = journal.identify(payloads)
            except Exception as error:
                self._cannot_draw(error)
                return range(0)
        indexes = self.state.draw(len(payloads))
        self.state.start(indexes)
        if journal is not None:
            journal.drew(indexes, payloads, known)
        return indexes

    def _cannot_draw(self, error: Exception) -> None:
        """An input cannot be known again: nothing after it is drawn."""
        if self.source is not None:
            self.source.close()
        self._end_input(error)

    def _gather(self, source: Recalling, size: int) -> tuple[Sequence[int], list[Any]]:
        """Up to `size` inputs that are to be run; what is known between them settles at once."""
        indexes: Sequence[int] = range(0)
        payloads: list[Any] = []
        while len(payloads) < size and (room := self._recall_room()) > 0:
            known = source.recalled()
            if known is not None:
                self._recall(known)
                continue
            items = source.take(size - len(payloads), min(room, RECALLED_AHEAD))
            if not items:
                break
            drawn = self._drawn(items, source.taken)
            indexes = drawn if not payloads else (*indexes, *drawn)
            payloads += items
        else:
            self._starved = not payloads
        return indexes, payloads

    def _recall_room(self) -> int:
        if self.unread.nbytes > UNREAD_BYTES:
            return 0
        return self.window - self.state.drawn + self._read

    def _recall(self, known: Known) -> None:
        piece = self.state.recall(known.piece, quarantined=known.quarantined)
        self._settled(piece)
        self._news = True

    def _allowed(self, source: Source) -> tuple[int, int]:
        """How many tasks the next batch may have (0: too much is unread), and how many are drawn
        ahead for the one after it."""
        total, drawn, window = self.state.total, self.state.drawn, self.window
        size = self.sizer.next(None if total is None else max(0, total - drawn))
        if not self.sizer.at_once:
            size = max(1, min(size, window // (4 * self.sizer.slots)))
        room = window - (drawn - self._read)
        if self.unread.nbytes > UNREAD_BYTES or (room < size and self.state.running):
            return 0, 0
        if self.journal is not None and self.journal.full:
            return 0, 0
        size = min(size, room)
        return size, min(size, room - size)

    @property
    def window(self) -> int:
        """How many tasks may be drawn and not read."""
        if self._buffersize is not None:
            return self._buffersize
        if self.sizer.at_once:  # so many run, and as many are read
            return max(WINDOW_MIN, 4 * self.sizer.slots)
        size = WINDOW_BATCHES * self.sizer.slots * self.sizer.next()
        size = max(WINDOW_MIN, min(size, WINDOW_MAX))
        return size * WINDOW_WAITING if self.ordered and self.awaited else size

    @property
    def _read(self) -> int:
        return self.state.settled - self.unread.tasks - self._in_hand

    def _nothing_drawn(self, source: Source, size: int) -> None:
        if source.ended:
            self._input_ended(source)
        elif size <= 0:
            self._starved = True
        elif source.poll_seconds is not None:
            self._at("poll", source.poll_seconds)

    def _input_ended(self, source: Source) -> None:
        if source.error is None:
            self.state.end()
        else:
            self._end_input(source.error)

    def _end_input(self, error: BaseException) -> None:
        if isinstance(error, JournalError | UsageError):  # it says itself what to do
            self.state.end(error, "journal" if isinstance(error, JournalError) else "input")
            return
        index = self.state.drawn
        text = f"drawing input {index} raised {type(error).__name__}: {error}"
        wrapped = InputError(f"{text}. The {index} inputs before it are accounted for", index)
        wrapped.__cause__ = error
        self.state.end(wrapped)

    def _is_recorded(self) -> bool:
        """Whether all of it is in the journal, on disk; only then is the run over."""
        if self.journal is None:
            return True
        if not self._recorded:
            self._recorded = True
            self.ended_at = self._clock()
            self.journal.end()
        return self.journal.ended

    def _at(self, name: str, seconds: float) -> None:
        """Have a turn after that many seconds; the timer of that name is set once."""
        when = self._clock() + max(0.0, seconds)
        timer = self._timers.get(name)
        if timer is not None and timer.fn is not None:
            if self._clock() < timer.when <= when:
                return
            timer.cancel()
        self._timers[name] = self._loop.call_later(max(0.0, seconds), self.turn)

    # -- the end ------------------------------------------------------------------------------

    def stop(self, reason: str, error: BaseException | None = None, *, kill: bool = False) -> None:
        """Take nothing new; what runs is finished, or ended with `kill`.

        Only leaves word: from any thread, from signal handlers and finalizers.
        """
        self._asked.append((reason, error, kill))
        self.soon()

    @property
    def told_to_stop(self) -> bool:
        """Whether somebody has asked for the end, although it may not have been heard yet."""
        return bool(self._asked) or self.state.stopping

    def stop_after(self, seconds: float, reason: str, error: BaseException, *, kill: bool) -> None:
        """Stop then, unless the run has finished by itself."""
        stop = partial(self.stop, reason, error, kill=kill)
        self._timers[reason] = self._loop.call_later(seconds, stop)

    def _stop_as_asked(self) -> None:
        reason, error, kill = self._asked.popleft()
        if self.state.finished and reason != "journal":
            return  # all is done, and on its way to the disk
        for piece in self.state.stop(reason, error):
            self._settled(piece)
        self._stop(kill=kill)

    def _stop(self, *, kill: bool = False) -> None:
        if self._told_stop and not kill:
            return
        self._told_stop = True
        self.state.killing = self.state.killing or kill
        if self.source is not None:
            self._cancel(self.source.close())
        queued: deque[Batch] = deque()
        while (lease := self._tasks.lease()) is not None:
            queued.append(lease.value)
            lease.ack()
        for batch in queued:
            self._give_back(batch)
        self.on_stop(kill)

    def _cancel(self, payloads: list[Any]) -> None:
        for piece in self.state.cancel(self.state.draw(len(payloads)), payloads):
            self._settled(piece)

    def _give_back(self, batch: Batch) -> None:
        """A batch that no worker has leased comes back as one that never started."""
        count = len(batch)
        failures = dict.fromkeys(range(count), CANCELLED_FAILURE)
        report = Report(batch, 0, [None] * count, failures, [], "")
        self._left.pop(batch.id, None)
        for piece in self.state.record(report, self._clock(), self._random):
            self._settled(piece)

    def finish_without_loop(self) -> None:
        """The executor has closed the loop, and nobody turns it any more. All that can be left to
        wait for is the journal's end; where tasks are open, they stay so, and it is kept."""
        if self.journal is None:
            return
        if not self.state.finished:
            self.journal.end()
            return
        with self._loop.lock:
            self.turn()
        self.journal.join()
        with self._loop.lock:
            self.turn()
        self._loop.run_after()

    def _finish(self) -> None:
        self.finished = True
        self.ended_at = self.ended_at or self._clock()
        for timer in self._timers.values():
            timer.cancel()
        self._tasks.close()
        self._results.close()
        try:
            self.state.check()
        except Exception as error:
            self.state.stopped, self.state.error = "broken", error
        self.on_finish()

    # -- the consumer's side ------------------------------------------------------------------

    def take(self) -> Piece | None:
        """The next piece to read; None where there is none now. Makes room for more."""
        with self._loop.entered():
            piece = self.unread.take() if self.ordered else self.unread.take_any()
            self._in_hand = 0 if piece is None else len(piece)
            if self._starved:
                self.soon()
            if piece is not None and piece.recalled and self.journal is not None:
                self.journal.written.recalled(piece)
            return piece

    def ready(self) -> bool:
        """Whether `take` has something, or nothing will come any more."""
        return self.finished or (self.unread.ready if self.ordered else bool(self.unread))

    def set_awaited(self, awaited: bool) -> None:
        """Whether the consumer waits now; if it waits for one slow task, others may run ahead."""
        self.awaited = awaited
        if awaited:
            self._in_hand = 0
            if self._starved:
                self.soon()

    def drop(self) -> None:
        """Nobody will read the values: what is unread goes, what comes is only counted."""
        with self._loop.entered():
            self.keep = False
            self.unread.clear()
            self.soon()
