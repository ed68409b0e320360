"""Functions that run in worker processes: what only processes can do, and do wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.executors.gate import wait_at

kept: list[Any] = []
lent: Any = None


def start_a_child(path: str) -> None:
    """Start a process, tell who it is, and wait for it."""
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path(path).write_text(str(child.pid))
    child.wait()


def ignore_signals_and_start_a_child(path: str) -> None:
    """What only SIGKILL can end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    start_a_child(path)


def identity(x: Any) -> Any:
    return x


def pid(_: Any = None) -> int:
    return os.getpid()


def hold_at(path: str, at: int, x: int) -> int:
    """Wait at the gate when it is that one's turn."""
    if x == at:
        wait_at(path, x)
    return x


def meet(path: str, x: int) -> tuple[int, int]:
    wait_at(path, x)
    return os.getpid(), threading.get_ident()


def stuck(x: int) -> int:
    if x == 3:
        threading.Event().wait()
    return x


class ExitsWhenSent:
    def __reduce__(self) -> Any:
        os._exit(3)


def deadly_result(path: str, x: int) -> Any:
    """One result kills whoever pickles it; the next task is long, so it is pickled meanwhile."""
    if x == 1:
        return ExitsWhenSent()
    if x == 2:
        threading.Event().wait(0.5)
    return x


class SlowToLoad:
    """A function that takes its time to be unpickled, as one that imports much."""

    def __call__(self, x: int) -> int:
        return x

    def __reduce__(self) -> Any:
        return make_slowly, ()


def make_slowly() -> SlowToLoad:
    threading.Event().wait(0.5)
    return SlowToLoad()


def filled(value: int, size: int = 1 << 17) -> Any:
    import numpy

    return numpy.full(size, value, dtype=numpy.int64)


def total(array: Any) -> int:
    return int(array.sum())


def keep(array: Any) -> int:
    kept.append(array)
    return int(array.sum())


def sums_of_kept() -> list[int]:
    return [int(array.sum()) for array in kept]


def with_data(data: bytes, x: int) -> int:
    return x + len(data)


def memory_used(_: Any = None) -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def borrow(thing: Any) -> None:
    global lent
    lent = thing


def count_up(_: int) -> None:
    with lent.get_lock():
        lent.value += 1


def put(x: int) -> None:
    lent.put(x)


def too_large_to_send(size: int) -> bytes:
    """A result that there is no memory for to pickle."""
    import resource

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + size * 3 // 2, -1))
    return bytes(size)
