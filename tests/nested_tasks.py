"""Tasks that map, and say what was alive meanwhile."""

from __future__ import annotations

import os
from typing import Any

import piecework
from tests.executors.processes import MARKER, marked

WAYS = ("processes", "threads", "inline", "auto")


def alive(_: object = None) -> int:
    """How many processes of this test there are."""
    return len(marked({MARKER: os.environ[MARKER]}))


def leaf(number: int) -> tuple[int, int]:
    return number, alive()


def inner(given: tuple[str, int]) -> tuple[int, int]:
    """The sum of what the innermost saw, and the most processes that one of them did."""
    way, number = given
    found = list(piecework.map(leaf, range(number, number + 3), on=way))
    return sum(n for n, _ in found), max(seen for _, seen in found)


def outer(given: tuple[str, str, int]) -> tuple[int, int]:
    way, next_way, number = given
    tasks = [(next_way, n) for n in range(number, number + 3)]
    found = list(piecework.map(inner, tasks, on=way))
    return sum(n for n, _ in found), max(seen for _, seen in found)


async def coroutine(given: tuple[str, int]) -> tuple[int, int]:
    """As `inner`, without stopping the event loop."""
    way, number = given
    found = [value async for value in piecework.map(leaf, range(number, number + 3), on=way)]
    return sum(n for n, _ in found), max(seen for _, seen in found)


def counted(_: int) -> tuple[int, int]:
    """Cores and threads by default, here."""
    from piecework.executors.cores import cores

    with piecework.ThreadExecutor() as executor:
        return cores(), executor.slots


async def counted_on_a_loop(number: int) -> tuple[int, int]:
    return counted(number)


def native_threads(_: int) -> dict[str, Any]:
    """What the environment says, and what a BLAS that is loaded does."""
    import numpy

    from piecework.executors import blas

    numpy.ones((2, 2)) @ numpy.ones((2, 2))
    return {
        "environ": {name: os.environ.get(name) for name in blas.VARIABLES},
        "pools": [pool.ask() for pool in blas.pools()],
    }


def explicit_workers(_: int) -> int:
    run = piecework.map(str, range(8), on="processes", workers=3)
    list(run)
    return int(run.summary.on.split()[0])


async def double(number: int) -> int:
    return 2 * number


async def waits_for_its_own(executor: piecework.CoroutineExecutor) -> int:
    """Blocks the event loop that would have to run it."""
    return next(iter(piecework.map(double, [1], on=executor)))


async def awaits_its_own(executor: piecework.CoroutineExecutor) -> list[int]:
    return [value async for value in piecework.map(double, [1, 2], on=executor)]
