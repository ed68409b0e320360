"""10,000 coroutines that wait 100 ms: how close to a bare `asyncio.gather`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import work
from pools import need
from rounds import DEFAULT, Bench, Context

SECTION = "10,000 waits of 100 ms"
bench = Bench("coroutines", "Waiting, ten thousand times at once", {SECTION: ("seconds", "less")})
SECONDS = 0.1


def add(name: str, setting: str = DEFAULT, **more: Any) -> Callable[..., Any]:
    def made(run: Callable[[int, int], Any]) -> Callable[..., Any]:
        @bench.way(SECTION, name, setting, ours=name.startswith("piecework"), **more)
        def measure(context: Context) -> dict[str, Any]:
            count = context.sized(10_000, 2_000)
            start = time.perf_counter()
            done = sum(1 for _ in run(count, context.workers))
            seconds = time.perf_counter() - start
            if done != count:
                raise AssertionError("results are missing")
            return {"value": seconds}

        return run

    return made


@add("asyncio.gather", bound=True)
def gather(count: int, workers: int) -> Any:
    async def run() -> list[float]:
        return await asyncio.gather(*[work.wait_later(SECONDS) for _ in range(count)])

    return asyncio.run(run())


@add("ThreadPoolExecutor", "1,000 threads")
def threads(count: int, workers: int) -> Any:
    with futures.ThreadPoolExecutor(1_000) as executor:
        return list(executor.map(work.wait, [SECONDS] * count))


@add("joblib", "threading, 1,000 threads", heavy=True)
def joblib(count: int, workers: int) -> Any:
    import joblib

    return joblib.Parallel(1_000, backend="threading")(
        joblib.delayed(work.wait)(SECONDS) for _ in range(count)
    )


def coroutines(count: int, **more: Any) -> Any:
    with need("CoroutineExecutor")(**more) as executor:
        return list(executor.map(work.wait_later, [SECONDS] * count))


add("piecework.CoroutineExecutor")(lambda count, workers: coroutines(count))
add("piecework.CoroutineExecutor", "max_workers=10,000")(
    lambda count, workers: coroutines(count, max_workers=10_000)
)
add("piecework.CoroutineExecutor", "max_workers=10,000, loop per process")(
    lambda count, workers: coroutines(count, max_workers=10_000, processes=workers)
)


def mapped(count: int, **more: Any) -> Any:
    return need("map")(work.wait_later, [SECONDS] * count, **more)


add('piecework.map(on="coroutines")')(lambda count, workers: mapped(count, on="coroutines"))
add('piecework.map(on="coroutines")', "workers=10,000")(
    lambda count, workers: mapped(count, on="coroutines", workers=10_000)
)
add('piecework.map(on="auto")')(lambda count, workers: mapped(count))


@add("piecework.ThreadExecutor", "1,000 threads")
def our_threads(count: int, workers: int) -> Any:
    with need("ThreadExecutor")(1_000) as executor:
        return list(executor.map(work.wait, [SECONDS] * count))


for _ours in (
    "piecework.CoroutineExecutor | max_workers=10,000",
    'piecework.map(on="coroutines") | workers=10,000',
):
    bench.target(
        f"{SECTION}: {_ours.replace(' | ', ', ')}, of asyncio.gather",
        SECTION,
        _ours,
        against=[f"asyncio.gather | {DEFAULT}"],
        at_most=1.5,
    )

if __name__ == "__main__":
    raise SystemExit(bench.main())
