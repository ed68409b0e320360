"""One task kills its process, or misbehaves in another way: what is lost, and for how long."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import work
from pools import need
from rounds import DEFAULT, Bench, Context

KILL = "one of 2,000 kills its process"
KINDS = (
    "kills its process",
    "unpicklable exception",
    "SystemExit",
    "unpicklable result",
    "hangs",
)
units = {KILL: ("results", "more")} | {f"one of 60: {kind}": ("results", "more") for kind in KINDS}
bench = Bench(
    "crash",
    "One bad task: how many of the others give their result, and is the bad one named",
    units,
    columns=("failures", "named", "recovery_ms"),
    note="recovery: from the moment of the kill to the first result of the process that replaces"
    " the dead one; `named`: the failure, and only it, is tied to the bad input",
)
LIMIT = 8.0  # a way that has not ended by then hangs
Outcome = list[tuple[int, Any, BaseException | None]]  # (input, value, error)
BAD = 1_000


def from_futures(executor: Any, fn: Callable[..., Any], inputs: Iterable[Any]) -> Outcome:
    made, outcome = [], []
    for number, value in enumerate(inputs):
        try:
            made.append((number, executor.submit(fn, value)))
        except Exception as error:  # a broken pool refuses what is left
            outcome.append((number, None, error))
    for number, future in made:
        try:
            outcome.append((number, future.result(), None))
        except BaseException as error:
            outcome.append((number, None, error))
    return outcome


def standard(workers: int, limit: float | None, fn: Any, inputs: Any) -> Outcome:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as executor:
        return from_futures(executor, fn, inputs)


def loky(workers: int, limit: float | None, fn: Any, inputs: Any) -> Outcome:
    import loky

    with loky.ProcessPoolExecutor(workers) as executor:
        return from_futures(executor, fn, inputs)


def pebble(workers: int, limit: float | None, fn: Any, inputs: Any) -> Outcome:
    import pebble

    class Limited:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def submit(self, fn: Any, value: Any) -> Any:
            return self.inner.schedule(fn, args=[value], timeout=limit)

    with pebble.ProcessPool(workers) as made:
        return from_futures(Limited(made), fn, inputs)


def pool(workers: int, limit: float | None, fn: Any, inputs: Any) -> Outcome:
    from multiprocessing import Pool

    with Pool(workers) as made:
        waiting = [(n, made.apply_async(fn, (value,))) for n, value in enumerate(inputs)]
        outcome: Outcome = []
        for number, result in waiting:
            try:
                outcome.append((number, result.get(), None))
            except BaseException as error:
                outcome.append((number, None, error))
        return outcome


def from_iterator(results: Iterable[Any]) -> Outcome:
    outcome: Outcome = []
    iterator = iter(results)
    while True:
        try:
            outcome.append((len(outcome), next(iterator), None))
        except StopIteration:
            return outcome
        except BaseException as error:
            outcome.append((len(outcome), None, error))
            return outcome


def joblib(workers: int, limit: float | None, fn: Any, inputs: Any) -> Outcome:
    import joblib

    made = joblib.Parallel(workers, return_as="generator", timeout=limit)
    return from_iterator(made(joblib.delayed(fn)(value) for value in inputs))


def mpire(workers: int, limit: float | None, fn: Any, inputs: Any) -> Outcome:
    import mpire

    with mpire.WorkerPool(workers) as made:
        values = [(value,) for value in inputs]
        return from_iterator(made.imap(fn, values, task_timeout=limit, chunk_size=1))


def our_executor(workers: int, limit: float | None, fn: Any, inputs: Any) -> Outcome:
    made = need("ProcessExecutor")
    with made(workers, **({} if limit is None else {"task_timeout": limit})) as executor:
        return from_futures(executor, fn, inputs)


def our_map(workers: int, limit: float | None, fn: Any, inputs: Any, **more: Any) -> Outcome:
    if limit is not None:
        more["task_timeout"] = limit
    run = need("map")(fn, inputs, on="processes", workers=workers, **more)
    return [
        (result.index, result.value, None if result.ok else RuntimeError(str(result.failure)))
        for result in run.results()
    ]


def our_map_once(workers: int, limit: float | None, fn: Any, inputs: Any) -> Outcome:
    return our_map(workers, limit, fn, inputs, retries=0)


WAYS: dict[str, Callable[..., Outcome]] = {
    "ProcessPoolExecutor": standard,
    "loky": loky,
    "multiprocessing.Pool": pool,
    "joblib": joblib,
    "mpire": mpire,
    "pebble": pebble,
    "piecework.ProcessExecutor": our_executor,
    'piecework.map(on="processes")': our_map,
    'piecework.map(on="processes", retries=0)': our_map_once,
}


def judged(outcome: Outcome, bad: int) -> dict[str, Any]:
    failed = [number for number, _, error in outcome if error is not None]
    return {
        "value": sum(1 for _, _, error in outcome if error is None),
        "failures": len(failed),
        "named": "yes" if failed == [bad] else "no",
    }


def recovery(outcome: Outcome, note: str) -> dict[str, Any]:
    """ms from the last kill to the first result of a process that none was seen of before it."""
    with open(note) as file:
        kills = [float(line.split()[0]) for line in file]
    done = [value for _, value, error in outcome if error is None]
    spans = []
    for kill in kills:
        before = {pid for _, pid, when in done if when < kill}
        after = [when for _, pid, when in done if when > kill and pid not in before]
        if after:
            spans.append((min(after) - kill) * 1000)
    return {"recovery_ms": max(spans), "kills": len(kills)} if spans else {"kills": len(kills)}


def add(name: str, way: Callable[..., Outcome]) -> None:
    ours = name.startswith("piecework")

    @bench.way(KILL, name, ours=ours, limit=LIMIT + 4)
    def kill(context: Context) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            note = os.path.join(folder, "kills")
            jobs = [(number, BAD, context.millisecond, note) for number in range(2_000)]
            start = time.perf_counter()
            outcome = way(context.workers, None, work.work_and_stamp, jobs)
            seconds = time.perf_counter() - start
            return judged(outcome, BAD) | recovery(outcome, note) | {"seconds": seconds}

    for kind in KINDS:

        @bench.way(f"one of 60: {kind}", name, ours=ours, limit=LIMIT, heavy=not ours)
        def misbehaves(context: Context, kind: str = kind) -> dict[str, Any]:
            import functools

            fn = functools.partial(work.misbehave, kind=kind)
            limit = 1.0 if kind == "hangs" else None
            return judged(way(context.workers, limit, fn, list(range(60))), 13)


for _name, _way in WAYS.items():
    add(_name, _way)

for _ours in ("piecework.ProcessExecutor", 'piecework.map(on="processes")'):
    bench.target(f"{KILL}: results of {_ours}", KILL, f"{_ours} | {DEFAULT}", at_least=1_999)
    bench.target(
        f"{KILL}: recovery of {_ours}, ms",
        KILL,
        f"{_ours} | {DEFAULT}",
        at_most=100,
        field="recovery_ms",
    )
    for _kind in KINDS:
        bench.target(
            f"one of 60 {_kind}: results of {_ours}",
            f"one of 60: {_kind}",
            f"{_ours} | {DEFAULT}",
            at_least=59,
        )

if __name__ == "__main__":
    raise SystemExit(bench.main())
