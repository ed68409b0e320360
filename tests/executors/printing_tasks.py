"""Tasks that print and log; the coroutine functions do the same between two awaits."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

BAD = 3


def say(number: int) -> int:
    print("line of", number)
    return number


def say_then_fail(number: int) -> int:
    print("out of", number)
    print("err of", number, file=sys.stderr)
    if number == BAD:
        raise ValueError(number)
    return number


def say_much_then_fail(number: int) -> int:
    for line in range(200):
        print(number, "says", line)
    raise ValueError(number)


def say_a_long_line(number: int) -> int:
    print("x" * 100_000)
    raise ValueError(number)


def say_without_an_end(number: int) -> int:
    print("begun", end=" ")
    print("by", number, end="")
    if number == BAD:
        raise ValueError(number)
    return number


def say_in_pieces(number: int) -> int:
    for piece in range(20):
        print(f"{number}-{piece}", end=",")
    print()
    return number


def log(number: int) -> int:
    logging.getLogger("tests.tasks").info("number %d", number, extra={"answer": 42})
    if number == BAD:
        try:
            raise KeyError(number)
        except KeyError:
            logging.getLogger("tests.tasks").exception("it went wrong")
        raise ValueError(number)
    return number


def write_past_python(number: int) -> int:
    os.write(2, b"from the descriptor %d\n" % number)
    subprocess.run([sys.executable, "-c", f"print('from a child {number}')"], check=True)
    if number == BAD:
        raise ValueError(number)
    return number


def write_bytes(number: int) -> int:
    sys.stdout.buffer.write(b"good\n\xff\xfe\x00bad\n")
    sys.stdout.flush()
    if number == BAD:
        raise ValueError(number)
    return number


def quiet(number: int) -> int:
    return number


def later(fn: Callable[[int], int]) -> Callable[[int], Any]:
    """The same as a coroutine function, with others' turns before and after."""
    return partial(_later, fn)


async def _later(fn: Callable[[int], int], number: int) -> int:
    await asyncio.sleep(0)
    try:
        return fn(number)
    finally:
        await asyncio.sleep(0.001)
