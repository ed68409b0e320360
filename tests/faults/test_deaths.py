"""Deaths at every moment: nothing hangs, and only what was to blame fails."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from piecework.errors import TaskTimeout
from piecework.executors.process import ProcessExecutor
from piecework.losses import WorkerLost
from tests.executors.gate import PATIENCE, Gate
from tests.executors.tasks import hold, pid, square
from tests.faults.misbehave import KillsWhoLoadsIt, kill, leave_at_once

METHODS = ["fork", "forkserver", "spawn"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def _still_works(executor: ProcessExecutor) -> None:
    assert executor.submit(square, 9).result(PATIENCE) == 81
    assert list(executor.map(square, range(20))) == [n * n for n in range(20)]


# -- in the initializer ----------------------------------------------------------------------


def test_an_initializer_that_always_dies_breaks_the_executor(method: str) -> None:
    from concurrent.futures import BrokenExecutor

    with ProcessExecutor(2, method, initializer=kill) as executor:
        futures = [executor.submit(square, n) for n in range(5)]
        for future in futures:
            assert isinstance(future.exception(PATIENCE), BrokenExecutor)
        with pytest.raises(BrokenExecutor):
            executor.submit(square, 1)


def _die_once(flag: str) -> None:
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    leave_at_once()


def test_an_initializer_that_dies_once_costs_nothing(method: str, tmp_path: Path) -> None:
    flag = str(tmp_path / "died")
    with ProcessExecutor(2, method, initializer=_die_once, initargs=(flag,)) as executor:
        futures = [executor.submit(square, n) for n in range(20)]
        assert [future.result(PATIENCE) for future in futures] == [n * n for n in range(20)]


# -- while something is unpickled ------------------------------------------------------------


def test_a_function_that_kills_whoever_unpickles_it_costs_its_call_only(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        before = [executor.submit(square, n) for n in range(20)]
        bad = executor.submit(KillsWhoLoadsIt())  # type: ignore[arg-type]
        after = [executor.submit(square, n) for n in range(20)]
        assert isinstance(bad.exception(PATIENCE), WorkerLost)
        assert [f.result(PATIENCE) for f in before + after] == 2 * [n * n for n in range(20)]


def test_an_argument_that_kills_whoever_unpickles_it_costs_its_call_only(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        futures: list[Any] = [executor.submit(square, n) for n in range(20)]
        bad = executor.submit(pid, KillsWhoLoadsIt())
        futures += [executor.submit(square, n) for n in range(20)]
        assert isinstance(bad.exception(PATIENCE), WorkerLost)
        assert [f.result(PATIENCE) for f in futures] == 2 * [n * n for n in range(20)]


def test_a_map_whose_function_kills_whoever_unpickles_it_fails(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        with pytest.raises(WorkerLost):
            list(executor.map(KillsWhoLoadsIt(), range(20)))  # type: ignore[arg-type]
        _still_works(executor)


def test_a_map_names_the_argument_that_kills(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        results = executor.map(_same, [1, 2, KillsWhoLoadsIt(), 4])
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(WorkerLost):
            next(results)
        _still_works(executor)


def _same(value: Any) -> Any:
    return value


class _RaisesWhenLoaded:
    def __reduce__(self) -> Any:
        return _raise_exit, ()


def _raise_exit() -> None:
    raise SystemExit(1)


def test_a_result_that_raises_where_it_is_unpickled_fails_alone(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        bad = executor.submit(_RaisesWhenLoaded)
        good = [executor.submit(square, n) for n in range(20)]
        assert bad.exception(PATIENCE) is not None
        assert [f.result(PATIENCE) for f in good] == [n * n for n in range(20)]
        results = executor.map(_make_one_that_raises, range(3))
        assert next(results) == 0
        with pytest.raises(BaseException):
            next(results)
        _still_works(executor)


def _make_one_that_raises(n: int) -> Any:
    return _RaisesWhenLoaded() if n == 1 else n


# -- while a result is sent ------------------------------------------------------------------


def _die_while_sending(number: int) -> bytes:
    """Return what takes a while to send, and be killed meanwhile (or just after)."""
    if number % 3 == 0:
        threading.Timer(0.002 * number, kill).start()
        return bytes(64 << 20)
    return b"small"


def test_a_death_while_a_large_result_is_sent_harms_nobody_else(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        futures = [executor.submit(_die_while_sending, n) for n in range(12)]
        for number, future in enumerate(futures):
            error = future.exception(PATIENCE)
            if error is not None:  # also who came next at the worker that was about to die
                assert isinstance(error, WorkerLost)
            elif number % 3:
                assert future.result() == b"small"
        _still_works(executor)


# -- all at once, storms, the supervisor -----------------------------------------------------


def test_all_workers_may_die_at_once(method: str, gate: Gate) -> None:
    with ProcessExecutor(3, method) as executor:
        running = [executor.submit(_hold_pid, gate.path) for _ in range(3)]
        pids = [int(name) for name in gate.arrived(3)]
        waiting = [executor.submit(square, n) for n in range(100)]
        for victim in pids:
            os.kill(victim, signal.SIGKILL)
        for future in running:
            error = future.exception(PATIENCE)
            assert isinstance(error, WorkerLost)
            assert error.signal == signal.SIGKILL
        assert [future.result(PATIENCE) for future in waiting] == [n * n for n in range(100)]


def _hold_pid(path: str) -> int:
    return int(hold(path, os.getpid()))


def test_a_storm_of_deaths_ends_with_every_call_accounted_for(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        futures = [executor.submit(kill) for _ in range(8)]
        assert all(isinstance(f.exception(PATIENCE), WorkerLost) for f in futures)
        _still_works(executor)


def _square_or_die(number: int, killers: frozenset[int]) -> int:
    if number in killers:
        kill()
    return number * number


def test_ten_killers_among_three_hundred_cost_ten(method: str) -> None:
    killers = frozenset(random.Random(method).sample(range(300), 10))
    with ProcessExecutor(2, method) as executor:
        futures = [executor.submit(_square_or_die, n, killers) for n in range(300)]
        failed = {n for n, f in enumerate(futures) if f.exception(PATIENCE) is not None}
    assert failed == killers
    assert all(f.result() == n * n for n, f in enumerate(futures) if n not in killers)


def _supervisor() -> int:
    """Our child process; the workers are its children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    tree = {int(child): _children(int(child)) for child in children}
    (found,) = [child for child, below in tree.items() if below]
    return found


