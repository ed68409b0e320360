"""What the tasks do. Importable by every worker of every library, so it goes by reference."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any


def square(x: int) -> int:
    return x * x


async def square_later(x: int) -> int:
    return x * x


def burn(iterations: int) -> int:
    """CPU work of a fixed number of steps; it never looks at the clock."""
    total = 0
    for step in range(iterations):
        total += step & 7
    return total


def calibrate() -> int:
    """How many iterations of `burn` take 1 ms here: the fastest of several, so undisturbed."""
    steps = 200_000
    fastest = min(_seconds(steps) for _ in range(7))
    return max(1, round(steps * 0.001 / fastest))


def _seconds(steps: int) -> float:
    start = time.perf_counter()
    burn(steps)
    return time.perf_counter() - start


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


async def wait_later(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


_arrays: dict[int, Any] = {}


def array(megabytes: int, number: int = 0) -> Any:
    """One of a few arrays, made once a process: the transfer is measured, not the making."""
    import numpy

    key = megabytes * 16 + number % 4
    if key not in _arrays:
        _arrays[key] = numpy.full(megabytes * 125_000, float(number % 4))
    return _arrays[key]


def touch(values: Any) -> float:
    """Read one number of every page, so that what was mapped lazily is paid for."""
    return float(values[::512].sum())


def give(number: int) -> Any:
    return array(8, number)


def same(value: Any) -> Any:
    """Nothing at all, with what is given back."""
    return value


def ordered(values: Any) -> Any:
    """NumPy work that releases the GIL."""
    import numpy

    return numpy.sort(values)


class Unpicklable(Exception):
    """Pickles, and cannot be unpickled: its __init__ wants two arguments and gets one."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)


def misbehave(number: int, kind: str, bad: int = 13) -> Any:
    """Number in, number out; the bad one does what `kind` says."""
    if number != bad:
        return number
    if kind == "kills its process":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "unpicklable exception":
        raise Unpicklable("bad input", 13)
    if kind == "SystemExit":
        raise SystemExit(3)
    if kind == "unpicklable result":
        return threading.Lock()
    if kind == "hangs":
        time.sleep(3600)
    return None


def work_and_stamp(job: tuple[int, int, int, str]) -> tuple[int, int, float]:
    """(number, pid, when) after some CPU work; number `bad` notes the time and kills itself."""
    number, bad, iterations, note = job
    if number == bad:
        with open(note, "a") as file:
            file.write(f"{time.monotonic()} {os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    burn(iterations)
    return number, os.getpid(), time.monotonic()
