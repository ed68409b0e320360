"""What joblib's Parallel runs in these tests."""

from __future__ import annotations

import os
import time
from typing import Any

from tests.executors.gate import wait_at


def square(x: int) -> int:
    return x * x


def process(x: Any = None) -> int:
    return os.getpid()


def die_at(place: int, x: int) -> int:
    if x == place:
        os.kill(os.getpid(), 9)
    return x


def fail(x: int) -> None:
    raise KeyError(x)


def hold(path: str, value: Any = None) -> Any:
    wait_at(path, str(os.getpid()))
    return value


def sleep_at_zero(x: int) -> int:
    if x == 0:
        time.sleep(600)
    return x


def threads_of(library: str) -> str | None:
    return os.environ.get(library)


def nested(n: int) -> list[int]:
    from joblib import Parallel, delayed

    found: list[int] = Parallel(n_jobs=2)(delayed(process)(i) for i in range(n))
    return found


def nested_on_ours(n: int) -> list[int]:
    from joblib import Parallel, delayed

    import piecework

    piecework.register_joblib()
    found: list[int] = Parallel(n_jobs=2, backend="piecework")(delayed(square)(i) for i in range(n))
    return found


def total(array: Any) -> tuple[float, bool]:
    return float(array.sum()), bool(array.flags.writeable)


def initialize(name: str) -> None:
    os.environ["PIECEWORK_TEST_NAME"] = name


def name(x: Any) -> str | None:
    return os.environ.get("PIECEWORK_TEST_NAME")
