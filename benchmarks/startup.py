"""From `python -c` to the first result of a worker process, and what `import piecework` costs."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from rounds import DEFAULT, Bench, Context, Missing

FIRST = "first result"
IMPORT = "import"
bench = Bench(
    "startup",
    "python -c: interpreter start, import, pool, first result of a worker process",
    {FIRST: ("ms", "less"), IMPORT: ("ms", "less")},
    columns=("whole", "cpu", "modules", "heavy"),
    note="whole: until the process has ended; cpu: of all its processes;"
    " modules: loaded beyond a bare interpreter's",
)
UNWANTED = ("rich", "click", "nats", "pyarrow", "asyncio", "cloudpickle", "logging", "inspect")

TELL = "import time; print('@', time.monotonic(), flush=True)"
PROGRAMS = {
    "bare python": f"{TELL}",
    "ProcessPoolExecutor": f"""
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2) as pool:
    assert pool.submit(abs, -7).result() == 7
    {TELL}
""",
    "ProcessPoolExecutor, {method}": f"""
from multiprocessing import get_context
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2, mp_context=get_context('{{method}}')) as pool:
    assert pool.submit(abs, -7).result() == 7
    {TELL}
""",
    "multiprocessing.Pool": f"""
from multiprocessing import Pool
with Pool(2) as pool:
    assert pool.apply(abs, (-7,)) == 7
    {TELL}
""",
    "loky": f"""
from loky import ProcessPoolExecutor
with ProcessPoolExecutor(2) as pool:
    assert pool.submit(abs, -7).result() == 7
    {TELL}
""",
    "joblib": f"""
from joblib import Parallel, delayed
assert Parallel(2)([delayed(abs)(-7)]) == [7]
{TELL}
""",
    "mpire": f"""
from mpire import WorkerPool
with WorkerPool(2) as pool:
    assert pool.apply(abs, (-7,)) == 7
    {TELL}
""",
    "pebble": f"""
from pebble import ProcessPool
with ProcessPool(2) as pool:
    assert pool.schedule(abs, args=[-7]).result() == 7
    {TELL}
""",
    "piecework.ProcessExecutor": f"""
from piecework import ProcessExecutor
with ProcessExecutor(2) as pool:
    assert pool.submit(abs, -7).result() == 7
    {TELL}
""",
    "piecework.ProcessExecutor, {method}": f"""
from multiprocessing import get_context
from piecework import ProcessExecutor
with ProcessExecutor(2, mp_context=get_context('{{method}}')) as pool:
    assert pool.submit(abs, -7).result() == 7
    {TELL}
""",
    'piecework.map(on="processes")': f"""
import piecework
assert list(piecework.map(abs, [-7], on='processes', workers=2)) == [7]
{TELL}
""",
    'piecework.map(on="auto")': f"""
import piecework
assert list(piecework.map(abs, [-7])) == [7]
{TELL}
""",
}


def run(program: str, limit: float = 30.0) -> tuple[float, float, float, str]:
    """(ms to the line it prints, ms to its end, CPU ms of it all, the rest of the line)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    made = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=limit,
        env=os.environ,
    )
    ended = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if made.returncode:
        last = made.stderr.strip().splitlines()[-1:] or ["no output"]
        if "piecework" in last[0] or "No module named" in last[0]:
            raise Missing("does not exist yet" if "piecework" in last[0] else "not installed")
        raise RuntimeError(last[0])
    line = next(line for line in made.stdout.splitlines() if line.startswith("@"))
    _, moment, *rest = line.split(" ", 2)
    return (float(moment) - start) * 1000, (ended - start) * 1000, cpu * 1000, "".join(rest)


def add(name: str, program: str) -> None:
    @bench.way(FIRST, name, ours=name.startswith("piecework"), bound=name == "bare python")
    def measure(context: Context) -> dict[str, Any]:
        taken = [run(program)[:3] for _ in range(context.sized(7, 3) + 1)][1:]
        return {
            "value": statistics.median(first for first, _, _ in taken),
            "whole": statistics.median(whole for _, whole, _ in taken),
            "cpu": statistics.median(cpu for _, _, cpu in taken),
        }


for _name, _program in PROGRAMS.items():
    if "{method}" in _name:
        for _method in ("fork", "forkserver", "spawn"):
            add(_name.format(method=_method), _program.format(method=_method))
    else:
        add(_name, _program)

IMPORTED = """
import sys, time
before = set(sys.modules)
start = time.perf_counter()
import {module}
{extra}
taken = time.perf_counter() - start
new = set(sys.modules) - before
heavy = ','.join(sorted(name for name in {unwanted} if name in new)) or 'none'
print('@', time.monotonic(), taken * 1000, len(new), heavy)
"""


def add_import(name: str, module: str, extra: str = "") -> None:
    @bench.way(IMPORT, name, ours=module == "piecework")
    def measure(context: Context) -> dict[str, Any]:
        program = IMPORTED.format(module=module, unwanted=UNWANTED, extra=extra)
        said = [run(program)[3].split() for _ in range(context.sized(7, 3) + 1)][1:]
        return {
            "value": statistics.median(float(words[0]) for words in said),
            "modules": int(said[0][1]),
            "heavy": said[0][2],
        }


add_import("import piecework", "piecework")
add_import("import piecework; piecework.map", "piecework", "piecework.map")
add_import("import piecework; piecework.ProcessExecutor", "piecework", "piecework.ProcessExecutor")
add_import("import multiprocessing.pool", "multiprocessing.pool")
add_import("import concurrent.futures.process", "concurrent.futures.process")
add_import("import asyncio", "asyncio")
for _peer in ("loky", "joblib", "mpire", "pebble", "distributed", "ray"):
    add_import(f"import {_peer}", _peer)

bench.target(
    "python -c to first result, ProcessExecutor of ProcessPoolExecutor",
    FIRST,
    f"piecework.ProcessExecutor | {DEFAULT}",
    against=[f"ProcessPoolExecutor | {DEFAULT}"],
    at_most=1.0,
)
bench.target(
    'python -c to first result, piecework.map(on="processes") of ProcessPoolExecutor',
    FIRST,
    f'piecework.map(on="processes") | {DEFAULT}',
    against=[f"ProcessPoolExecutor | {DEFAULT}"],
    at_most=1.0,
)
bench.target("import piecework, ms", IMPORT, f"import piecework | {DEFAULT}", at_most=60)
bench.target(
    "import piecework and look up map, ms",
    IMPORT,
    f"import piecework; piecework.map | {DEFAULT}",
    at_most=60,
)

if __name__ == "__main__":
    raise SystemExit(bench.main())
