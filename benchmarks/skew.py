"""Tasks that are worth their trip: 4,000 even ones, and 400 whose long ones come last."""

from __future__ import annotations

import time
from typing import Any

import work
from pools import HEAVY, OURS, pool
from rounds import BEST, DEFAULT, Bench, Context

EVEN = "4,000 tasks of 1 ms CPU"
TAIL = "400 tasks of 1 ms, the last 5 % of 60 ms"
bench = Bench(
    "skew",
    "CPU work in small pieces: how much of the processors reaches the tasks",
    {EVEN: ("seconds", "less"), TAIL: ("seconds", "less")},
    columns=("use",),
    note="use: CPU time of the tasks over (seconds x workers), as calibrated",
)


def tasks(section: str, context: Context) -> list[int]:
    if section == EVEN:
        return [context.millisecond] * context.sized(4_000, 800)
    return [context.millisecond] * 380 + [60 * context.millisecond] * 20


def add(name: str, setting: str = DEFAULT, **more: Any) -> None:
    for section in bench.units:
        if setting == BEST:
            more["choices"] = (4, 16, 64) if section == EVEN else (1, 2, 5)

        @bench.way(
            section,
            name,
            setting,
            ours=name in OURS,
            heavy=name in HEAVY,
            bound=name == "serial loop",
            **more,
        )
        def measure(context: Context, section: str = section) -> dict[str, Any]:
            jobs = tasks(section, context)
            with pool(name, context.workers) as its:
                list(its.map(work.burn, [10] * 20, context.choice and 1))
                start = time.perf_counter()
                done = sum(1 for _ in its.map(work.burn, jobs, context.choice))
                seconds = time.perf_counter() - start
            if done != len(jobs):
                raise AssertionError("results are missing")
            perfect = sum(jobs) / context.millisecond / 1000 / context.workers
            return {"value": seconds, "use": perfect / seconds}


add("serial loop")
add("ThreadPoolExecutor")
for _name in (
    "ProcessPoolExecutor",
    "multiprocessing.Pool.map",
    "multiprocessing.Pool.imap_unordered",
    "loky",
    "joblib",
    "mpire",
    "pebble",
    "dask",
    "ray",
):
    add(_name, limit=120.0)
    if _name not in ("dask", "ray"):
        add(_name, BEST)
add("piecework.ProcessExecutor")
add('piecework.map(on="processes")')
add('piecework.map(on="auto")')

for _ours in ("piecework.ProcessExecutor", 'piecework.map(on="processes")'):
    bench.target(
        f"{EVEN}: seconds of {_ours}, of the best peer's best",
        EVEN,
        f"{_ours} | {DEFAULT}",
        against=["*"],
        at_most=1 / 0.97,
    )
    bench.target(
        f"{TAIL}: seconds of {_ours}, of the best peer's best",
        TAIL,
        f"{_ours} | {DEFAULT}",
        against=["*"],
        at_most=1.0,
    )

if __name__ == "__main__":
    raise SystemExit(bench.main())
