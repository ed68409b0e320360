"""Pools that lose workers, are terminated, dropped or forgotten: nobody waits for ever."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from piecework import Pool, WorkerLost
from tests.executors.gate import Gate
from tests.pool import tasks

PATIENCE = 60.0
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def ended(pid: int) -> bool:
    """No longer there, or not yet reaped by whoever has it now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_death_of_a_worker_is_the_failure_of_its_call(gate: Gate) -> None:
    with Pool(2) as pool:
        result = pool.apply_async(tasks.hold, (gate.path,))
        (pid,) = gate.arrived(1)
        os.kill(int(pid), signal.SIGKILL)
        with pytest.raises(WorkerLost, match="SIGKILL"):
            result.get(PATIENCE)
        assert pool.apply(tasks.square, (2,)) == 4


@pytest.mark.parametrize("chunksize", [None, 1, 20])
def test_one_death_in_sixty_costs_one_item(chunksize: int | None) -> None:
    with Pool(2) as pool:
        for values in (
            pool.imap(tasks.die_at_three, range(60), chunksize),
            pool.imap_unordered(tasks.die_at_three, range(60), chunksize),
        ):
            done, lost = _taken(values)
            assert sorted(done) == [x for x in range(60) if x != 3]
            (failure,) = lost
            assert "input 3" in failure.__notes__[0]
        with pytest.raises(WorkerLost) as raised:
            pool.map(tasks.die_at_three, range(60), chunksize)
        assert "task 3, input 3" in raised.value.__notes__[0]


def _taken(values: Any) -> tuple[list[Any], list[WorkerLost]]:
    done, lost = [], []
    while True:
        try:
            done.append(next(values))
        except StopIteration:
            return done, lost
        except WorkerLost as error:
            lost.append(error)


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_terminate_ends_what_runs_and_what_waits(context: str, gate: Gate) -> None:
    pool = Pool(2, context=context)
    mapped = pool.map_async(tasks.hold, [gate.path] * 10_000, chunksize=1)
    values = pool.imap(tasks.square, (x for x in range(10**9)))
    single = pool.apply_async(tasks.square, (1,))
    gate.arrived(2)
    pids = [worker.pid for worker in pool._pool]
    pool.terminate()
    pool.join()
    assert all(map(ended, pids))
    with pytest.raises((WorkerLost, CancelledError)):
        mapped.get(PATIENCE)
    with pytest.raises((WorkerLost, CancelledError)):
        single.get(PATIENCE)
    with pytest.raises(CancelledError):
        while True:
            next(values)


def test_a_dropped_pool_warns_and_ends_what_it_runs(gate: Gate) -> None:
    pool = Pool(1)
    result = pool.apply_async(tasks.hold, (gate.path,))
    pids = [worker.pid for worker in pool._pool]
    gate.arrived(1)
    del pool
    gc.collect()
    assert not any(map(ended, pids))  # who waits for a result keeps the pool
    engine = result._pool._executor._engine  # type: ignore[attr-defined]
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        result._pool = None  # the last one
    engine.wait_closed()
    assert all(map(ended, pids))
    with pytest.raises(WorkerLost):
        result.get(PATIENCE)


FORGOTTEN = """
import time, piecework, sys
pool = piecework.Pool(2, on={on!r}, **{more!r})
print(*[worker.pid for worker in pool._pool] if {on!r} == "processes" else [], flush=True)
busy = pool.map_async(time.sleep, [{seconds}] * 100)
values = pool.imap(abs, iter(sys.stdin.readline, "x"))
while not pool._flows.open:
    pass
{then}
"""


@pytest.mark.parametrize("then", ["", "pool.close()", "raise SystemExit(0)"])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_forgotten_pool_does_not_hold_up_the_exit(method: str, then: str) -> None:
    script = FORGOTTEN.format(on="processes", more={"context": method}, seconds=600, then=then)
    with _started(script) as run:
        pids = [int(pid) for pid in _first_line(run).split()]
        assert len(pids) == 2
        assert run.wait(PATIENCE) == 0
        assert all(map(ended, pids))


def test_a_fork_of_a_process_with_a_pool_ends_as_any_other() -> None:
    script = (
        "import multiprocessing, os, threading, piecework\n"
        "pool = piecework.Pool(1)\n"
        "reading, writing = os.pipe()\n"  # not stdin: a forked child of Python hangs closing that
        "values = pool.imap(len, iter(lambda: os.read(reading, 1), b''))\n"
        "child = multiprocessing.get_context('fork').Process(target=threading.Event)\n"
        "with values._flow._source._changed:\n"  # as a thread of the parent may hold it
        "    child.start()\n"
        "child.join()\n"
        "print(child.exitcode, pool.apply(abs, (-3,)), flush=True)\n"
    )
    with _started(script) as run:
        assert _first_line(run) == "0 3\n"
        assert run.wait(PATIENCE) == 0


def test_forgotten_threads_end_with_their_call() -> None:
    with _started(FORGOTTEN.format(on="threads", more={}, seconds=0.2, then="")) as run:
        assert run.wait(PATIENCE) == 0


def test_an_interrupt_ends_a_map_at_once() -> None:
    script = (
        "import time, piecework\n"
        "with piecework.Pool(2) as pool:\n"
        "    print(*[worker.pid for worker in pool._pool], flush=True)\n"
        "    pool.map(time.sleep, [600] * 100)\n"
    )
    with _started(script) as run:
        pids = [int(pid) for pid in _first_line(run).split()]
        run.send_signal(signal.SIGINT)
        assert run.wait(PATIENCE) == -signal.SIGINT
        assert all(map(ended, pids))


@contextlib.contextmanager
def _started(script: str) -> Iterator[subprocess.Popen[str]]:
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with run:
        try:
            yield run
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


def _first_line(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    return run.stdout.readline()
