"""A run that is killed and resumed: `python resumed.py JOURNAL RAN COUNT ON ORDER`.

Every execution appends the number of its input to RAN, by itself: that is counted, not what the
library says. ORDER 0 gives the inputs in order, any other number in an order of its own, with some
left out and some given twice.
"""

from __future__ import annotations

import functools
import os
import random
import sys
import time
from array import array
from collections.abc import Iterable

import piecework

TASK_SECONDS = 0.0002
DEADLY = 3001  # every so many inputs one ends its worker when it runs first


def work(ran: str, deadly: bool, number: int) -> int:
    descriptor = _open(ran)
    first = deadly and number % DEADLY == 0 and not os.path.exists(f"{ran}.{number}")
    os.write(descriptor, number.to_bytes(4, sys.byteorder))
    if first:
        open(f"{ran}.{number}", "w").close()
        os.kill(os.getpid(), 9)
    until = time.perf_counter() + TASK_SECONDS
    while time.perf_counter() < until:
        pass
    return number * 3


@functools.cache
def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def inputs(count: int, order: int) -> Iterable[int]:
    if not order:
        return range(count)
    chance = random.Random(order)
    found = [number for number in range(count) if chance.random() < 0.9]
    found += chance.sample(range(count), count // 20)
    chance.shuffle(found)
    return found


def ran(path: str) -> array[int]:
    numbers = array("I")
    with open(path, "rb") as file:
        numbers.frombytes(file.read())
    return numbers


if __name__ == "__main__":
    journal, path, count, on, order = sys.argv[1:]
    run = piecework.map(
        functools.partial(work, path, on == "processes"),
        inputs(int(count), int(order)),
        on=on,
        workers=2,
        retries=3,
        journal=journal,
        resume=True,
    )
    for value in run:
        assert value % 3 == 0
    print(run.summary)
