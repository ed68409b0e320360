"""Every way in which one task may misbehave; the number 13 does, all others are squared."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

BAD = 13


class NeverLoads(Exception):
    """Pickles, and raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return _refuse_to_load, (str(self),)


def _refuse_to_load(text: str) -> Any:
    raise RuntimeError(f"cannot be rebuilt: {text}")


class NeverPickles:
    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class KillsWhilePickled:
    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class KillsWhoLoadsIt:
    """Kills the process that unpickles it, unless that is the one that made it."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __reduce__(self) -> Any:
        return kill_unless, (self.home,)


def kill_unless(home: int) -> Callable[..., None]:
    if os.getpid() != home:
        os.kill(os.getpid(), signal.SIGKILL)
    return lambda *_: None


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()


def leave_at_once() -> None:
    os._exit(17)


def leave() -> None:
    sys.exit("so long")


def interrupt() -> None:
    raise KeyboardInterrupt


def out_of_memory() -> None:
    raise MemoryError("pretended")


def raise_what_never_loads() -> None:
    raise NeverLoads("thirteen")


def return_what_never_pickles() -> NeverPickles:
    return NeverPickles()


def return_a_lock() -> Any:
    return threading.Lock()


def return_what_kills() -> KillsWhilePickled:
    return KillsWhilePickled()


def hang() -> None:
    threading.Event().wait()


def hang_in_c() -> None:
    """Holds the interpreter lock: nothing in the process can run."""
    ctypes.PyDLL(None).sleep(3600)


def segfault() -> None:
    ctypes.string_at(0)


def overflow_the_stack() -> None:
    sys.setrecursionlimit(1 << 30)
    _deeper(0)


def _deeper(_: int) -> list[int]:
    return sorted([1], key=_deeper)  # type: ignore[arg-type]  # through C: it takes its stack


KINDS: dict[str, Callable[[], Any]] = {
    function.__name__: function
    for function in (
        kill,
        terminate,
        leave_at_once,
        leave,
        interrupt,
        out_of_memory,
        raise_what_never_loads,
        return_what_never_pickles,
        return_a_lock,
        return_what_kills,
        hang,
        hang_in_c,
        segfault,
        overflow_the_stack,
    )
}
HANGS = ("hang", "hang_in_c")
LIMIT = 1.0


def run(kind: str, number: int) -> Any:
    """The task: 59 of 60 are good."""
    return KINDS[kind]() if number == BAD else number * number


async def run_coroutine(kind: str, number: int) -> Any:
    return run(kind, number)


class Run:
    """`run` with its kind: importable, so that it goes by reference under every method."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, number: int) -> Any:
        return run(self.kind, number)
