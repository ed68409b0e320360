"""How executors and their workers begin and end: exit of the interpreter, kills, replacement."""

from __future__ import annotations

import gc
import os
import select
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any

import pytest

from piecework.errors import UsageError
from piecework.executors.coroutine import CoroutineExecutor
from piecework.executors.process import ProcessExecutor
from piecework.losses import WorkerLost
from tests.executors import async_tasks, tasks
from tests.executors.conftest import Mode
from tests.executors.gate import PATIENCE, Gate
from tests.executors.processes import all_gone, environment, kill_marked, start

PROCESS_MODES = ["fork", "forkserver", "spawn"]


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    made = environment()
    yield made
    kill_marked(made)


def _run(script: str, environ: dict[str, str]) -> tuple[str, str]:
    with start(script, environ) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, err
    assert all_gone(environ, 1) == []
    return out, err


def _script(mode: Mode, *lines: str) -> str:
    kind = "async_tasks" if "async" in mode.tasks.__name__ else "tasks"
    return "\n".join([mode.source, f"from tests.executors import {kind} as tasks", *lines])


def test_the_interpreter_waits_for_what_was_submitted(
    mode: Mode, environ: dict[str, str], tmp_path: Any
) -> None:
    marks = tmp_path / "marks"
    _run(_script(mode, f"for _ in range(20): ex.submit(tasks.mark, {str(marks)!r})"), environ)
    assert marks.read_bytes() == b"." * 20


def test_the_interpreter_waits_after_shutdown_without_waiting(
    mode: Mode, environ: dict[str, str], tmp_path: Any
) -> None:
    marks = tmp_path / "marks"
    script = _script(
        mode,
        f"for _ in range(20): ex.submit(tasks.mark, {str(marks)!r})",
        "ex.shutdown(wait=False)",
    )
    _, err = _run(script, environ)
    assert err == ""
    assert marks.read_bytes() == b"." * 20


def test_nothing_is_taken_when_the_interpreter_has_ended(
    mode: Mode, environ: dict[str, str]
) -> None:
    script = _script(
        mode,
        "import atexit",
        "def late():",
        "    try: ex.submit(tasks.square, 2)",
        "    except RuntimeError as error: print(error)",
        "atexit.register(late)",
        "ex.submit(tasks.square, 2).result()",
    )
    out, err = _run(script, environ)
    assert "cannot schedule new futures" in out
    assert err == ""


def test_an_executor_left_open_does_not_hold_up_the_interpreter(
    mode: Mode, environ: dict[str, str]
) -> None:
    out, err = _run(_script(mode, "print(ex.submit(tasks.square, 3).result())"), environ)
    assert (out, err) == ("9\n", "")


def test_an_exception_leaves_the_interpreter_all_the_same(
    mode: Mode, environ: dict[str, str]
) -> None:
    script = _script(mode, "ex.submit(tasks.square, 3).result()", "raise SystemExit(7)")
    with start(script, environ) as process:
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 7
    assert all_gone(environ, 1) == []


# -- processes -------------------------------------------------------------------------------


def _gone(pid: int, seconds: float = 5.0) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


@pytest.mark.parametrize("method", PROCESS_MODES)
def test_shutdown_leaves_no_process(method: str) -> None:
    with ProcessExecutor(2, method) as executor:
        pids = {executor.submit(tasks.pid).result(PATIENCE) for _ in range(10)}
    assert os.getpid() not in pids
    assert all(_gone(pid, 0) for pid in pids)


@pytest.mark.parametrize("method", PROCESS_MODES)
def test_a_dropped_executor_leaves_no_process(method: str) -> None:
    pid = ProcessExecutor(1, method).submit(tasks.pid).result(PATIENCE)
    gc.collect()
    assert _gone(pid)


@pytest.mark.parametrize("method", PROCESS_MODES)
def test_a_worker_is_replaced_after_its_share(method: str) -> None:
    with ProcessExecutor(1, method, max_tasks_per_child=3) as executor:
        pids = [executor.submit(tasks.pid).result(PATIENCE) for _ in range(9)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]
        pids = list(executor.map(tasks.pid, range(12)))
        assert all(pids.count(pid) <= 3 for pid in pids)


