"""What a worker process runs: it becomes a worker, then serves its slots until told to stop.

    descriptors ─▶ setup frame ─▶ initializer ─▶ READY ─▶ one thread a slot, or one event loop

The main thread runs slot 0, so user code that needs the main thread (signal handlers, some
libraries) finds it. Little is imported here: every worker pays for it.
"""

from __future__ import annotations

import os
import sys
from _thread import start_new_thread

from piecework import codec, mainspace
from piecework.executors import channel, logs, printing, share, shared
from piecework.executors.slot_thread import Channel, SlotThread, die, listen
from piecework.failures import failure_from
from piecework.lean import pickle, signal, socket, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(fds: list[int], inherited: tuple[Any, Any] | None = None) -> None:
    """Run the worker on its descriptors: memory, control, then a channel for each slot."""
    fds = [_clear_of_streams(fd) for fd in fds]
    memory_fd, out_fd, err_fd, control_fd, first_fd, *others = fds
    for fd in fds:
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, lambda *_: None)  # the master decides when to stop
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    memory = shared.Memory(memory_fd)
    printer = printing.install((out_fd, err_fd), memory.output())
    control = socket.socket(fileno=control_fd)
    lines = [Channel(0, socket.socket(fileno=first_fd), memory)]
    setup = _receive_setup(lines[0])
    channels = len(others) - setup["inherited"]
    for number, fd in enumerate(others[:channels], 1):
        lines.append(Channel(number, socket.socket(fileno=fd), memory))
    if setup["inherited"]:
        from piecework.executors import spawning

        spawning.received = others[channels:]
    _become_worker(setup, forked=inherited is not None)
    logs.prepare(printer, setup["levels"], forked=inherited is not None)
    printer.serve(0, lines[0].words)
    if len(lines) == 1:
        printer.only = 0, lines[0].words
    try:
        _initialize(setup, inherited)
    except BaseException as error:
        import logging  # where the standard executors say it, too

        logger = logging.getLogger("concurrent.futures")
        logger.critical("Exception in initializer:", exc_info=True)
        _wind_up()  # what it logged is out before the executor is known to be broken
        lines[0].send(channel.REFUSED, pickle.dumps(failure_from(error)))
        os._exit(1)
    if setup["coroutines"]:
        from piecework.executors.coroutine_child import place, run_loop

        printer.only, printer.place = None, place
        lines[0].send(channel.READY)
        run_loop(lines[0], control, setup["coroutines"])
        _leave(0)
    slots = [SlotThread(line, number, printer) for number, line in enumerate(lines)]
    start_new_thread(listen, (control, slots))
    lines[0].send(channel.READY)
    threads = _started(slots[1:])
    slots[0].run()
    for thread in threads:
        thread.join()
    _leave(0)


def _started(slots: list[SlotThread]) -> list[Any]:
    """Threads that serve these slots; a worker with one slot does not even import `threading`."""
    if not slots:
        return []
    from threading import Thread

    threads = []
    for number, slot in enumerate(slots, 1):
        thread = Thread(target=slot.run, name=f"piecework-slot-{number}", daemon=True)
        thread.start()
        threads.append(thread)
    return threads


def _clear_of_streams(fd: int) -> int:
    """The same with a number that is not 0, 1 or 2, which a master may have had closed."""
    clear = fd
    low = []
    while clear < 3:
        low.append(clear)
        clear = os.dup(clear)
    for number in low:
        os.close(number)
    return clear


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
        with suppress(OSError):
            os.chdir(setup["folder"])
    share.become(setup["share"])
    os.environ.update(setup["limits"])
    if forked and "numpy" in sys.modules and setup["limits"]:
        from piecework.executors import blas

        blas.limit_loaded(setup["limits"])
    mainspace.adopt(fresh=not forked)
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
    _wind_up()
    os._exit(code)


def _wind_up() -> None:
    """End as an interpreter ends: exit handlers, queues of multiprocessing, output flushed."""
    import atexit

    with suppress(BaseException):
        if "multiprocessing.util" in sys.modules:
            from multiprocessing import util

            util._exit_function()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if "piecework.console" in sys.modules:  # a map inside a task
            sys.modules["piecework.console"].CONSOLE.flush()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
