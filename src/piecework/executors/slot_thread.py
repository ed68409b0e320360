"""The worker's end of its channels: a thread a slot that runs frames, and one that listens.

channel of slot n ──▶ SlotThread n: decode ─▶ Slot.run ─▶ encode ──▶ channel of slot n
control socket ─────▶ listen: flush what waits, dump stacks, die with the master
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, get_ident

from piecework import codec
from piecework.executors import channel, shared
from piecework.executors.printing import flush_c
from piecework.executors.slot import (
    CURRENT,
    DECODING,
    FLUSHING,
    IDLE,
    LOADED,
    LOADING,
    PHASE,
    WORDS,
    Slot,
)
from piecework.failures import failure_from
from piecework.lean import pickle, signal, socket, suppress
from piecework.spin import Spin
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from piecework.executors.printing import Printer

_BASIC = frozenset({int, float, str, bytes, bool, type(None), complex})
"""Types whose pickling and unpickling cannot fail: a whole list of them goes in one go."""

_FLUSH, _DUMP = b"F", b"D"


class Channel:
    """The worker's end of one slot: blocking, used by the slot's thread; flushes may come from
    the listener, one frame at a time."""

    def __init__(self, number: int, sock: socket.socket, memory: shared.Memory) -> None:
        self.words = memory.words(number * WORDS, WORDS)
        self.sock = sock
        self.frames = channel.FrameReader(sock, memory.reader(shared.ARGUMENTS))
        # Only slot 0 has the arena: two writers would need a lock that a death could take along.
        self.arena = memory.writer(shared.RESULTS) if number == 0 else None
        self.lock = allocate_lock()

    def send(self, kind: int, body: bytes = b"", **header: Any) -> None:
        with self.lock:
            channel.send_all(self.sock, channel.encode(kind, body, arena=self.arena, **header))

    def flush(
        self,
        first: int,
        values: list[Any],
        failures: dict[int, Failure],
        timings: list[tuple[int, float]],
        cpu: float,
    ) -> None:
        """Send results; one that cannot be pickled becomes a failure of its task alone."""
        flush_c()
        count = len(values)
        buffers: list[memoryview] = []
        flags = 0
        packed: list[Any] = values
        if not _BASIC.issuperset(map(type, values)):
            flags = channel.PER_ITEM
            packed = []
            for offset, value in enumerate(values):
                packed.append(self._pack(value, first + offset, failures, buffers))
        body = pickle.dumps((packed, failures, timings, cpu), 5)
        self.send(channel.RESULTS, body, flags=flags, count=count, first=first, buffers=buffers)

    def _pack(
        self,
        value: Any,
        number: int,
        failures: dict[int, Failure],
        buffers: list[memoryview],
    ) -> tuple[bytes, int] | None:
        if value is None:
            return None
        try:
            data, large = codec.dumps_buffers(value, by_value_main=False, what="result")
            raw = [buffer.raw() for buffer in large]
        except BaseException as error:  # __reduce__ of the user's class may do anything
            failures[number] = failure_from(error, cause="pickle")
            return None
        buffers.extend(raw)
        return data, len(raw)

    def skip(self, first: int, count: int) -> None:
        self.send(channel.SKIPPED, first=first, count=count)


def call_single(data: memoryview) -> Any:
    """Run one submitted call: decoding it is part of the task, so a failure there is its own."""
    fn, args, kwargs = pickle.loads(data)
    return fn(*args, **kwargs)


class SlotThread:
    """Reads frames of one channel and runs them, until STOP or the end of the master."""

    def __init__(self, line: Channel, number: int = 0, printer: Printer | None = None) -> None:
        self.line = line
        self._number = number
        self._printer = printer
        alone = printer is not None and printer.only is not None
        mark = printer.mark if printer is not None and alone else None
        self._alone = printer if alone else None
        self.slot = Slot(line.words, self._flush if alone else line.flush, line.skip, mark)
        self._calls: dict[int, Callable[..., Any] | Failure] = {}

    def _flush(
        self,
        first: int,
        values: list[Any],
        failures: dict[int, Failure],
        timings: list[tuple[int, float]],
        cpu: float,
    ) -> None:
        """Send results; a task that still runs meanwhile goes on with what it writes."""
        if self._alone is not None and not self.line.words[FLUSHING]:
            self._alone.mark_if_asked(first + len(values) - 1)
        self.line.flush(first, values, failures, timings, cpu)

    def run(self) -> None:
        """Serve the channel; what escapes a slot ends the worker, or its master would wait."""
        if self._printer is not None:
            self._printer.serve(self._number, self.line.words)
        try:
            self._serve()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(70)

    def _serve(self) -> None:
        frames, spin = self.line.frames, Spin()
        while True:
            for frame in frames.frames():  # some came together with the setup
                if frame.kind == channel.STOP:
                    return
                self._do(frame)
                del frame
            if not frames.await_more(spin):
                die()

    def _do(self, frame: channel.Frame) -> None:
        if frame.kind == channel.TASKS:
            self._run_tasks(frame)
        elif frame.kind == channel.SINGLES:
            items = pickle.loads(frame.body)
            self.slot.run(call_single, items, frame.first)
        elif frame.kind == channel.CALL:
            self._calls[frame.call] = self._load_call(frame.call, bytes(frame.body))
        elif frame.kind == channel.FORGET:
            self._calls.pop(frame.call, None)

    def _load_call(self, number: int, data: bytes) -> Callable[..., Any] | Failure:
        words = self.line.words
        words[LOADED] = number
        words[PHASE] = LOADING
        try:
            return codec.loads(data)  # type: ignore[no-any-return]
        except BaseException as error:
            return failure_from(error)
        finally:
            words[PHASE] = IDLE
            words[LOADED] = 0

    def _run_tasks(self, frame: channel.Frame) -> None:
        words = self.line.words
        words[CURRENT] = frame.first
        words[PHASE] = DECODING
        fn = self._calls[frame.call]
        failure = fn if isinstance(fn, Failure) else None
        if failure is None:
            try:
                items = codec.loads(frame.body, frame.buffers)
            except BaseException as error:
                failure = failure_from(error, cause="pickle")
        if failure is not None:
            failures = {frame.first + offset: failure for offset in range(frame.count)}
            self.line.flush(frame.first, [None] * frame.count, failures, [(frame.count, 0.0)], 0.0)
            words[CURRENT] = 0
            return
        assert callable(fn)
        self.slot.run(fn, items, frame.first, star=bool(frame.flags & channel.STAR))


def listen(control: socket.socket, slots: list[SlotThread]) -> None:
    """Obey the master's control bytes; its end is ours, whatever the slots are doing."""
    while True:
        try:
            data = control.recv(1)
        except OSError:
            data = b""
        if not data:
            die()
        elif data == _FLUSH:
            for slot in slots:
                slot.slot.shorten()
                with suppress(OSError):
                    slot.slot.flush_finished()
        elif data == _DUMP:
            with suppress(OSError):
                control.sendall(_stacks().encode("utf-8", "backslashreplace")[:60_000])


def _stacks() -> str:
    import traceback

    names = _thread_names()
    text = []
    for ident, frame in sys._current_frames().items():
        if ident != get_ident() and (name := names.get(ident, "MainThread" if not names else "")):
            text.append(f"Stack of {name}, most recent call last:\n")
            text += traceback.format_stack(frame)
    return "".join(text)


def _thread_names() -> dict[int | None, str]:
    """By identity; empty where nobody has imported `threading`, which the thread that first does
    takes for the main one, so that it must not be this one."""
    threading = sys.modules.get("threading")
    return {} if threading is None else {t.ident: t.name for t in threading.enumerate()}


def die() -> None:
    """The master is gone: nothing that this process or its children do is wanted any more."""
    with suppress(OSError):
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
    os._exit(1)