def test_the_share_of_a_worker_is_at_least_one() -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError):
            ProcessExecutor(1, max_tasks_per_child=wrong)


def test_a_context_of_multiprocessing_says_the_start_method() -> None:
    import multiprocessing

    with ProcessExecutor(1, multiprocessing.get_context("spawn")) as executor:
        assert executor.submit(tasks.square, 3).result(PATIENCE) == 9
    with pytest.raises(UsageError, match="Choose one of: fork, forkserver, spawn"):
        ProcessExecutor(1, "thread")


@pytest.mark.parametrize("method", PROCESS_MODES)
@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_ending_the_workers_ends_everything(method: str, how: str, gate: Gate) -> None:
    executor = ProcessExecutor(2, method)
    running = [executor.submit(tasks.hold, gate.path, n) for n in range(2)]
    gate.arrived(2)
    waiting = [executor.submit(tasks.square, n) for n in range(600)]
    getattr(executor, how)()
    for future in running:
        assert isinstance(future.exception(PATIENCE), BrokenExecutor)
    assert waiting[-1].cancelled() or isinstance(waiting[-1].exception(PATIENCE), BrokenExecutor)
    with pytest.raises(RuntimeError):
        executor.submit(tasks.square, 1)
    executor.shutdown()
    assert all(future.done() for future in waiting)


def test_ending_the_workers_of_an_unused_executor() -> None:
    executor = ProcessExecutor(2)
    executor.terminate_workers()
    with pytest.raises(RuntimeError):
        executor.submit(tasks.square, 1)
    executor.shutdown()


@pytest.mark.parametrize("method", PROCESS_MODES)
def test_a_worker_that_was_killed_from_outside_is_replaced(method: str, gate: Gate) -> None:
    with ProcessExecutor(2, method) as executor:
        held = executor.submit(tasks.hold, gate.path, "held")
        gate.arrived(1)
        victim = executor.submit(tasks.pid).result(PATIENCE)
        os.kill(victim, 9)
        assert _gone(victim)
        assert executor.submit(tasks.square, 3).result(PATIENCE) == 9
        gate.open()
        assert held.result(PATIENCE) == "held"


def test_ctrl_c_waits_for_what_runs_and_cancels_the_rest(mode: Mode, gate: Gate) -> None:
    opener = threading.Timer(0.05, gate.open)
    with pytest.raises(KeyboardInterrupt), mode.make(1) as executor:
        running = executor.submit(mode.tasks.hold, gate.path, "running")
        gate.arrived(1)
        waiting = [executor.submit(mode.tasks.square, n) for n in range(600)]
        opener.start()
        raise KeyboardInterrupt
    opener.join()
    assert running.done()
    assert waiting[-1].cancelled()


# -- coroutines ------------------------------------------------------------------------------


def test_a_plain_function_is_refused_with_the_way_out() -> None:
    with CoroutineExecutor(2) as executor:
        for refused in (len, tasks.square, lambda: None):
            with pytest.raises(UsageError, match="async def"):
                executor.submit(refused)
        with pytest.raises(UsageError, match="not callable"):
            executor.submit(3)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="async def"):
            executor.map(tasks.square, [1])
        with pytest.raises(UsageError, match="async def"):
            executor.prepare(tasks.square)


def test_everything_that_returns_a_coroutine_is_taken() -> None:
    from functools import partial

    class Callable_:
        async def __call__(self, x: int) -> int:
            return x + 1

        async def method(self, x: int) -> int:
            return x + 2

    with CoroutineExecutor(2) as executor:
        assert executor.submit(partial(async_tasks.add, 1), 2).result(PATIENCE) == 3
        assert executor.submit(Callable_(), 1).result(PATIENCE) == 2
        assert executor.submit(Callable_().method, 1).result(PATIENCE) == 3


