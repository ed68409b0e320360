"""200 arrays of 8 MB as arguments, and as results: MB/s, every page read by the receiver."""

from __future__ import annotations

import time
from typing import Any

import work
from pools import HEAVY, OURS, pool
from rounds import DEFAULT, Bench, Context

bench = Bench(
    "payload",
    "Arrays of 8 MB to the workers and back",
    {"as arguments": ("MB/s", "more"), "as results": ("MB/s", "more")},
    columns=("extra_mb",),
    note="extra_mb: memory the master had at most beyond what it had before; every array is another"
    " one, made beforehand; a worker returns one of four it keeps",
)
MEGABYTES = 8


def memory_mb(field: str) -> float:
    """VmRSS is what this process has now, VmHWM the most it has had."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))


def add(name: str, **more: Any) -> None:
    about = {
        "ours": name in OURS,
        "heavy": name in HEAVY,
        "limit": 120.0,
        "bound": "hread" in name,
        **more,
    }  # threads copy nothing

    @bench.way("as arguments", name, **about)
    def into(context: Context) -> dict[str, Any]:
        count = context.sized(200, 40)
        with pool(name, context.workers) as its:
            list(its.map(work.touch, (work.array(MEGABYTES, n) for n in range(4)), None))
            inputs = [work.array(MEGABYTES, number).copy() for number in range(count)]
            before = memory_mb("VmRSS")
            start = time.perf_counter()
            total = sum(its.map(work.touch, iter(inputs), None))
            seconds = time.perf_counter() - start
        if total != sum(work.touch(values) for values in inputs):
            raise AssertionError("wrong results")
        return {"value": count * MEGABYTES / seconds, "extra_mb": memory_mb("VmHWM") - before}

    @bench.way("as results", name, **about)
    def out(context: Context) -> dict[str, Any]:
        count = context.sized(200, 40)
        with pool(name, context.workers) as its:
            for _ in its.map(work.give, range(8), None):
                pass
            before = memory_mb("VmRSS")
            start = time.perf_counter()
            total = 0.0
            for values in its.map(work.give, range(count), None):
                total += work.touch(values)
            seconds = time.perf_counter() - start
        if total != sum(work.touch(work.array(MEGABYTES, number)) for number in range(count)):
            raise AssertionError("wrong results")
        return {"value": count * MEGABYTES / seconds, "extra_mb": memory_mb("VmHWM") - before}


for _name in (
    "ThreadPoolExecutor",
    "ProcessPoolExecutor",
    "multiprocessing.Pool.imap",
    "loky",
    "joblib",
    "mpire",
    "pebble",
    "dask",
    "ray",
    "piecework.ProcessExecutor",
    "piecework.ThreadExecutor",
    'piecework.map(on="processes")',
):
    add(_name)

for _section in bench.units:
    for _peer in ("ProcessPoolExecutor", "multiprocessing.Pool.imap"):
        for _ours in ("piecework.ProcessExecutor", 'piecework.map(on="processes")'):
            bench.target(
                f"8 MB arrays {_section}: {_ours} of {_peer}",
                _section,
                f"{_ours} | {DEFAULT}",
                against=[f"{_peer} | {DEFAULT}"],
                at_least=3,
            )

if __name__ == "__main__":
    raise SystemExit(bench.main())
