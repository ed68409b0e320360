"""Small commands from the command line, and large outputs: against xargs and GNU parallel.

What is measured is the whole program, from its start to its end, as a shell sees it. `gigabytes` is
5,000 commands that print 1 MB each; the memory is the peak of the program itself, commands left
out, while somebody reads all of it.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rounds import DEFAULT, Bench, Context, Missing

MANY = "300 x true"
ONE = "one command"
LARGE = "1 MB each"
LIBRARY_MANY = "library, 300 x true"
LIBRARY_LARGE = "library, 1 MB each"
bench = Bench(
    "commands",
    "child commands: xargs, GNU parallel, piecework exec",
    {
        MANY: ("ms", "less"),
        ONE: ("ms", "less"),
        LARGE: ("s", "less"),
        LIBRARY_MANY: ("ms", "less"),
        LIBRARY_LARGE: ("s", "less"),
    },
    columns=("cpu", "peak", "bytes"),
    note="cpu: ms of the program and all its commands; peak: MB, of the program alone;"
    " bytes: MB that were read of it; library: from a warm program, the results checked",
)
EXEC = [sys.executable, "-m", "piecework", "exec", "--silent", "--progress", "off"]
LIBRARY = """
import piecework
run = piecework.map(piecework.command("true"), [str(n) for n in range({count})], workers={workers})
assert run.wait().ok
"""


def programs(context: Context, count: int) -> dict[str, list[str]]:
    workers = str(context.workers)
    numbers = [str(n) for n in range(count)]
    return {
        "xargs": ["xargs", "-n1", f"-P{workers}", "true"],
        "GNU parallel": ["parallel", "--will-cite", f"-j{workers}", "true", ":::", *numbers],
        "piecework exec": [*EXEC, f"-j{workers}", "true", ":::", *numbers],
        "piecework exec, no journal": [
            *EXEC, f"-j{workers}", "--no-journal", "true", ":::", *numbers,
        ],
        "piecework.map(command)": [
            sys.executable, "-c", LIBRARY.format(count=count, workers=workers),
        ],
    }  # fmt: skip


def timed(words: list[str], count: int) -> dict[str, Any]:
    if shutil.which(words[0]) is None:
        raise Missing("not installed")
    lines = "".join(f"{n}\n" for n in range(count)).encode() if words[0] == "xargs" else b""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(lines)
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}")
    return {
        "value": (time.perf_counter() - start) * 1000,
        "cpu": (usage.ru_utime + usage.ru_stime) * 1000,
    }


def add(section: str, name: str, count: int) -> None:
    @bench.way(section, name, ours=name.startswith("piecework"))
    def measure(context: Context) -> dict[str, Any]:
        words = programs(context, count)[name]
        timed(words, count)  # once to have it all in memory
        return min((timed(words, count) for _ in range(3)), key=lambda one: one["value"])


for _name in programs(Context(), 1):
    add(MANY, _name, 300)
    add(ONE, _name, 1)


def printing(context: Context, count: int) -> dict[str, list[str]]:
    workers = str(context.workers)
    words = ["head", "-c", "1048576", "/dev/zero"]
    numbers = [str(n) for n in range(count)]
    return {
        "GNU parallel": ["parallel", "--will-cite", "-n0", f"-j{workers}", *words, ":::", *numbers],
        "piecework exec": [*EXEC, "-n0", f"-j{workers}", *words, ":::", *numbers],
    }


class Peak(threading.Thread):
    """The most memory that one process held, without that of its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.megabytes = 0.0
        self._path = f"/proc/{pid}/status"
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            try:
                with open(self._path) as file:
                    line = next((line for line in file if line.startswith("VmHWM")), None)
            except OSError:
                return
            if line is not None:
                self.megabytes = int(line.split()[1]) / 1024

    def stop(self) -> float:
        self._over.set()
        self.join()
        return self.megabytes


def add_large(name: str) -> None:
    @bench.way(LARGE, name, ours=name.startswith("piecework"), limit=300.0)
    def measure(context: Context) -> dict[str, Any]:
        words = printing(context, context.sized(5000, 500))[name]
        if shutil.which(words[0]) is None:
            raise Missing("not installed")
        start = time.perf_counter()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout is not None
        peak = Peak(process.pid)
        peak.start()
        read = 0
        while block := process.stdout.read(1 << 20):
            read += len(block)
        if process.wait():
            raise RuntimeError(f"exit code {process.returncode}")
        return {
            "value": time.perf_counter() - start,
            "peak": peak.stop(),
            "bytes": read / (1 << 20),
        }


for _name in printing(Context(), 1):
    add_large(_name)


def mapped(words: list[str], count: int, workers: int) -> int:
    """Bytes that the commands printed."""
    import piecework

    command = piecework.command(words, append=False)
    return sum(one.out.size for one in piecework.map(command, range(count), workers=workers))


def threaded(words: list[str], count: int, workers: int) -> int:
    def one(_: int) -> int:
        return len(subprocess.run(words, capture_output=True, check=True).stdout)

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(one, range(count)))


def bare(words: list[str], count: int, workers: int) -> int:
    """No more than starting them and waiting for them: what nobody can pass."""
    path = shutil.which(words[0]) or words[0]
    left, running = count, 0
    while left or running:
        while left and running < workers:
            os.posix_spawn(path, words, os.environ, setpgroup=0)
            left, running = left - 1, running + 1
        os.wait4(-1, 0)
        running -= 1
    return 0


def add_library(section: str, name: str, run: Any, words: list[str], size: int) -> None:
    large = section == LIBRARY_LARGE

    @bench.way(section, name, ours=run is mapped, bound=run is bare, limit=120.0)
    def measure(context: Context) -> dict[str, Any]:
        count = context.sized(1000, 100) if large else 300
        run(words, 10, context.workers)
        cpu, start = time.process_time(), time.perf_counter()
        printed = run(words, count, context.workers)
        seconds = time.perf_counter() - start
        assert printed == size * count or run is bare
        return {
            "value": seconds if large else seconds * 1000,
            "cpu": (time.process_time() - cpu) * 1000,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "bytes": printed / (1 << 20),
        }


for _name, _run in (
    ("piecework.map(command)", mapped),
    ("threads and subprocess.run", threaded),
    ("bare posix_spawn loop", bare),
):
    add_library(LIBRARY_MANY, _name, _run, ["true"], 0)
    if _run is not bare:
        words = ["head", "-c", "1048576", "/dev/zero"]
        add_library(LIBRARY_LARGE, _name, _run, words, 1 << 20)

bench.target(
    "piecework.map(command) of true, of a bare posix_spawn loop",
    LIBRARY_MANY,
    f"piecework.map(command) | {DEFAULT}",
    against=[f"bare posix_spawn loop | {DEFAULT}"],
    at_most=1.3,
)
bench.target(
    "piecework exec true over 300 inputs, of xargs -P",
    MANY,
    f"piecework exec | {DEFAULT}",
    against=[f"xargs | {DEFAULT}"],
    at_most=1.5,
)
bench.target(
    "piecework exec true over 300 inputs, of GNU parallel",
    MANY,
    f"piecework exec | {DEFAULT}",
    against=[f"GNU parallel | {DEFAULT}"],
    at_most=0.25,
)
bench.target(
    "peak of commands that print 1 MB each, MB",
    LARGE,
    f"piecework exec | {DEFAULT}",
    at_most=100,
    field="peak",
)

if __name__ == "__main__":
    raise SystemExit(bench.main())
