"""Functions that the tests name on the command line."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any


def double(text: str) -> str:
    return text * 2


def number(value: Any) -> float:
    return 1 / float(value)


async def soon(text: str) -> str:
    await asyncio.sleep(0)
    return text


def die(text: str) -> str:
    if text == "13":
        os.kill(os.getpid(), signal.SIGKILL)
    return text


def odd_type(text: str) -> object:
    return {1j} if text == "bad" else text


def chatty(text: str) -> str:
    print(f"printed for {text}")
    return text


def leave(text: str) -> str:
    raise SystemExit(3)


def size(name: str) -> int:
    return len(Path(name).read_text())


def hold(text: str) -> str:
    """Inputs that name a FIFO wait until somebody writes to it."""
    return Path(text).read_text() if os.path.exists(text) else text


async def hold_async(text: str) -> str:
    """`hold`, on an event loop that goes on meanwhile."""
    return await asyncio.to_thread(hold, text)


not_a_function = 3
unpicklable = partial(double, lock=threading.Lock())


def note(text: str) -> int:
    """Leaves a line in the file of EXECUTIONS, whole and at once, before it returns."""
    log = os.open(os.environ["EXECUTIONS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, f"{text}\n".encode())
    os.close(log)
    time.sleep(0.0002)
    return len(text)


def blow_up(text: str) -> str:
    """A thousand times as long, and easily compressed."""
    return text.ljust(1000, ".")


def moody(text: str) -> str:
    """Fails for what the file MOOD names, one a line."""
    if text in Path(os.environ["MOOD"]).read_text().split():
        raise ValueError(f"not today: {text}")
    return text
