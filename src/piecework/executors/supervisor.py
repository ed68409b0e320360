"""The small process that starts, watches and ends the worker processes of one executor.

    master ──START id (descriptors)──▶ supervisor ──fork, or fork and exec──▶ worker
           ──KILL id signal─────────▶            ──signal to its process group─▶
           ◀─STARTED id pid, EXITED id status────

It is single-threaded and has nothing of the user's imported, so forking from it is safe while the
master runs threads; only the start method `fork` makes it a fork of the master itself. It is the
parent of the workers: it alone reaps them, so a signal can never hit a recycled process id. When
the master goes away, in whatever way, its socket ends and every worker is killed at once.
"""

from __future__ import annotations

import os
import select
import sys
from _struct import Struct

from piecework.lean import recv_fds, send_fds, signal, socket, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE = Struct("<BxxxIiQ")  # kind, worker, signal or status, descriptors or peak bytes
START, KILL, END = range(1, 4)
STARTED, EXITED = range(11, 13)
MAX_DESCRIPTORS = 250

_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from piecework.executors.{module} import main; main([int(n) for n in sys.argv[2:]])"
)


def interpreter_command(module: str, *numbers: int) -> list[str]:
    """The command that runs `main` of a module of this package in a fresh interpreter.

    It has the flags of this interpreter, and never the script's folder on its path: the worker
    does not import `__main__` again.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    flags = ["-P"]
    flags += ["-O"] * sys.flags.optimize
    flags += ["-B"] * bool(sys.flags.dont_write_bytecode)
    flags += ["-I"] if sys.flags.isolated else ["-E"] * bool(sys.flags.ignore_environment)
    flags += ["-s"] * bool(sys.flags.no_user_site and not sys.flags.isolated)
    flags += [f"-W{option}" for option in sys.warnoptions]
    for name, value in sys._xoptions.items():
        flags.append(f"-X{name}" if value is True else f"-X{name}={value}")
    boot = _BOOT.format(module=module)
    return [sys.executable, *flags, "-c", boot, root, *map(str, numbers)]


def spawn(command: list[str], descriptors: list[int]) -> int:
    """Start the command with these descriptors open under the same numbers; returns its pid."""
    # dup2 onto itself is what clears close-on-exec in the child and nowhere else.
    actions = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in descriptors]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setpgroup=0)


def run(sock: socket.socket, start: Forker | Callable[[list[int]], int]) -> None:
    """Serve the master until it ends or says END, then make sure that no worker is left."""
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    workers: dict[int, int] = {}  # pid: id
    pids: dict[int, int] = {}
    waiting = select.poll()  # not select(): a server's descriptors pass 1,024
    waiting.register(sock.fileno(), select.POLLIN)
    waiting.register(wake_read, select.POLLIN)
    serving = True
    forker = start if isinstance(start, Forker) else None
    while serving or workers:
        events = waiting.poll(0)
        if forker is not None and not events:
            forker.idle()
        ready = {fd for fd, _ in events or waiting.poll()}
        if wake_read in ready:
            with suppress(BlockingIOError):
                os.read(wake_read, 4096)
        if serving and sock.fileno() in ready:
            serving = _serve(sock, start, workers, pids)
            if not serving:
                waiting.unregister(sock.fileno())
                for pid in workers:
                    kill_group(pid, signal.SIGKILL)
        _reap(sock, workers, pids)
    if forker is not None:
        forker.close()


def _serve(
    sock: socket.socket,
    start: Callable[[list[int]], int],
    workers: dict[int, int],
    pids: dict[int, int],
) -> bool:
    """Do what one message says; False where there will be no other."""
    try:
        data, fds = recv_fds(sock, MESSAGE.size, MAX_DESCRIPTORS)
    except OSError:
        return False
    if len(data) < MESSAGE.size:
        return False
    kind, worker, argument, _ = MESSAGE.unpack(data)
    if kind == START:
        try:
            pid = start(fds)
        except OSError:  # no process or no memory left: that worker cannot be had
            _tell(sock, EXITED, worker, 71, 0)
            return True
        finally:
            for fd in fds:
                os.close(fd)
        workers[pid] = worker
        pids[worker] = pid
        _tell(sock, STARTED, worker, pid, 0)
    elif kind == KILL and worker in pids:
        kill_group(pids[worker], argument)
    return bool(kind != END)


def _reap(sock: socket.socket, workers: dict[int, int], pids: dict[int, int]) -> None:
    while workers:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        worker = workers.pop(pid, None)
        if worker is None:
            continue
        pids.pop(worker, None)
        if os.WIFSIGNALED(status):
            kill_group(pid, signal.SIGKILL)  # what it had started itself
        unit = 1 if sys.platform == "darwin" else 1024
        _tell(sock, EXITED, worker, os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit)


def _tell(sock: socket.socket, kind: int, worker: int, value: int, peak: int) -> None:
    with suppress(OSError):  # the master is gone: the next select says so
        sock.sendall(MESSAGE.pack(kind, worker, value, peak))


def kill_group(pid: int, number: int) -> None:
    """Signal a worker and all that it started; one that has not made its group yet, alone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Forker:
    """A `start` that forks; `body` gets the descriptors and must not return.

    With `spare` it forks one worker before it is asked for: what a fork costs, and what its copy of
    this memory costs when it is first written to, is over before there is a task.
    """

    def __init__(
        self, sock: socket.socket, body: Callable[[list[int]], object], *, spare: bool = False
    ) -> None:
        self._sock = sock
        self._body = body
        self._wanted = spare
        self._spare = 0
        self._line: socket.socket | None = None  # to the spare one, which waits for descriptors

    def __call__(self, fds: list[int]) -> int:
        pid, line = self._spare, self._line
        self._wanted = False
        self._spare, self._line = 0, None
        if line is not None:
            try:
                send_fds(line, b"+", fds)
                return pid
            except OSError:  # somebody has killed it
                pass
            finally:
                line.close()
        return self._fork(lambda: self._body(fds))

    def idle(self) -> None:
        """Nothing is asked for now: fork the spare one."""
        if not self._wanted:
            return
        self._wanted = False
        ours, theirs = socket.socketpair()
        with suppress(OSError):  # no process left: it is told where a worker is asked for
            self._spare = self._fork(lambda: self._wait(ours, theirs))
            self._line = ours
        theirs.close()

    def _wait(self, ours: socket.socket, theirs: socket.socket) -> None:
        ours.close()  # or its end would never be seen here
        _, fds = recv_fds(theirs, 1, MAX_DESCRIPTORS)
        if not fds:
            os._exit(0)
        theirs.close()
        self._body(fds)

    def _fork(self, body: Callable[[], object]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            wake = signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)
            self._sock.close()
            if wake >= 0:
                os.close(wake)
            body()
        finally:
            os._exit(70)

    def close(self) -> None:
        """No worker is left, and none in reserve either."""
        if self._line is not None:
            self._line.close()
            with suppress(OSError):
                os.kill(self._spare, signal.SIGKILL)
                os.waitpid(self._spare, 0)


def spawn_worker(fds: list[int]) -> int:
    """A `start` that runs a worker in a fresh interpreter."""
    return spawn(interpreter_command("child", *fds), fds)


def main(numbers: list[int]) -> None:
    """The supervisor in an interpreter of its own; `numbers` are its socket and 1 for spawn."""
    from piecework.executors import child  # once here, not once in each worker

    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=numbers[0])
    os.set_inheritable(numbers[0], False)
    run(sock, spawn_worker if numbers[1] else Forker(sock, child.main, spare=True))
    os._exit(0)  # nothing of the user's was imported: there is nothing to clean up
