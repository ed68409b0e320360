"""The real supervisor process: it starts, watches and ends workers, and outlives nobody."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import piecework
from piecework.executors import channel, supervisor
from piecework.executors.boot import boot_copy, boot_fresh
from piecework.executors.supervisor import END, EXITED, KILL, MESSAGE, START, STARTED
from piecework.executors.worker_process import WorkerProcess
from piecework.loop import Loop
from tests.executors import process_tasks as tasks

PATIENCE = 20.0
METHODS = ["fork", "forkserver", "spawn"]
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


class Supervisor:
    """What a master has: the socket and the process id."""

    def __init__(self, method: str) -> None:
        boot = boot_copy(None, ()) if method == "fork" else boot_fresh(spawn=method == "spawn")
        self.sock, self.pid = boot
        self.sock.settimeout(PATIENCE)
        self.loop = Loop("test")
        self.workers: dict[int, WorkerProcess] = {}

    def start(self, number: int) -> int:
        """Have a worker started and set up; its process id."""
        worker = WorkerProcess(number, self.loop, 1)
        worker.watch(lambda line: None)
        self.workers[number] = worker
        setup = {
            "coroutines": 0,
            "initializer": None,
            "inherited": 0,
            "share": (1, 1),
            "limits": {},
            "levels": {},
            "path": sys.path,
            "argv": sys.argv,
            "environ": dict(os.environ),
            "folder": os.getcwd(),
        }
        worker.lines[0].post(channel.SETUP, pickle.dumps(setup))
        descriptors = worker.descriptors
        message = MESSAGE.pack(START, number, 0, len(descriptors))
        socket.send_fds(self.sock, [message], descriptors)
        worker.started()
        kind, told, pid, _ = self.hear()
        assert (kind, told) == (STARTED, number)
        return pid

    def hear(self) -> tuple[int, int, int, int]:
        data = self.sock.recv(MESSAGE.size, socket.MSG_WAITALL)
        assert len(data) == MESSAGE.size, "the supervisor is gone"
        told: tuple[int, int, int, int] = MESSAGE.unpack(data)
        return told

    def say(self, kind: int, worker: int = 0, argument: int = 0) -> None:
        self.sock.sendall(MESSAGE.pack(kind, worker, argument, 0))

    def run(self, number: int, function: object, *args: object) -> None:
        """Have a worker run a call; nobody waits for its result."""
        line = self.workers[number].lines[0]
        line.post_singles([pickle.dumps((function, args, {}))], 1)

    def close(self) -> None:
        self.sock.close()
        with watched(self.pid) as handles:
            if not all_end(handles):
                os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for worker in self.workers.values():
            worker.close()
        self.loop.close()


@contextmanager
def watched(*pids: int) -> Iterator[list[int]]:
    """Handles on processes that are not ours: readable when they have ended."""
    handles = [os.pidfd_open(pid) for pid in pids]
    try:
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def all_end(handles: list[int]) -> bool:
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(PATIENCE * 1000):
            return False
    return True


@pytest.fixture(params=METHODS)
def made(request: pytest.FixtureRequest) -> Iterator[Supervisor]:
    supervisor = Supervisor(request.param)
    yield supervisor
    supervisor.close()


def read_pid(path: Path) -> int:
    """What a task writes to a named pipe: reading waits for it."""
    return int(path.read_text())


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_worker_is_no_child_of_the_master_and_leads_its_own_group(made: Supervisor) -> None:
    pid = made.start(1)
    made.run(1, str)  # it has set itself up once it reads from its channel
    line = made.workers[1].lines[0]
    line.sock.setblocking(True)
    line.sock.settimeout(PATIENCE)
    line.frames.fill()
    with open(f"/proc/{pid}/stat") as file:
        _, parent, group = file.read().rsplit(")", 1)[1].split()[:3]
    assert int(parent) == made.pid
    assert int(group) == pid
    assert os.getpgid(made.pid) == made.pid


def test_the_end_of_a_worker_is_told_with_its_status_and_its_peak(made: Supervisor) -> None:
    made.start(7)
    made.run(7, os._exit, 3)
    kind, number, status, peak = made.hear()
    assert (kind, number, status) == (EXITED, 7, 3)
    assert 1 << 20 < peak < 1 << 40


def test_a_signal_ends_that_worker_and_what_it_had_started(made: Supervisor, pipe: Path) -> None:
    worker, other = made.start(1), made.start(2)
    made.run(1, tasks.start_a_child, str(pipe))
    child = read_pid(pipe)
    with watched(worker, child) as handles:
        made.say(KILL, 1, signal.SIGKILL)
        assert all_end(handles)
    assert made.hear()[:3] == (EXITED, 1, -signal.SIGKILL)
    os.kill(other, 0)
    made.say(KILL, 1, signal.SIGKILL)  # it is not there any more: nobody is hit
    made.say(KILL, 2, signal.SIGTERM)
    assert made.hear()[:3] == (EXITED, 2, -signal.SIGTERM)


def test_what_a_killed_worker_had_started_ends_with_it(made: Supervisor, pipe: Path) -> None:
    worker = made.start(1)
    made.run(1, tasks.start_a_child, str(pipe))
    child = read_pid(pipe)
    with watched(child) as handles:
        os.kill(worker, signal.SIGUSR1)
        assert all_end(handles)


def test_at_the_end_of_its_master_every_worker_is_killed(made: Supervisor, pipe: Path) -> None:
    pids = [made.start(1), made.start(2)]
    made.run(1, tasks.ignore_signals_and_start_a_child, str(pipe))
    child = read_pid(pipe)
    with watched(*pids, child, made.pid) as handles:
        made.sock.close()
        assert all_end(handles)


def test_told_to_end_it_ends_although_its_socket_stays_open(made: Supervisor) -> None:
    pid = made.start(1)
    with watched(pid, made.pid) as handles:
        made.say(supervisor.END)
        assert all_end(handles)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_keys_pressed_in_the_terminal_do_not_end_it(made: Supervisor, number: int) -> None:
    made.start(1)
    os.kill(made.pid, number)
    made.start(2)


def test_many_workers_that_end_at_once_are_all_told_of(made: Supervisor) -> None:
    count = 6
    for number in range(1, count + 1):
        made.start(number)
    for number in range(1, count + 1):
        made.say(KILL, number, signal.SIGKILL)
    assert {made.hear()[1] for _ in range(count)} == set(range(1, count + 1))


def test_a_master_with_thousands_of_descriptors_has_workers_too() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1500:
        pytest.skip("ulimit -n is below 1500 here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        made = Supervisor("forkserver")
        try:
            assert made.sock.fileno() > 1024
            made.start(1)
        finally:
            made.close()
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], ["-P"]),
        (["-O", "-X", "dev"], ["-O", "-Xdev"]),
        (["-I", "-B"], ["-I", "-B"]),
        (["-E", "-s", "-W", "ignore::UserWarning"], ["-E", "-s", "-Wignore::UserWarning"]),
    ],
)
def test_a_fresh_interpreter_has_the_flags_of_this_one(given: list[str], kept: list[str]) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from piecework.executors.supervisor import interpreter_command\n"
        "print(*interpreter_command('child', 3, 4), sep='\\n')"
    )
    root = str(Path(piecework.__file__).parents[1])
    told = subprocess.run(
        [sys.executable, *given, "-c", script, root], capture_output=True, text=True, timeout=60
    )
    command = told.stdout.splitlines()
    assert command[0] == sys.executable
    assert command[-2:] == ["3", "4"]
    assert set(kept) <= set(command)


def spare(made: Supervisor) -> int:
    """The process that was forked before a worker is asked for; waits until it is there."""
    children = Path(f"/proc/{made.pid}/task/{made.pid}/children")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if pids := children.read_text().split():
            return int(pids[0])
    raise AssertionError("no process was forked ahead")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from /proc")
@pytest.mark.parametrize("made", ["forkserver"], indirect=True)
def test_the_first_worker_is_forked_before_it_is_asked_for(made: Supervisor) -> None:
    ahead = spare(made)
    assert made.start(1) == ahead
    assert made.start(2) != ahead
    made.run(1, os._exit, 3)
    assert made.hear()[:3] == (EXITED, 1, 3)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from /proc")
@pytest.mark.parametrize("made", ["forkserver"], indirect=True)
def test_where_the_one_forked_ahead_was_killed_another_is_started(made: Supervisor) -> None:
    ahead = spare(made)
    with watched(ahead) as handles:
        os.kill(ahead, signal.SIGKILL)
        assert all_end(handles)
    assert made.start(1) != ahead
    made.run(1, os._exit, 3)
    assert made.hear()[:3] == (EXITED, 1, 3)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from /proc")
@pytest.mark.parametrize("made", ["forkserver"], indirect=True)
def test_nothing_forked_ahead_is_left(made: Supervisor) -> None:
    with watched(made.pid, spare(made)) as handles:
        made.say(END)
        assert all_end(handles)
