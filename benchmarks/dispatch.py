"""What a task costs that does nothing: tasks a second through every way to run.

Every way squares the same numbers and the sum of the results is checked: a task counts when its
result has been handed over. Pools are open and warm, except for `piecework.map`, which opens its
own inside the measured time. "best by hand" is the chunk size that was fastest in a first pass.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import work
from pools import HEAVY, OURS, need, pool
from rounds import BEST, DEFAULT, Bench, Context

bench = Bench(
    "dispatch",
    "No-op tasks: what handing out a task and taking its result costs",
    {"no-op map": ("tasks/s", "more"), "no-op submit": ("tasks/s", "more")},
)
MILLION = (1_000_000, 200_000)
CHUNKS = (100, 1_000, 10_000, 50_000)


def rate(results: Callable[[], Iterable[int]], count: int) -> dict[str, Any]:
    start = time.perf_counter()
    total = sum(results())
    seconds = time.perf_counter() - start
    if total != (count - 1) * count * (2 * count - 1) // 6:
        raise AssertionError("wrong results")
    return {"value": count / seconds, "seconds": seconds}


def add_map(name: str, sizes: tuple[int, int], setting: str = DEFAULT, **more: Any) -> None:
    @bench.way(
        "no-op map",
        name,
        setting,
        ours=name in OURS,
        heavy=name in HEAVY,
        bound=name == "serial loop",
        **more,
    )
    def measure(context: Context) -> dict[str, Any]:
        count = context.sized(*sizes)
        fn = work.square_later if name == "asyncio" or "oroutine" in name else work.square
        with pool(name, context.workers) as its:
            sum(its.map(fn, range(100), context.choice and 10))
            return rate(lambda: its.map(fn, range(count), context.choice), count)


add_map("serial loop", MILLION)
add_map("ThreadPoolExecutor", (50_000, 10_000))
add_map("ProcessPoolExecutor", (10_000, 2_000))
add_map("ProcessPoolExecutor", MILLION, BEST, choices=CHUNKS)
add_map("multiprocessing.Pool.map", MILLION)
add_map("multiprocessing.Pool.map", MILLION, BEST, choices=CHUNKS)
add_map("multiprocessing.Pool.imap_unordered", (40_000, 10_000))
add_map("multiprocessing.Pool.imap_unordered", MILLION, BEST, choices=CHUNKS)
add_map("loky", (10_000, 2_000))
add_map("loky", MILLION, BEST, choices=CHUNKS)
add_map("joblib", (300_000, 100_000))
add_map("joblib", (300_000, 100_000), BEST, choices=(100, 1_000, 10_000))
add_map("mpire", (200_000, 50_000))
add_map("mpire", (200_000, 50_000), BEST, choices=(100, 1_000, 10_000))
add_map("pebble", (10_000, 2_000))
add_map("pebble", MILLION, BEST, choices=CHUNKS)
add_map("dask", (2_000, 500), limit=120.0)
add_map("ray", (20_000, 2_000), limit=120.0)
add_map("ray", MILLION, BEST, choices=(1_000, 10_000, 50_000), limit=120.0)
add_map("asyncio", (100_000, 20_000))
add_map("piecework.ProcessExecutor", MILLION)
add_map("piecework.ProcessExecutor, 2 threads each", MILLION)
add_map("piecework.Pool.map", MILLION)
add_map("piecework.Pool.imap", MILLION)
add_map("piecework.Pool.imap_unordered", MILLION)
add_map("joblib on piecework", (300_000, 100_000))
add_map("piecework.ThreadExecutor", (300_000, 50_000))
add_map("piecework.CoroutineExecutor", (50_000, 10_000))
add_map("piecework.CoroutineExecutor, loop per process", (50_000, 10_000))
add_map('piecework.map(on="processes")', MILLION)
add_map("piecework.map(on=executor)", MILLION)
add_map('piecework.map(on="threads")', (1_000_000, 100_000))
add_map('piecework.map(on="coroutines")', (100_000, 20_000))
add_map('piecework.map(on="inline")', MILLION)
add_map('piecework.map(on="auto")', MILLION)


def add_run(setting: str, take: Callable[[Any], int]) -> None:
    @bench.way("no-op map", 'piecework.map(on="processes")', setting, ours=True)
    def measure(context: Context) -> dict[str, Any]:
        count = context.sized(*MILLION)
        start = time.perf_counter()
        run = need("map")(work.square, range(count), on="processes", workers=context.workers)
        if take(run) != count:
            raise AssertionError("results are missing")
        seconds = time.perf_counter() - start
        return {"value": count / seconds, "seconds": seconds}


add_run("default, .results()", lambda run: sum(1 for result in run.results() if result.ok))
add_run("default, .wait()", lambda run: run.wait().done)


def add_submit(name: str, sizes: tuple[int, int], make: Callable[[int], Any]) -> None:
    @bench.way("no-op submit", name, ours=name in OURS, heavy=name in HEAVY)
    def measure(context: Context) -> dict[str, Any]:
        count = context.sized(*sizes)
        with make(context.workers) as executor:
            executor.submit(work.square, 1).result()

            def run() -> Iterable[int]:
                made = [executor.submit(work.square, number) for number in range(count)]
                return (future.result() for future in made)

            return rate(run, count)


def _standard(kind: str) -> Callable[[int], Any]:
    def make(workers: int) -> Any:
        from concurrent import futures

        return getattr(futures, kind)(workers)

    return make


def _loky(workers: int) -> Any:
    import loky

    return loky.ProcessPoolExecutor(workers)


def _ours(kind: str) -> Callable[[int], Any]:
    return lambda workers: need(kind)(workers)


add_submit("ThreadPoolExecutor", (50_000, 10_000), _standard("ThreadPoolExecutor"))
add_submit("ProcessPoolExecutor", (10_000, 2_000), _standard("ProcessPoolExecutor"))
add_submit("loky", (10_000, 2_000), _loky)
add_submit("piecework.ThreadExecutor", (50_000, 10_000), _ours("ThreadExecutor"))
add_submit("piecework.ProcessExecutor", (50_000, 10_000), _ours("ProcessExecutor"))


@bench.way("no-op submit", "asyncio")
def create_task(context: Context) -> dict[str, Any]:
    count = context.sized(100_000, 20_000)

    async def run() -> list[int]:
        made = [asyncio.create_task(work.square_later(number)) for number in range(count)]
        return [await task for task in made]

    return rate(lambda: asyncio.run(run()), count)


bench.target(
    "ProcessExecutor.map at defaults, of multiprocessing.Pool.map at its best chunk size",
    "no-op map",
    f"piecework.ProcessExecutor | {DEFAULT}",
    against=[f"multiprocessing.Pool.map | {BEST}"],
    at_least=0.8,
)
bench.target(
    "ProcessExecutor.map at defaults, of ProcessPoolExecutor.map at its default",
    "no-op map",
    f"piecework.ProcessExecutor | {DEFAULT}",
    against=[f"ProcessPoolExecutor | {DEFAULT}"],
    at_least=100,
)
bench.target(
    'piecework.map(on="processes") at defaults, of Pool.imap_unordered at its best chunk size',
    "no-op map",
    f'piecework.map(on="processes") | {DEFAULT}',
    against=[f"multiprocessing.Pool.imap_unordered | {BEST}"],
    at_least=0.35,
)
for _call in ("map", "imap_unordered"):
    bench.target(
        f"Pool.{_call} at defaults, of multiprocessing.Pool.{_call} at its best chunk size",
        "no-op map",
        f"piecework.Pool.{_call} | {DEFAULT}",
        against=[f"multiprocessing.Pool.{_call} | {BEST}"],
        at_least=1.0,
    )

if __name__ == "__main__":
    raise SystemExit(bench.main())
