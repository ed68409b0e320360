"""One map of a Pool on its way: inputs drawn as there is room, batches sent, outcomes handed on.

    inputs ──▶ Source ──fill──▶ executor ──reports──▶ Outcomes ──▶ results.py
                 ▲                                       │
                 └── imap: only so far ahead of ─────────┘ what was taken

An iterable that may block is drawn in a thread of its own (feeder.py), and what has come of it is
sent while it waits for more. All else happens with the control loop's lock held.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future

from piecework.batching import Sizer
from piecework.feeder import Feeder, Source, Swift, is_swift
from piecework.pool.outcomes import Discard, Failed
from piecework.task import Batch, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.executors.base import BatchExecutor
    from piecework.pool.outcomes import Outcomes

AHEAD_MIN, AHEAD_MAX = 1000, 1 << 16  # inputs drawn of an imap and not yet taken
AHEAD_BYTES = 1 << 27  # they carry about so much at most, unless slots would idle


class Flow:
    """Draws, sends and gathers until all inputs are settled; then calls `ended` once."""

    def __init__(
        self,
        executor: BatchExecutor,
        call: Any,
        inputs: Iterable[Any],
        outcomes: Outcomes,
        ended: Callable[[Flow], None],
        *,
        chunksize: int | None = None,
        whole_chunks: bool = False,
        ahead: bool = True,
    ) -> None:
        self.over = False
        self.begun = False  # somebody has taken from it
        self._executor = executor
        self._loop = executor.loop
        self._call = call
        self._outcomes = outcomes
        self._ended = ended
        self._chunksize = chunksize
        self._whole_chunks = whole_chunks and (chunksize or 1) > 1
        self._ahead = ahead
        self._sizer = Sizer(executor.slots, fixed=chunksize)
        self._chunk: list[Any] = []  # drawn, not yet a whole chunk
        self._drawn = 0
        self._settled = 0
        self._filling = False
        self._polled = False
        self._given_up = False
        self._source: Source
        if is_swift(inputs):
            self._source = Swift(inputs)
        else:
            self._source = feeder = Feeder(inputs, self._tell)
            feeder.start()

    def _tell(self) -> None:
        self._loop.call_soon(self.fill)

    # -- drawing and sending -------------------------------------------------------------------

    def fill(self) -> None:
        """Draw and send what there is room for."""
        if self._filling or self.over:  # a batch may be reported while it is submitted
            return
        self._filling = True
        try:
            while not self._source.ended and self._has_turn():
                batch = self._next()
                if not batch:
                    break
                self._send(batch)
        finally:
            self._filling = False
        self._end_if_done()

    def _has_turn(self) -> bool:
        """Whether there is room; one batch may always wait: its report is what goes on from."""
        return self._drawn == self._settled or self._executor.room() > 0

    def _next(self) -> list[Any]:
        """The next batch; empty where it has to wait."""
        total, chunk = self._source.total, self._chunk
        size = self._sizer.next(None if total is None else max(total - self._drawn, 1))
        wanted = min(size, self._allowed(size))
        if wanted <= 0 or (self._whole_chunks and wanted < size):
            return []
        chunk += self._source.take(wanted - len(chunk), wanted)
        if len(chunk) < wanted:
            if self._source.ended:
                return self._last()
            if self._whole_chunks or not chunk:
                self._poll()
                return []
        self._chunk = []
        return chunk

    def _last(self) -> list[Any]:
        chunk, self._chunk = self._chunk, []
        if self._whole_chunks and self._source.error is not None:
            return []  # a chunk that could not be drawn whole is not run, as in multiprocessing
        return chunk

    def _allowed(self, size: int) -> int:
        if not self._ahead:
            return size
        limit = max(AHEAD_MIN, min(8 * self._executor.slots * size, AHEAD_MAX))
        carried = self._sizer.task_bytes
        if carried:
            limit = min(limit, max(4 * self._executor.slots * size, int(AHEAD_BYTES / carried)))
        return limit - (self._drawn - self._settled) - self._outcomes.waiting

    def _poll(self) -> None:
        seconds = self._source.poll_seconds
        if seconds is not None and not self._polled:
            self._polled = True
            self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        self._polled = False
        self.fill()

    def _send(self, payloads: list[Any]) -> None:
        indexes = range(self._drawn, self._drawn + len(payloads))
        self._drawn = indexes.stop
        try:
            self._executor.submit_batch(self._call, Batch(0, indexes, payloads), self._on_report)
        except RuntimeError as error:  # it was shut down, or broke, under us
            self._drawn = indexes.start
            self._draw_no_more()
            self._source.error = self._source.error or error

    # -- what comes back -----------------------------------------------------------------------

    def _on_report(self, report: Report) -> None:
        loop = self._loop
        with loop.lock:  # threads report by themselves
            batch, values = report.batch, report.values
            seconds = 0.0
            for _, stretch in report.timings:
                seconds += stretch
            self._sizer.record(len(values), seconds, report.nbytes + batch.nbytes)
            batch.nbytes = 0
            start = batch.indexes[0]
            failed: list[Failed] = []
            for position, failure in report.failures.items():
                one = Failed(failure, start + position, batch.payloads[position], report.worker)
                values[position - report.offset] = one
                failed.append(one)
            self._settled += len(values)
            self._outcomes.add(start + report.offset, values, failed)
            if failed and failed[0].failure.type == "piecework.ExecutorBroken":
                self._draw_no_more()  # the rest would fail so, too
            self.fill()
            by_itself = not loop.depth and loop.turner != threading.get_ident()
        if by_itself:
            loop.run_after()
            loop.wake()

    def _end_if_done(self) -> None:
        if self.over or self._filling or not self._source.ended or self._settled < self._drawn:
            return
        self.over = True
        error = self._source.error
        if self._given_up and error is None:
            error = CancelledError("the pool was terminated before the inputs ended")
        self._outcomes.end(error)
        self._ended(self)

    # -- the end -------------------------------------------------------------------------------

    def run_all(self) -> None:
        """Draw all that is left, although nobody takes what is there."""
        self._ahead = False
        self.fill()

    def dropped(self) -> None:
        """Nobody will take what is left. Who never took anything wants the effects: all is run,
        and nothing of it kept."""
        if self.begun:
            self.give_up()
        else:
            self._outcomes = Discard()
            self.run_all()

    def give_up(self) -> None:
        """Draw nothing more; what has not started is settled as cancelled."""
        if self.over:
            return
        self._given_up = not self._source.ended
        self._draw_no_more()
        self._executor.cancel(self._call)
        self.fill()

    def _draw_no_more(self) -> None:
        self._source.close()
        self._chunk = []
        if isinstance(self._source, Swift):
            self._source.ended = True


class Flows:
    """The open flows of one pool, and its executor, which outlives a pool that was dropped."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.loop = executor.loop
        self.open: set[Flow | Future[Any]] = set()
        self.closing = False
        self.pid = os.getpid()

    def begin(self, flow: Flow) -> None:
        self.open.add(flow)
        flow.fill()

    def await_call(self, call: Future[Any]) -> None:
        """A thread runs the call: it ends by itself, and whoever waits has to be told."""
        with self.loop.entered():
            self.open.add(call)
        call.add_done_callback(self._call_ended)

    def _call_ended(self, call: Future[Any]) -> None:
        self.loop.call_soon(self.ended, call)  # not before the other callbacks have run

    def ended(self, flow: Flow | Future[Any]) -> None:
        self.open.discard(flow)
        self._shutdown_if_done()

    def close(self) -> None:
        """No new ones: when those that are open have ended, so do the workers."""
        self.closing = True
        self._shutdown_if_done()

    def run_all(self) -> None:
        for flow in list(self.open):
            if isinstance(flow, Flow):
                flow.run_all()

    def give_up(self) -> None:
        for flow in list(self.open):
            if isinstance(flow, Flow):
                flow.give_up()

    def _shutdown_if_done(self) -> None:
        if self.closing and not self.open:
            self.executor.shutdown(wait=False)
