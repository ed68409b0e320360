"""Five million inputs from a generator: how far ahead it is drawn, what the master keeps.

`ahead` is the most that was drawn before the consumer had the result, `at_first` what was drawn
when the first result came. In the middle the consumer stops for a second: `in_pause` is what was
drawn while it stood still, after 0.2 s to let what was under way come to rest. Peers run at a
chunk size that makes them quick, and after the pause the consumer leaves them.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import work
from oneway import ANSWER
from pools import OURS, pool
from rounds import DEFAULT, Bench, Context

SECTION = "endless input"
bench = Bench(
    "memory",
    "Endless input: what is drawn ahead of the results and what the master's memory grows by",
    {SECTION: ("drawn ahead", "less")},
    columns=("at_first", "in_pause", "growth_mb", "seconds"),
)


class Drawn:
    """A generator's count, readable from outside."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self.limit = limit

    def __iter__(self) -> Iterator[int]:
        for number in range(self.limit):
            self.count = number + 1
            yield number


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watch(threading.Thread):
    """The most resident memory seen: most of it is gone again when the call returns."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = resident_mb()

    def run(self) -> None:
        while True:
            self.most = max(self.most, resident_mb())
            time.sleep(0.01)


def measure_one(results: Any, drawn: Drawn, until: int, began: float) -> dict[str, Any]:
    start = time.perf_counter()
    ahead = at_first = in_pause = 0
    pause_at = until // 2
    for taken, _ in enumerate(results(), 1):
        if taken == 1:
            at_first = drawn.count
        elif taken == pause_at:
            time.sleep(0.2)
            before = drawn.count
            time.sleep(1.0)
            in_pause = drawn.count - before
        if not taken & 63:
            ahead = max(ahead, drawn.count - taken)
        if taken == until:
            break
    return {
        "value": max(ahead, at_first),
        "at_first": at_first,
        "in_pause": in_pause,
        "seconds": time.perf_counter() - start - 1.2,
    }


def add(name: str, chunk: int | None, share: int = 1, setting: str = DEFAULT) -> None:
    ours = name in OURS

    @bench.way(SECTION, name, setting, ours=ours, limit=120.0)
    def measure(context: Context) -> dict[str, Any]:
        count = context.sized(5_000_000, 500_000)
        fn = work.square_later if "oroutine" in name else work.square
        with pool(name, context.workers) as its:
            for _ in its.map(fn, iter(range(2_000)), chunk):
                pass
            gc.collect()
            began = resident_mb()
            watch = Watch()
            watch.start()
            drawn = Drawn(count)
            answer = measure_one(lambda: its.map(fn, drawn, chunk), drawn, count // share, began)
            answer["growth_mb"] = watch.most - began
            if not ours:  # what was drawn ahead would be worked on for long after the answer
                print(ANSWER + json.dumps(answer), flush=True)
                sys.stdout.flush()
                os._exit(0)
        return answer


CHUNKED = "chunks of 5,000"
add("ThreadPoolExecutor", None, 50)
add("ProcessPoolExecutor", 5_000, 5, CHUNKED)
add("multiprocessing.Pool.imap", 5_000, 5, CHUNKED)
add("multiprocessing.Pool.imap_unordered", 5_000, 5, CHUNKED)
add("loky", 5_000, 5, CHUNKED)
add("joblib", None, 50)
add("mpire", None, 50)
add("pebble", 5_000, 50, CHUNKED)
add("piecework.ProcessExecutor", None)
add("piecework.ThreadExecutor", None, 10)
add('piecework.map(on="processes")', None)
add('piecework.map(on="threads")', None, 5)
add('piecework.map(on="coroutines")', None, 50)

for _ours in ("piecework.ProcessExecutor", 'piecework.map(on="processes")'):
    bench.target(
        f"{_ours}: drawn of 5 million inputs before their results were taken",
        SECTION,
        f"{_ours} | {DEFAULT}",
        at_most=250_000,
    )
    bench.target(
        f"{_ours}: memory growth of the master, MB",
        SECTION,
        f"{_ours} | {DEFAULT}",
        at_most=20,
        field="growth_mb",
    )
    bench.target(
        f"{_ours}: drawn while the consumer stands still",
        SECTION,
        f"{_ours} | {DEFAULT}",
        at_most=0,
        field="in_pause",
    )

if __name__ == "__main__":
    raise SystemExit(bench.main())
