"""`ProcessExecutor.map`: lazy, bounded, in adaptive batches, results in input order.

    inputs ──fill──▶ batches at the engine ──reports──▶ _Part (one a batch) ──in order──▶ caller

Nothing is done for a single task here: a batch is drawn, sent, reported and handed over whole.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import CancelledError
from itertools import islice

from piecework import codec
from piecework.batching import Sizer
from piecework.executors.engine import Engine
from piecework.executors.work import BatchWork, Call
from piecework.failures import rebuild
from piecework.task import Batch, Failure, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLAIN = (list, tuple, range, str, bytes, dict, set, frozenset)
"""Inputs that can be drawn in the control loop: they never block and run no user code."""


_WINDOW_MAX = 1 << 16  # inputs drawn ahead of the results taken, however small they are


class _Part:
    """The outcomes of one batch, as they come: `ready` positions from the front are settled."""

    __slots__ = ("failures", "handed", "later", "ready", "size", "values")

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: list[Any] = []
        self.failures: dict[int, Failure] = {}
        self.ready = 0
        self.handed = 0
        self.later: dict[int, list[Any]] = {}

    def add(self, report: Report) -> None:
        if report.failures:
            self.failures.update(report.failures)
        if report.offset != self.ready:
            self.later[report.offset] = report.values
            return
        values: list[Any] | None = report.values
        while values is not None:
            self.ready += len(values)
            self.values = self.values + values if self.values else values
            values = self.later.pop(self.ready, None)


class LazyMap:
    """One call of `map`: what was drawn, what came back, what was handed over."""

    def __init__(
        self,
        engine: Engine,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        self._engine = engine
        self._until = None if timeout is None else time.monotonic() + timeout
        star = len(iterables) != 1
        data = codec.dumps(fn, what="fn")
        self._call = Call(data, star=star, limit=engine.singles.limit)
        engine.track(self._call)
        self._left = min((len(i) for i in iterables if isinstance(i, Sized)), default=None)
        self._whole = all(isinstance(i, Sized) for i in iterables) and buffersize is None
        self._plain = all(type(i) in _PLAIN for i in iterables)
        self._inputs = zip(*iterables, strict=False) if star else iter(iterables[0])
        self._sizer = Sizer(engine.roster.slots, fixed=chunksize)
        self._buffersize = buffersize
        self._parts: deque[_Part] = deque()
        self._by_batch: dict[int, _Part] = {}
        self._numbers = 0
        self._outside = 0  # drawn and not handed over
        self._drawn_out = False
        self._error: BaseException | None = None  # of the inputs
        self._iterated = False
        self._discard = False
        self._filling = False
        self._truncated = False  # given up with inputs left

    # -- drawing -------------------------------------------------------------------------------

    def fill(self, *, whole: bool = False) -> None:
        """Draw and send as much as there is room for; `whole`: all that is left.

        Inputs are drawn without the lock: the user's iterator may take its time, or wait for
        what another thread does with this executor.
        """
        entered = self._engine.loop.entered
        with entered():
            if self._filling:  # another thread is drawing, or the iterator came back here
                return
            self._filling = True
        try:
            while (size := self._next_size(whole)) > 0:
                payloads, ended, error = _draw(self._inputs, size)
                with entered():
                    self._send(payloads, ended, error)
        finally:
            self._filling = False

    def _next_size(self, whole: bool) -> int:
        with self._engine.loop.entered():
            if self._drawn_out:
                return 0
            # One batch may always wait behind the work of others: its report is what is waited for.
            if not whole and self._by_batch and self._engine.room() <= 0:
                return 0
            size = self._sizer.next(self._left)
            if whole:
                return size
            limit = self._buffersize
            if limit is None:
                limit = max(1000, min(8 * self._engine.roster.slots * size, _WINDOW_MAX))
            return min(size, limit - self._outside)

    def _send(self, payloads: list[Any], ended: bool, error: BaseException | None) -> None:
        if self._drawn_out:  # given up meanwhile
            return
        self._drawn_out, self._error = ended, error
        if not payloads:
            return
        if self._left is not None:
            self._left = max(0, self._left - len(payloads))
        self._numbers += 1
        part = _Part(len(payloads))
        self._parts.append(part)
        self._by_batch[self._numbers] = part
        self._outside += len(payloads)
        batch = Batch(self._numbers, range(len(payloads)), payloads)
        self._engine.submit_batch(BatchWork(self._call, batch, self._on_report))

    def _on_report(self, report: Report) -> None:
        part = self._by_batch[report.batch.id]
        part.add(report)
        seconds = sum(seconds for _, seconds in report.timings)
        self._sizer.record(len(report), seconds, report.nbytes)
        if report.batch.nbytes:
            self._sizer.record(0, 0.0, report.batch.nbytes)
            report.batch.nbytes = 0
        if part.ready == part.size:
            del self._by_batch[report.batch.id]
        if self._discard:
            self._drop_ready()
        if self._plain:
            self.fill()
        elif self._discard:
            self._engine.loop.after(self.fill)

    def _drop_ready(self) -> None:
        while self._parts and self._parts[0].ready == self._parts[0].size:
            self._outside -= self._parts.popleft().size

    # -- handing over --------------------------------------------------------------------------

    def results(self) -> Iterator[Any]:
        """The values in input order; the first failure raises and gives up the rest."""
        self._iterated = True
        try:
            while True:
                values, failure = self._take()
                if values is None:
                    if self._error is not None:
                        raise self._error
                    return
                values.reverse()
                while values:
                    yield values.pop()
                if failure is not None:
                    raise rebuild(failure)
        finally:
            self.give_up()

    def _take(self) -> tuple[list[Any] | None, Failure | None]:
        """What is ready at the front: values, then perhaps the failure that follows them."""
        loop = self._engine.loop
        self.fill()
        while True:
            with loop.entered():
                while self._parts and self._parts[0].handed == self._parts[0].size:
                    self._parts.popleft()
                if not self._parts:
                    if self._truncated:
                        raise CancelledError("the map was given up before its inputs ended")
                    if self._drawn_out:
                        return None, None
                    if self._engine.stopping:
                        raise RuntimeError("cannot schedule new futures after shutdown")
                elif self._parts[0].ready > self._parts[0].handed:
                    return self._hand_over(self._parts[0])
            self._wait()
            self.fill()

    def _hand_over(self, part: _Part) -> tuple[list[Any], Failure | None]:
        values, failure = part.values, None
        part.values = []
        if part.failures:
            position = min(part.failures)
            if position < part.ready:
                failure = part.failures[position]
                values = values[: position - part.handed]
        self._outside -= part.ready - part.handed
        part.handed = part.ready
        return values, failure

    def _wait(self) -> None:
        left = None if self._until is None else self._until - time.monotonic()
        if not self._engine.loop.drive(self._has_news, left):
            raise TimeoutError(
                "the next result of map was not there in time; "
                "allow more with timeout=, or bound each task with task_timeout="
            )

    def _has_news(self) -> bool:
        parts = self._parts
        return not parts or parts[0].ready > parts[0].handed

    # -- the end -------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Nobody will take the rest: what has not started is given up."""
        with self._engine.loop.entered():
            self._truncated = not self._drawn_out
            self._drawn_out = True
            if self._by_batch and not self._engine.closed:
                self._engine.cancel_call(self._call, kill=False)

    def dropped(self) -> None:
        """The iterator is gone. Never begun means that only the effects were wanted: all is run,
        as the standard library does."""
        if not self._iterated:
            self._discard = True
            with self._engine.loop.entered():
                self._drop_ready()
            self._engine.loop.after(self.fill)

    def finish(self) -> None:
        """The executor shuts down: what the standard library would have submitted by now is."""
        if self._whole or self._discard:
            self.fill(whole=True)


def _draw(inputs: Iterator[Any], size: int) -> tuple[list[Any], bool, BaseException | None]:
    """Up to `size` inputs, whether they have ended, and what the iterator raised."""
    payloads: list[Any] = []
    try:
        payloads.extend(islice(inputs, size))
    except KeyboardInterrupt:  # of whoever waits, not of the iterator
        raise
    except BaseException as error:
        return payloads, True, error
    return payloads, len(payloads) < size, None


def lazy_map(state: LazyMap, live: weakref.WeakSet[LazyMap]) -> Iterator[Any]:
    """The iterator over a map that has begun; its end is the end of the map."""
    state.fill()
    live.add(state)
    iterator = state.results()
    weakref.finalize(iterator, state.dropped).atexit = False
    return iterator
