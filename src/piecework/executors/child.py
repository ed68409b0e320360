"""What a worker process runs: one thread a slot, and one that listens to the master's control.

    channel of slot n ──▶ thread n: decode ─▶ Slot.run ─▶ encode ──▶ channel of slot n
    control socket ─────▶ listener: flush what waits, dump stacks, die with the master

The main thread runs slot 0, so user code that needs the main thread (signal handlers, some
libraries) finds it. Little is imported here: every worker pays for it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from piecework import codec
from piecework.executors import channel, shared
from piecework.executors.slot import CURRENT, DECODING, IDLE, LOADING, PHASE, WORDS, Slot
from piecework.failures import failure_from
from piecework.task import Failure

_BASIC = frozenset({int, float, str, bytes, bool, type(None), complex})
"""Types whose pickling and unpickling cannot fail: a whole list of them goes in one go."""

_FLUSH, _DUMP = b"F", b"D"


class Channel:
    """The worker's end of one slot: blocking, used by the slot's thread; flushes may come from
    the listener, one frame at a time."""

    def __init__(self, number: int, sock: socket.socket, fd: int, words: Any) -> None:
        base = number * WORDS
        self.words = memoryview(words)[: shared.PAGE].cast("Q")[base : base + WORDS]
        self.sock = sock
        self.reader = shared.ArenaReader(fd, words, shared.ARGUMENTS)
        self.frames = channel.FrameReader(sock, self.reader)
        # Only slot 0 has the arena: two writers would need a lock that a death could take along.
        self.arena = shared.ArenaWriter(fd, words, shared.RESULTS) if number == 0 else None
        self.lock = threading.Lock()

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

    def __init__(self, line: Channel) -> None:
        self.line = line
        self.slot = Slot(line.words, line.flush, line.skip)
        self._calls: dict[int, Callable[..., Any] | Failure] = {}

    def run(self) -> None:
        frames, reader = self.line.frames, self.line.reader
        while True:
            for frame in frames.frames():  # some came together with the setup
                if frame.kind == channel.STOP:
                    return
                self._do(frame)
                del frame
            reader.collect()
            if not frames.fill():
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
        words[CURRENT] = number
        words[PHASE] = LOADING
        try:
            return codec.loads(data)  # type: ignore[no-any-return]
        except BaseException as error:
            return failure_from(error)
        finally:
            words[PHASE] = IDLE
            words[CURRENT] = 0

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


def _listen(control: socket.socket, slots: list[SlotThread]) -> None:
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
                with contextlib.suppress(OSError):
                    slot.slot.flush_finished()
        elif data == _DUMP:
            with contextlib.suppress(OSError):
                control.sendall(_stacks().encode("utf-8", "backslashreplace")[:60_000])


def _stacks() -> str:
    import traceback

    frames = sys._current_frames()
    own = threading.get_ident()
    text = []
    for thread in threading.enumerate():
        if thread.ident != own and thread.ident in frames:
            text.append(f"Stack of {thread.name}, most recent call last:\n")
            text += traceback.format_stack(frames[thread.ident])
    return "".join(text)


def die() -> None:
    """The master is gone: nothing that this process or its children do is wanted any more."""
    with contextlib.suppress(OSError):
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main(fds: list[int], inherited: tuple[Any, Any] | None = None) -> None:
    """Run the worker on its descriptors: memory, control, then a channel for each slot."""
    memory, control_fd, first_fd, *others = fds
    for fd in fds:
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, lambda *_: None)  # the master decides when to stop
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    words = shared.map_words(memory)
    control = socket.socket(fileno=control_fd)
    lines = [Channel(0, socket.socket(fileno=first_fd), memory, words)]
    setup = _receive_setup(lines[0])
    channels = len(others) - setup["inherited"]
    for number, fd in enumerate(others[:channels], 1):
        lines.append(Channel(number, socket.socket(fileno=fd), memory, words))
    if setup["inherited"]:
        from piecework.executors import spawning

        spawning.received = others[channels:]
    _become_worker(setup, forked=inherited is not None)
    try:
        _initialize(setup, inherited)
    except BaseException as error:
        lines[0].send(channel.REFUSED, pickle.dumps(failure_from(error)))
        _leave(1)
    if setup["coroutines"]:
        from piecework.executors.coroutine_child import run_loop

        lines[0].send(channel.READY)
        run_loop(lines[0], control, setup["coroutines"])
        _leave(0)
    slots = [SlotThread(line) for line in lines]
    threading.Thread(
        target=_listen, args=(control, slots), name="piecework-control", daemon=True
    ).start()
    lines[0].send(channel.READY)
    threads = [
        threading.Thread(target=slot.run, name=f"piecework-slot-{n}", daemon=True)
        for n, slot in enumerate(slots[1:], 1)
    ]
    for thread in threads:
        thread.start()
    slots[0].run()
    for thread in threads:
        thread.join()
    _leave(0)


def _receive_setup(line: Channel) -> dict[str, Any]:
    while line.frames.fill():
        for frame in line.frames.frames():
            assert frame.kind == channel.SETUP
            setup: dict[str, Any] = pickle.loads(frame.body)
            return setup
    die()
    raise AssertionError


def _become_worker(setup: dict[str, Any], *, forked: bool) -> None:
    """Look to user code like the master: its path, folder, environment; stdin is empty."""
    if not forked:
        sys.path[:] = setup["path"]
        sys.argv[:] = setup["argv"]
        os.environ.clear()
        os.environ.update(setup["environ"])
        sys.modules["__main__"] = types.ModuleType("__main__")
        with contextlib.suppress(OSError):
            os.chdir(setup["folder"])
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    _tell_multiprocessing(setup.get("authkey"), forked=forked)


def _tell_multiprocessing(authkey: bytes | None, *, forked: bool) -> None:
    """Let its managers accept us, and let it forget the children of the process we came from."""
    if authkey is not None:
        from multiprocessing import process

        process.current_process().authkey = authkey
    if forked:
        import atexit

        atexit._clear()
        if "multiprocessing.util" in sys.modules:
            from multiprocessing import process, util

            process._children = set()  # type: ignore[attr-defined]
            util._finalizer_registry.clear()  # type: ignore[attr-defined]
            util._run_after_forkers()  # type: ignore[attr-defined]


def _initialize(setup: dict[str, Any], inherited: tuple[Any, Any] | None) -> None:
    if inherited is not None:
        initializer, arguments = inherited
    elif setup["initializer"] is None:
        return
    else:
        initializer, arguments = codec.loads(setup["initializer"])
    if initializer is not None:
        initializer(*arguments)


def _leave(code: int) -> None:
    """End as an interpreter ends: exit handlers, queues of multiprocessing, output flushed."""
    import atexit

    with contextlib.suppress(BaseException):
        if "multiprocessing.util" in sys.modules:
            from multiprocessing import util

            util._exit_function()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code)
