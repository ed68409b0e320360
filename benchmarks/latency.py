"""One task at a time: from the call to its result in hand, in a warm pool."""

from __future__ import annotations

import statistics
import time
from typing import Any

import work
from pools import HEAVY, OURS, pool
from rounds import DEFAULT, Bench, Context

bench = Bench(
    "latency",
    "Round trip of a single task through an open, warm pool (the median of many)",
    {"round trip": ("us p50", "less")},
    columns=("p99",),
)


def add(name: str, sizes: tuple[int, int], *, later: bool = False, **more: Any) -> None:
    @bench.way(
        "round trip",
        name,
        ours=name in OURS,
        heavy=name in HEAVY,
        bound=name == "serial loop",
        **more,
    )
    def measure(context: Context) -> dict[str, Any]:
        fn = work.square_later if later else work.square
        with pool(name, context.workers) as its:
            for number in range(context.sized(100, 20)):
                its.one(fn, number)
            taken = []
            for number in range(context.sized(*sizes)):
                start = time.perf_counter_ns()
                its.one(fn, number)
                taken.append((time.perf_counter_ns() - start) / 1000)
        ranks = statistics.quantiles(taken, n=100)
        return {"value": statistics.median(taken), "p99": ranks[98]}


MANY = (3_000, 500)
FEW = (200, 50)

add("serial loop", MANY)
add("ThreadPoolExecutor", MANY)
add("ProcessPoolExecutor", MANY)
add("multiprocessing.Pool.map", MANY)
add("loky", MANY)
add("pebble", MANY)
add("mpire", MANY)
add("joblib", FEW)
add("dask", FEW, limit=120.0)
add("ray", FEW, limit=120.0)
add("asyncio", MANY, later=True)
add("piecework.ThreadExecutor", MANY)
add("piecework.ProcessExecutor", MANY)
add("piecework.ProcessExecutor, 2 threads each", MANY)
add("piecework.CoroutineExecutor", MANY, later=True)
add("piecework.CoroutineExecutor, loop per process", MANY, later=True)

for peer, called in (
    ("multiprocessing.Pool.map", "multiprocessing.Pool.apply"),
    ("ProcessPoolExecutor", "ProcessPoolExecutor.submit"),
):
    bench.target(
        f"ProcessExecutor.submit().result(), of {called}",
        "round trip",
        f"piecework.ProcessExecutor | {DEFAULT}",
        against=[f"{peer} | {DEFAULT}"],
        at_most=0.6,
    )

if __name__ == "__main__":
    raise SystemExit(bench.main())