def _children(parent: int) -> list[int]:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        return [int(child) for child in text.split()]
    return []


def test_the_supervisor_may_die(method: str, gate: Gate) -> None:
    with ProcessExecutor(2, method) as executor:
        futures = [executor.submit(hold, gate.path, n) for n in range(4)]
        gate.arrived(2)
        os.kill(_supervisor(), signal.SIGKILL)
        gate.open()
        results = [f.exception(PATIENCE) or f.result() for f in futures]
        assert all(isinstance(r, WorkerLost) or r == n for n, r in enumerate(results))
        _still_works(executor)


def test_the_supervisor_may_die_while_nothing_runs(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        worker = executor.submit(pid).result(PATIENCE)
        os.kill(_supervisor(), signal.SIGKILL)
        assert _ended(worker)
        _still_works(executor)


def _ended(process: int) -> bool:
    try:
        fd = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], PATIENCE)[0])
    finally:
        os.close(fd)


# -- a worker that stands still, the end -----------------------------------------------------


def test_a_stopped_worker_is_ended_at_its_time_limit(method: str, gate: Gate) -> None:
    with ProcessExecutor(1, method, task_timeout=0.5) as executor:
        future = executor.submit(_stop_itself)
        assert isinstance(future.exception(PATIENCE), TaskTimeout)
        _still_works(executor)


def _stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.fixture
def ending(method: str, gate: Gate) -> Iterator[tuple[ProcessExecutor, list[Any], list[int]]]:
    """An executor that is being shut down while its two workers hold a task each."""
    executor = ProcessExecutor(2, method)
    futures = [executor.submit(_hold_pid, gate.path) for _ in range(2)]
    pids = [int(name) for name in gate.arrived(2)]
    futures += [executor.submit(square, n) for n in range(20)]
    thread = threading.Thread(target=executor.shutdown)
    thread.start()
    yield executor, futures, pids
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert all(future.done() for future in futures)
    assert all(_ended(victim) for victim in pids)


def test_workers_may_die_during_shutdown(ending: Any) -> None:
    _, futures, pids = ending
    for victim in pids:
        os.kill(victim, signal.SIGKILL)
    assert all(isinstance(f.exception(PATIENCE), WorkerLost) for f in futures[:2])
    assert [f.result(PATIENCE) for f in futures[2:]] == [n * n for n in range(20)]


def test_the_supervisor_may_die_during_shutdown(ending: Any, gate: Gate) -> None:
    _, futures, _ = ending
    os.kill(_supervisor(), signal.SIGKILL)
    gate.open()
    for future in futures:
        error = future.exception(PATIENCE)
        assert error is None or isinstance(error, WorkerLost)


def test_workers_may_be_killed_while_they_die(ending: Any) -> None:
    executor, futures, pids = ending
    os.kill(pids[0], signal.SIGKILL)
    executor.kill_workers()
    for future in futures[:2]:
        assert isinstance(future.exception(PATIENCE), WorkerLost)
