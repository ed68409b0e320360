"""What the pools of these tests run."""

from __future__ import annotations

import os
import threading
from typing import Any

from tests.executors.gate import wait_at


def square(x: int) -> int:
    return x * x


def add(a: int, b: int = 0) -> int:
    return a + b


def fail(x: Any) -> None:
    raise KeyError(x)


def fail_at_three(x: int) -> int:
    if x == 3:
        raise KeyError(x)
    return x


def die(x: Any = None) -> None:
    os.kill(os.getpid(), 9)


def die_at_three(x: int) -> int:
    if x == 3:
        die()
    return x


def lock(x: Any) -> Any:
    return threading.Lock()


def process(x: Any = None) -> int:
    return os.getpid()


def hold(path: str, value: Any = None) -> Any:
    """Waits at the gate, under the number of its process."""
    wait_at(path, str(os.getpid()))
    return value


def set_greeting(text: str) -> None:
    global greeting
    greeting = text


greeting = ""


def greet(name: str) -> str:
    return f"{greeting} {name}"


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not this one")
