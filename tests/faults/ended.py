"""What runs do that are ended at any moment: short tasks, some of them with much to carry."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import piecework


def work(value: Any) -> Any:
    number = int(value)
    time.sleep(0.002 * (number % 7))
    return number if number % 5 else bytes(300_000)


async def work_async(value: Any) -> Any:
    number = int(value)
    await asyncio.sleep(0.002 * (number % 7))
    return number


def said(value: str) -> str:
    """For the command line, which writes what is returned."""
    work(value)
    return value


async def said_async(value: str) -> str:
    await work_async(value)
    return value


def main(on: str, journal: str) -> None:
    """An endless run in a program; the first result is announced."""
    call: Any = work_async if on == "coroutines" else work
    inputs: Iterator[Any] = itertools.count()
    if on == "commands":
        call, inputs = piecework.command("sh -c 'sleep 0.01; echo $0'"), map(str, inputs)
    options: dict[str, Any] = {"journal": journal} if journal else {}
    with piecework.map(call, inputs, on=on, workers=2, **options) as run:
        for result in run.results():
            print(result.index, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
