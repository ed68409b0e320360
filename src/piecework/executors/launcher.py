"""The master's handle on its supervisor: start it, have workers started and signalled."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from piecework import codec
from piecework.executors import supervisor
from piecework.executors.blas import limits
from piecework.executors.boot import Boot
from piecework.executors.logs import levels
from piecework.executors.supervisor import MESSAGE
from piecework.executors.worker_process import WorkerProcess
from piecework.lean import pickle, send_fds, signal, socket, suppress
from piecework.loop import READ, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.executors.share import Share


class Launcher:
    """Has a supervisor, `booted` or started with the first worker. `on_change(worker)` when a
    worker has exited, `on_change(None)` when the supervisor itself is gone."""

    def __init__(
        self,
        loop: Loop,
        method: str,
        initializer: Callable[..., Any] | None,
        initargs: tuple[Any, ...],
        on_change: Callable[[WorkerProcess | None], None],
        boot: Boot,
        booted: tuple[socket.socket, int] | None,
        share: Share,
    ) -> None:
        self._loop = loop
        self._method = method
        self._on_change = on_change
        self._boot = boot
        self._share = share  # of the machine, for each slot
        self._sock: socket.socket | None = None
        self._pid = 0
        self._started = False
        self._workers: dict[int, WorkerProcess] = {}
        self._packed_initializer: bytes | None = None
        self._inherited: list[int] = []
        if booted is not None:
            self._watch(*booted)
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
        setup["share"] = self._share
        setup["levels"] = levels()
        setup["limits"] = limits(os.environ, self._share[0])
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
        if self._sock is None:
            self._watch(*self._boot())
        assert self._sock is not None
        self._started = True
        self._workers[worker.number] = worker
        message = MESSAGE.pack(supervisor.START, worker.number, 0, len(fds))
        with suppress(OSError):  # it died: the end of its socket says so
            send_fds(self._sock, message, fds)
        worker.started()

    def _watch(self, sock: socket.socket, pid: int) -> None:
        self._sock, self._pid = sock, pid
        self._loop.register(sock.fileno(), READ, self._on_message)

    # -- watch and end -------------------------------------------------------------------------

    def kill(self, worker: WorkerProcess, number: int) -> None:
        self._send(supervisor.KILL, worker.number, number)

    def _send(self, kind: int, worker: int = 0, argument: int = 0) -> None:
        if self._sock is not None:
            with suppress(OSError):
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
            with suppress(ChildProcessError):  # somebody waited for all children
                os.waitpid(self._pid, 0)
            self._pid = 0

    def close(self) -> None:
        """Have the supervisor end and wait for it: it has nothing left to do."""
        if self._started or not self._pid:
            self._send(supervisor.END)
        else:  # it may still be booting: do not wait for that
            with suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
        self._drop()
        for fd in self._inherited:
            with suppress(OSError):
                os.close(fd)
        self._inherited = []

    def forked(self) -> None:
        """In a forked child: the supervisor is not ours."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._pid = 0
