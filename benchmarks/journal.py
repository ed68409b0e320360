"""What a journal costs: a no-op map with it and without it, by turns, and how fast it is recalled.

Each answer is of pairs inside one process, without and with in turn: the ratio is what is asked
for, and what disturbs the machine disturbs both.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import work
from pools import need
from rounds import Bench, Context

bench = Bench(
    "journal",
    "A no-op map on worker processes, unjournaled and journaled; then resumed, all of it recalled",
    {"journaled": ("of the unjournaled rate", "more"), "recalled": ("tasks/s", "more")},
    columns=("rate", "unjournaled", "MB per million"),
    note="The journal lies in the directory for temporary files: on the disk that this is on.",
)
PAIRS = 3


def run(inputs: Iterable[Any], path: Path | None, *, resume: bool = False) -> float:
    """Tasks a second, from the call until all of it is on disk."""
    began = time.perf_counter()
    journal = {"journal": str(path), "resume": resume} if path else {}
    with need("map")(work.same, inputs, on="processes", **journal) as running:
        count = sum(1 for _ in running)
    return count / (time.perf_counter() - began)


def numbers(count: int) -> Iterable[Any]:
    return range(count)


def texts(count: int) -> Iterable[Any]:
    return [f"https://example.org/pages/{number}.html" for number in range(count)]


def pairs(count: int) -> Iterable[Any]:
    return [(number, str(number)) for number in range(count)]


def dicts(count: int) -> Iterable[Any]:
    return [{"id": number, "name": str(number)} for number in range(count)]


def add_cost(name: str, make: Callable[[int], Iterable[Any]], sizes: tuple[int, int]) -> None:
    @bench.way("journaled", name, ours=True, limit=180.0)
    def measure(context: Context) -> dict[str, Any]:
        count = context.sized(*sizes)
        inputs = make(count)
        ratios, rates, plains, nbytes = [], [], [], 0
        run(make(min(count, 10_000)), None)  # imports
        for number in range(PAIRS):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "x.journal")
                order = (None, path) if number % 2 else (path, None)
                found = {where: run(inputs, where) for where in order}
                nbytes = path.stat().st_size
            rates.append(found[path])
            plains.append(found[None])
            ratios.append(found[path] / found[None])
        return {
            "value": statistics.median(ratios),
            "rate": statistics.median(rates),
            "unjournaled": statistics.median(plains),
            "MB per million": nbytes / count,
        }


def add_recall(name: str, sizes: tuple[int, int], *, shuffled: bool = False) -> None:
    @bench.way("recalled", name, ours=True, limit=180.0)
    def measure(context: Context) -> dict[str, Any]:
        inputs = list(numbers(context.sized(*sizes)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "x.journal")
            run(inputs, path)
            if shuffled:
                random.Random(1).shuffle(inputs)
            return {"value": run(inputs, path, resume=True)}


add_cost("numbers", numbers, (3_000_000, 500_000))
add_cost("texts", texts, (1_000_000, 200_000))
add_cost("tuples", pairs, (1_000_000, 200_000))
add_cost("dicts", dicts, (200_000, 50_000))
add_recall("in the same order", (2_000_000, 500_000))
add_recall("in another order", (500_000, 100_000), shuffled=True)

bench.target(
    "a journaled no-op map, of the unjournaled one",
    "journaled",
    "numbers | default",
    at_least=0.6,
)
bench.target(
    "MB on disk for a million no-op tasks",
    "journaled",
    "numbers | default",
    at_most=40.0,
    field="MB per million",
)

if __name__ == "__main__":
    raise SystemExit(bench.main())
