"""tasks.py as coroutine functions."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests.executors import tasks
from tests.executors.tasks import OwnError as OwnError
from tests.executors.tasks import Thing as Thing
from tests.executors.tasks import fail_to_initialize as fail_to_initialize
from tests.executors.tasks import initialize as initialize


async def square(x: int) -> int:
    return x * x


async def add(x: int, y: int = 0) -> int:
    await asyncio.sleep(0)
    return x + y


async def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


async def fail_deeply(x: int) -> None:
    await asyncio.sleep(0)
    raise OwnError(x, detail="on purpose")


async def fail(x: int) -> None:
    await fail_deeply(x)


async def invert(x: int) -> float:
    return 1 / x


async def hold(path: str, value: Any = None) -> Any:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(str(value).encode() or b"-")
        await writer.drain()
        await reader.read(1)
    finally:
        writer.close()
    return value


async def hold_at_zero(path: str, value: int) -> int:
    if value == 0:
        await hold(path, value)
    return value


async def pid(_: Any = None) -> int:
    return os.getpid()


async def make_thing(_: Any) -> Thing:
    return Thing()


async def take_thing(thing: Thing) -> None:
    pass


async def get_initialized(_: Any = None) -> Any:
    return tasks.initialized


async def mark(path: str) -> None:
    tasks.mark(path)


async def leave() -> None:
    raise SystemExit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


async def nested(kind: str, count: int) -> list[int]:
    from piecework.executors.coroutine import CoroutineExecutor

    with CoroutineExecutor(10) as executor:
        futures = [executor.submit(square, n) for n in range(count)]
        return [await asyncio.wrap_future(future) for future in futures]