@pytest.mark.parametrize("processes", [None, 2])
def test_coroutines_wait_together(processes: int | None, gate: Gate) -> None:
    with CoroutineExecutor(200, processes=processes) as executor:
        futures = [executor.submit(async_tasks.hold, gate.path, n) for n in range(200)]
        assert sorted(map(int, gate.arrived(200))) == list(range(200))
        gate.open()
        assert [future.result(PATIENCE) for future in futures] == list(range(200))


def test_no_more_coroutines_run_at_once_than_asked_for(gate: Gate) -> None:
    running = most = 0

    async def one(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await async_tasks.add(n)
        running -= 1
        return n

    with CoroutineExecutor(7) as executor:
        assert list(executor.map(one, range(100))) == list(range(100))
    assert most == 7


@pytest.mark.parametrize("processes", [None, 1])
def test_a_coroutine_that_passes_its_time_limit_is_cancelled(
    processes: int | None, gate: Gate
) -> None:
    from piecework.errors import TaskTimeout

    with CoroutineExecutor(10, processes=processes, task_timeout=0.3) as executor:
        late = executor.submit(async_tasks.hold, gate.path, "late")
        fine = [executor.submit(async_tasks.square, n) for n in range(20)]
        assert [future.result(PATIENCE) for future in fine] == [n * n for n in range(20)]
        error = late.exception(PATIENCE)
        assert isinstance(error, TaskTimeout)
        assert "0.3 s" in str(error)


def test_a_coroutine_that_will_not_be_cancelled_is_reported_all_the_same() -> None:
    from asyncio import CancelledError as Cancelled
    from asyncio import Event

    from piecework.errors import TaskTimeout

    enough = threading.Event()

    async def stubborn() -> None:
        while not enough.is_set():
            try:
                await Event().wait()
            except Cancelled:
                enough.wait(0.01)

    executor = CoroutineExecutor(10, task_timeout=0.05)
    assert isinstance(executor.submit(stubborn).exception(PATIENCE), TaskTimeout)
    assert executor.submit(async_tasks.square, 3).result(PATIENCE) == 9
    enough.set()
    executor.terminate_workers()
    executor.shutdown()


def test_ending_everything_cancels_what_runs(gate: Gate) -> None:
    executor = CoroutineExecutor(1)
    running = executor.submit(async_tasks.hold, gate.path, "running")
    gate.arrived(1)
    waiting = executor.submit(async_tasks.square, 1)
    executor.terminate_workers()
    assert isinstance(running.exception(PATIENCE), CancelledError)
    assert waiting.cancelled()
    executor.shutdown()


@pytest.mark.parametrize("processes", [None, 2])
def test_an_initializer_may_be_a_coroutine(processes: int | None) -> None:
    async def prepare(value: str) -> None:
        await async_tasks.square(1)
        tasks.initialize(value)

    with CoroutineExecutor(
        10, processes=processes, initializer=prepare, initargs=("loop",)
    ) as executor:
        assert executor.submit(async_tasks.get_initialized).result(PATIENCE) == "loop"


@pytest.mark.parametrize("processes", [None, 1])
def test_a_task_of_a_coroutine_cannot_end_the_event_loop(processes: int | None) -> None:
    import asyncio

    async def outer() -> None:
        await asyncio.create_task(async_tasks.leave())

    with CoroutineExecutor(10, processes=processes) as executor:
        assert isinstance(executor.submit(outer).exception(PATIENCE), SystemExit)
        assert executor.submit(async_tasks.square, 3).result(PATIENCE) == 9


def test_one_coroutine_of_many_kills_its_process(gate: Gate) -> None:
    async def kill(n: int) -> int:
        await async_tasks.add(n)
        if n == 13:
            os.kill(os.getpid(), 9)
        return n

    with CoroutineExecutor(60, processes=2) as executor:
        futures = [executor.submit(kill, n) for n in range(60)]
        errors = {n: f.exception(PATIENCE) for n, f in enumerate(futures)}
    assert isinstance(errors.pop(13), WorkerLost)
    assert set(errors.values()) == {None}
