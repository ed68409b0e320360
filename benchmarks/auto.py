"""`on="auto"` against the modes picked by hand, on five kinds of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import work
from pools import need
from rounds import DEFAULT, Bench, Context

Work = Callable[[Context], tuple[Callable[..., Any], Iterable[Any], int]]


def tiny(context: Context) -> tuple[Any, Any, int]:
    count = context.sized(1_000_000, 200_000)
    return work.square, range(count), count


def cpu(context: Context) -> tuple[Any, Any, int]:
    count = context.sized(3_000, 600)
    return work.burn, [context.millisecond] * count, count


def waits(context: Context) -> tuple[Any, Any, int]:
    count = context.sized(2_000, 400)
    return work.wait, [0.01] * count, count


def coroutines(context: Context) -> tuple[Any, Any, int]:
    count = context.sized(20_000, 4_000)
    return work.wait_later, [0.01] * count, count


def numeric(context: Context) -> tuple[Any, Any, int]:
    import numpy

    count = context.sized(800, 100)
    shuffled = numpy.random.default_rng(1).random(500_000)
    return work.ordered, (shuffled for _ in range(count)), count


WORKS: dict[str, Work] = {
    "tiny Python tasks": tiny,
    "1 ms CPU tasks": cpu,
    "10 ms waits": waits,
    "coroutines waiting 10 ms": coroutines,
    "NumPy sort of 4 MB (releases the GIL)": numeric,
}
bench = Bench(
    "auto",
    'on="auto" against the modes picked by hand',
    dict.fromkeys(WORKS, ("seconds", "less")),
    columns=("chose",),
)


def add(section: str, on: str | None) -> None:
    name = "piecework.map()" if on is None else f'piecework.map(on="{on}")'

    @bench.way(section, name, ours=True)
    def measure(context: Context) -> dict[str, Any]:
        fn, inputs, count = WORKS[section](context)
        made = need("map")
        start = time.perf_counter()
        run = made(fn, inputs, **({} if on is None else {"on": on}))
        done = sum(1 for _ in run)
        seconds = time.perf_counter() - start
        if done != count:
            raise AssertionError("results are missing")
        return {"value": seconds, "chose": run.why or "by hand"}


for _section in WORKS:
    _modes = ["coroutines"] if "coroutines" in _section else ["processes", "threads", "inline"]
    add(_section, None)
    for _mode in _modes:
        add(_section, _mode)
    bench.target(
        f"{_section}: auto, of the best mode picked by hand",
        _section,
        f"piecework.map() | {DEFAULT}",
        against=[f'piecework.map(on="{mode}") | {DEFAULT}' for mode in _modes],
        at_most=1.1,
    )

if __name__ == "__main__":
    raise SystemExit(bench.main())
