"""Coroutines by the thousand on one event loop: the same in a thread and in a worker process.

    work ──add──▶ open ──begin──▶ one asyncio task each, `limit` at most
                                       │ ended
                  outbox ◀─────────────┘      once a turn of the event loop:
                    └──▶ flush                flush what ended, begin what fits

Handing every outcome over by itself would cost a wake-up each; a turn of the event loop ends
hundreds of coroutines that waited for the same moment, so they are handed over together.

Everything here runs in the event loop's own thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol

from piecework.errors import TaskTimeout
from piecework.executors.coroutine_calls import CANCEL_SECONDS
from piecework.executors.overheard import RUNNING, Overheard, Seat
from piecework.task import Cause


class Outbox(Protocol):
    """Where outcomes go: `add` as they come, `flush` once a turn; what tasks print, `overheard`."""

    @property
    def overheard(self) -> Overheard | None: ...

    def add(
        self,
        position: int,
        value: Any,
        error: BaseException | None,
        seconds: float,
        cause: Cause = "exception",
    ) -> None: ...

    def flush(self, cpu: float = 0.0) -> None: ...


class Work(Protocol):
    """Tasks of one function; `claims` has `(position, payload)` of what has not started."""

    @property
    def fn(self) -> Callable[..., Any]: ...

    @property
    def star(self) -> bool: ...

    @property
    def claims(self) -> deque[tuple[int, Any]]: ...

    def outbox(self, worker: str) -> Outbox: ...

    def give_up(self) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class Source:
    """Some work on an event loop: what runs of it, and until when it may."""

    def __init__(
        self,
        slots: CoroutineSlots,
        work: Work,
        outbox: Outbox,
        task_timeout: float | None,
        future: Future[Any] | None,
    ) -> None:
        self._slots = slots
        self.work = work
        self.outbox = outbox
        self._overheard = outbox.overheard
        self.task_timeout = task_timeout
        self.future = future
        self.running: dict[int, asyncio.Task[None]] = {}
        self.deadlines: dict[int, float] = {}  # in the order of starting, so of their deadlines
        self.timer: asyncio.TimerHandle | None = None
        self.why: dict[int, Cause] = {}  # positions that we ended, and for what
        self.given_up: set[int] = set()  # reported, and still running

    async def run(self, position: int, payload: Any) -> None:
        """One task; whatever it raises ends here, SystemExit too: asyncio would end the loop."""
        value, failed = None, None
        RUNNING.set(Seat(self._overheard, position))
        fn, star = self.work.fn, self.work.star
        started = time.perf_counter()
        try:
            value = await (fn(*payload) if star else fn(payload))
        except BaseException as error:
            trace = error.__traceback__
            failed = error.with_traceback(trace.tb_next if trace else None)
            del trace
        del payload
        self._slots.ended(self, position, value, failed, time.perf_counter() - started)

    def passed(self, position: int) -> TaskTimeout:
        return TaskTimeout(f"it passed its time limit of {self.task_timeout:g} s")


class CoroutineSlots:
    """Runs at most `limit` coroutines at once on the event loop that is running."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limit: int, on_idle: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._limit = limit
        self._on_idle = on_idle
        self._open: deque[Source] = deque()
        self._busy = 0
        self._sources: set[Source] = set()  # with running coroutines
        self._flush: dict[int, Outbox] = {}
        self._turn_ends = False
        self._cpu = time.thread_time()

    @property
    def idle(self) -> bool:
        return not self._busy and not self._open

    def add(
        self,
        work: Work,
        outbox: Outbox,
        task_timeout: float | None = None,
        future: Future[Any] | None = None,
    ) -> None:
        """Begin its tasks in order, as places come free; outcomes go to `outbox`.

        `future` is told that it runs, and is not begun where it was cancelled before.
        """
        source = Source(self, work, outbox, task_timeout, future)
        self._open.append(source)
        self._end_turn_soon()

    def unstarted(self) -> list[Work]:
        """From any thread: work of which not everything has started."""
        while True:
            try:
                return [source.work for source in self._open]
            except RuntimeError:  # changed meanwhile
                continue

    def end_running(self, work: Work | None = None) -> None:
        """Cancel what runs of it, or of everything: it is reported as cancelled once it ended."""
        for source in list(self._sources):
            if work is None or source.work is work:
                for position, task in source.running.items():
                    source.why.setdefault(position, "cancelled")
                    task.cancel()

    # -- one turn -----------------------------------------------------------------------------

    def ended(
        self,
        source: Source,
        position: int,
        value: Any,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """A coroutine has ended; its outcome is flushed at the end of this turn."""
        del source.running[position]
        source.deadlines.pop(position, None)
        if not source.running:
            self._sources.discard(source)
        self._busy -= 1
        self._end_turn_soon()
        if position in source.given_up:
            source.given_up.discard(position)
            return
        why = source.why.pop(position, "exception")
        if why == "timeout":
            value, error = None, source.passed(position)
        elif why == "cancelled":
            value, error = None, CancelledError()
        self._flush[id(source.outbox)] = source.outbox
        source.outbox.add(position, value, error, seconds, why)

    def _end_turn_soon(self) -> None:
        if not self._turn_ends:
            self._turn_ends = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turn_ends = False
        flush, self._flush = self._flush, {}
        self._begin()
        before, self._cpu = self._cpu, time.thread_time()
        share = (self._cpu - before) / max(len(flush), 1)
        for outbox in flush.values():
            outbox.flush(share)
        if self.idle:
            self._on_idle()

    def _begin(self) -> None:
        while self._open and self._busy < self._limit:
            source = self._open[0]
            began = self._begin_some(source)
            if began:
                self._sources.add(source)
                if source.task_timeout is not None:
                    self._limit_time(source, began, source.task_timeout)
            if not source.work.claims:
                self._open.popleft()

    def _begin_some(self, source: Source) -> list[int]:
        """As many as there are places for; the positions begun."""
        create, claim, run = self._loop.create_task, source.work.claims.popleft, source.run
        began: list[int] = []
        room = self._limit - self._busy
        try:
            while len(began) < room:
                position, payload = claim()
                if source.future is None or source.future.set_running_or_notify_cancel():
                    source.running[position] = create(run(position, payload))
                    began.append(position)
        except IndexError:  # somebody else took the rest
            pass
        self._busy += len(began)
        return began

    # -- time limits --------------------------------------------------------------------------

    def _limit_time(self, source: Source, began: list[int], seconds: float) -> None:
        deadline = self._loop.time() + seconds
        source.deadlines.update(dict.fromkeys(began, deadline))
        if source.timer is None:
            source.timer = self._loop.call_at(deadline, self._expire, source)

    def _expire(self, source: Source) -> None:
        """Cancel what has passed its time limit, and come back for the next one."""
        source.timer, now = None, self._loop.time()
        for position, deadline in list(source.deadlines.items()):
            if deadline > now:
                source.timer = self._loop.call_at(deadline, self._expire, source)
                break
            del source.deadlines[position]
            source.why.setdefault(position, "timeout")
            source.running[position].cancel()
            self._loop.call_later(CANCEL_SECONDS, self._give_up, source, position)

    def _give_up(self, source: Source, position: int) -> None:
        """It will not end although it was cancelled: it is reported, and keeps its place."""
        if position in source.running and source.why.get(position) == "timeout":
            del source.why[position]
            source.given_up.add(position)
            self._flush[id(source.outbox)] = source.outbox
            source.outbox.add(position, None, source.passed(position), 0.0, "timeout")
            self._end_turn_soon()
