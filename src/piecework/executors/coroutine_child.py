"""What a worker process of CoroutineExecutor runs in place of slots: one event loop.

    channel ──readable──▶ frames ──▶ CoroutineSlots ──once a turn──▶ results, in stretches

All tasks of the process share one channel and one run of numbers; outcomes come in any order. A
death has as many suspects as coroutines were running: each is tried again alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from socket import socket
from typing import Any

from piecework import codec
from piecework.executors import channel
from piecework.executors.coroutine_calls import Limited, end_loop, process_loop
from piecework.executors.coroutine_slots import CoroutineSlots
from piecework.executors.outbox import Outcome, position_of, stretches_of, timings_of
from piecework.executors.overheard import RUNNING
from piecework.executors.slot_thread import Channel, SlotThread, die, listen
from piecework.failures import failure_from
from piecework.task import Cause, Failure


def place() -> tuple[int, int]:
    """Whose print it is, by the context that it comes from: slot, number of the task."""
    seat = RUNNING.get()
    return (0, 0) if seat is None else (0, seat.position)


class Results:
    """Outcomes by their number, sent once a turn of the event loop."""

    overheard = None  # the master keeps what is printed

    def __init__(self, line: Channel) -> None:
        self._line = line
        self._done: list[Outcome] = []

    def add(
        self,
        number: int,
        value: Any,
        error: BaseException | None,
        seconds: float,
        cause: Cause = "exception",
    ) -> None:
        failure = None if error is None else failure_from(error, cause=cause)
        self._done.append((number, value, failure, seconds))

    def flush(self, cpu: float = 0.0) -> None:
        done, self._done = self._done, []
        if not done:
            return
        done.sort(key=position_of)
        for stretch in stretches_of(done):
            self._line.flush(
                stretch[0][0],
                [value for _, value, _, _ in stretch],
                {number: failure for number, _, failure, _ in stretch if failure is not None},
                timings_of([seconds for _, _, _, seconds in stretch]),
                cpu * len(stretch) / len(done),
            )


class FrameWork:
    """The tasks of one frame."""

    def __init__(
        self, fn: Callable[..., Any], star: bool, first: int, items: list[Any], results: Results
    ) -> None:
        self.fn = fn
        self.star = star
        self.claims: deque[tuple[int, Any]] = deque(enumerate(items, first))
        self._results = results

    def outbox(self, worker: str) -> Results:
        return self._results

    def give_up(self) -> None:
        self.claims.clear()

    def fail(self, error: BaseException) -> None:
        """Report what has not started as failed."""
        while self.claims:
            number, _ = self.claims.popleft()
            self._results.add(number, None, error, 0.0)
        self._results.flush()


class LoopWorker:
    """Reads frames as they come and begins their coroutines, until STOP."""

    def __init__(self, line: Channel, loader: SlotThread, limit: int) -> None:
        self._line = line
        self._loader = loader
        self._loop = process_loop()
        self._slots = CoroutineSlots(self._loop, limit, self._end_if_stopped)
        self._results = Results(line)
        self._stopped = False

    def run(self) -> None:
        self._loop.add_reader(self._line.sock.fileno(), self._read)
        self._loop.call_soon(self._take_frames)  # some came together with the setup
        while not (self._stopped and self._slots.idle):
            # A task that the user's coroutines create may end the event loop: it goes on.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()
        end_loop(self._loop)

    def _end_if_stopped(self) -> None:
        if self._stopped and self._slots.idle:
            self._loop.stop()

    def _read(self) -> None:

        try:
            if not self._line.frames.fill():
                die()
        except OSError:
            die()
        self._take_frames()

    def _take_frames(self) -> None:
        for frame in self._line.frames.frames():
            self._do(frame)
            del frame
        self._end_if_stopped()

    def _do(self, frame: channel.Frame) -> None:
        if frame.kind == channel.STOP:
            self._stopped = True
        elif frame.kind == channel.SINGLES:
            for number, data in enumerate(codec.loads(frame.body), frame.first):
                self._begin_single(number, data)
        elif frame.kind == channel.TASKS:
            self._begin_tasks(frame)
        else:
            self._loader._do(frame)

    def _begin_single(self, number: int, data: bytes) -> None:
        try:
            fn, args, kwargs = codec.loads(data)
        except BaseException as error:
            self._refuse(number, 1, failure_from(error))
            return
        fn, limit = _unlimited(fn)
        self._begin(lambda: fn(*args, **kwargs), True, number, [()], limit)

    def _begin_tasks(self, frame: channel.Frame) -> None:
        call = self._loader._calls[frame.call]
        if isinstance(call, Failure):
            self._refuse(frame.first, frame.count, call)
            return
        try:
            items = codec.loads(frame.body, frame.buffers)
        except BaseException as error:
            self._refuse(frame.first, frame.count, failure_from(error, cause="pickle"))
            return
        fn, limit = _unlimited(call)
        self._begin(fn, bool(frame.flags & channel.STAR), frame.first, items, limit)

    def _begin(
        self, fn: Callable[..., Any], star: bool, first: int, items: list[Any], limit: float | None
    ) -> None:
        self._slots.add(FrameWork(fn, star, first, items, self._results), self._results, limit)

    def _refuse(self, first: int, count: int, failure: Failure) -> None:
        failures = {first + offset: failure for offset in range(count)}
        self._line.flush(first, [None] * count, failures, [(count, 0.0)], 0.0)


def _unlimited(fn: Callable[..., Any]) -> tuple[Callable[..., Any], float | None]:
    return (fn.fn, fn.seconds) if isinstance(fn, Limited) else (fn, None)


def run_loop(line: Channel, control: socket, limit: int) -> None:
    """Serve the channel until the master says STOP."""
    from piecework.executors.slot_thread import SlotThread

    threading.Thread(
        target=listen, args=(control, []), name="piecework-control", daemon=True
    ).start()
    LoopWorker(line, SlotThread(line), limit).run()
