"""The master's handle on its supervisor: start it, have workers started and signalled."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from piecework import codec
from piecework.errors import UsageError
from piecework.executors import supervisor
from piecework.executors.supervisor import MESSAGE
from piecework.executors.worker_process import WorkerProcess
from piecework.loop import READ, Loop


class Launcher:
    """Starts the supervisor with the first worker; `on_change(worker)` when one has exited,
    `on_change(None)` when the supervisor itself is gone."""

    def __init__(
        self,
        loop: Loop,
        method: str,
        initializer: Callable[..., Any] | None,
        initargs: tuple[Any, ...],
        on_change: Callable[[WorkerProcess | None], None],
    ) -> None:
        self._loop = loop
        self._method = method
        self._initializer = initializer
        self._initargs = initargs
        self._on_change = on_change
        self._sock: socket.socket | None = None
        self._pid = 0
        self._workers: dict[int, WorkerProcess] = {}
        self._packed_initializer: bytes | None = None
        self._inherited: list[int] = []
        if method != "fork" and initializer is not None:
            self._packed_initializer = self._pack(initializer, initargs)

    def _pack(self, initializer: Callable[..., Any], initargs: tuple[Any, ...]) -> bytes:
        """Pickled as for a child of multiprocessing, so its locks and queues may be in it."""
        if "multiprocessing.context" not in sys.modules:
            return codec.dumps((initializer, initargs), what="initializer")
        from piecework.executors.spawning import dumps_for_child

        data, self._inherited = dumps_for_child((initializer, initargs))
        return data

    # -- start ---------------------------------------------------------------------------------

    def setup(self, coroutines: int) -> bytes:
        """What a worker is told first; it never re-imports `__main__`."""
        setup: dict[str, Any] = {"coroutines": coroutines, "initializer": None}
        setup["inherited"] = len(self._inherited)
        if self._method != "fork":
            setup.update(
                path=sys.path,
                argv=sys.argv,
                environ=dict(os.environ),
                folder=os.getcwd(),
                initializer=self._packed_initializer,
            )
        process = sys.modules.get("multiprocessing.process")
        if process is not None and "multiprocessing.connection" in sys.modules:
            setup["authkey"] = bytes(process.current_process().authkey)
        return pickle.dumps(setup, 5)

    def start(self, worker: WorkerProcess) -> None:
        """Have the worker started; `worker.pid` follows."""
        fds = worker.descriptors + self._inherited
        if len(fds) > supervisor.MAX_DESCRIPTORS:
            raise UsageError(
                f"{len(worker.lines)} threads in one worker process are too many: "
                f"use at most {supervisor.MAX_DESCRIPTORS - 2}, or more max_workers"
            )
        if self._sock is None:
            self._start_supervisor()
        assert self._sock is not None
        self._workers[worker.number] = worker
        message = MESSAGE.pack(supervisor.START, worker.number, 0, len(fds))
        with contextlib.suppress(OSError):  # it died: the end of its socket says so
            socket.send_fds(self._sock, [message], fds)
        worker.started()

    def _start_supervisor(self) -> None:
        ours, theirs = socket.socketpair()
        if self._method == "fork":
            self._pid = self._fork(theirs)
        else:
            if not sys.executable:
                raise UsageError(
                    "sys.executable is empty, so no worker process can be started: "
                    'use mp_context="fork"'
                )
            command = supervisor.interpreter_command(
                "supervisor", theirs.fileno(), int(self._method == "spawn")
            )
            self._pid = supervisor.spawn(command, [theirs.fileno()])
        theirs.close()
        self._sock = ours
        self._loop.register(ours.fileno(), READ, self._on_message)

    def _fork(self, sock: socket.socket) -> int:
        """The start method fork: the supervisor is a copy of this process, and forks copies."""
        from piecework.executors import child

        inherited = (self._initializer, self._initargs)
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            start = supervisor.fork_worker(sock, lambda fds: child.main(fds, inherited))
            supervisor.run(sock, start)
            os._exit(0)
        finally:
            os._exit(70)

    # -- watch and end -------------------------------------------------------------------------

    def kill(self, worker: WorkerProcess, number: int) -> None:
        self._send(supervisor.KILL, worker.number, number)

    def _send(self, kind: int, worker: int = 0, argument: int = 0) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.sendall(MESSAGE.pack(kind, worker, argument, 0))

    def _on_message(self, _events: int) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(64 * MESSAGE.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop()
            self._on_change(None)
            return
        for kind, number, value, peak in MESSAGE.iter_unpack(data):
            worker = self._workers.get(number)
            if worker is None:
                continue
            if kind == supervisor.STARTED:
                worker.pid = value
            elif kind == supervisor.EXITED:
                worker.exited, worker.status, worker.peak = True, value, peak
                del self._workers[number]
                self._on_change(worker)

    def _drop(self) -> None:
        """The supervisor is gone: reap it; the next worker gets a new one."""
        if self._sock is not None:
            self._loop.unregister(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._workers.clear()
        self._reap()

    def _reap(self) -> None:
        if self._pid:
            with contextlib.suppress(ChildProcessError):  # somebody waited for all children
                os.waitpid(self._pid, 0)
            self._pid = 0

    def close(self) -> None:
        """Tell the supervisor to end and wait for it: it has nothing left to do."""
        self._send(supervisor.END)
        self._drop()
        for fd in self._inherited:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._inherited = []

    def forked(self) -> None:
        """In a forked child: the supervisor is not ours."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._pid = 0
