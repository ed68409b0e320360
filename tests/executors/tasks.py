"""The functions that the executors are tried with; async_tasks.py has the same as coroutines."""

from __future__ import annotations

import os
import threading
from typing import Any

from tests.executors.gate import wait_at

initialized: Any = None


def square(x: int) -> int:
    return x * x


def add(x: int, y: int = 0) -> int:
    return x + y


def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


class OwnError(Exception):
    """Refuses to be rebuilt from its args."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def fail_deeply(x: int) -> None:
    raise OwnError(x, detail="on purpose")


def fail(x: int) -> None:
    fail_deeply(x)


def invert(x: int) -> float:
    return 1 / x


def hold(path: str, value: Any = None) -> Any:
    wait_at(path, value)
    return value


def hold_at_zero(path: str, value: int) -> int:
    if value == 0:
        wait_at(path, value)
    return value


def pid(_: Any = None) -> int:
    return os.getpid()


class Thing:
    """Something that a weak reference can be had of."""

    def method(self) -> None:
        pass


def make_thing(_: Any) -> Thing:
    return Thing()


def take_thing(thing: Thing) -> None:
    pass


def initialize(value: Any) -> None:
    global initialized
    initialized = value


def get_initialized(_: Any = None) -> Any:
    return initialized


def fail_to_initialize() -> None:
    raise ValueError("the initializer says no")


def mark(path: str) -> None:
    """Leave a mark that one more call was made."""
    with open(path, "ab", buffering=0) as file:
        file.write(b".")


def leave() -> None:
    raise SystemExit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def thread_name(_: Any = None) -> str:
    return threading.current_thread().name


def nested(kind: str, count: int) -> list[int]:
    from piecework.executors.process import ProcessExecutor
    from piecework.executors.thread import ThreadExecutor

    executor = ThreadExecutor(2) if kind == "threads" else ProcessExecutor(2)
    with executor:
        return list(executor.map(square, range(count)))
