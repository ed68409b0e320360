"""One input of 60 misbehaves: 59 good results, and one failure that says what happened."""

from __future__ import annotations

import signal
from typing import Any

import pytest

import piecework
from piecework.errors import CannotPickle, RemoteError, TaskTimeout
from piecework.executors.coroutine import CoroutineExecutor
from piecework.executors.process import ProcessExecutor
from piecework.executors.thread import ThreadExecutor
from piecework.losses import WorkerLost
from tests.executors import memory_tasks
from tests.executors.gate import PATIENCE
from tests.faults.misbehave import BAD, HANGS, KINDS, LIMIT, Run, run, run_coroutine

METHODS = ["fork", "forkserver", "spawn"]
CAUSES = {
    "leave_at_once": ("exit",),
    "leave": ("exception",),
    "interrupt": ("exception",),
    "out_of_memory": ("exception",),
    "raise_what_never_loads": ("exception",),
    "return_what_never_pickles": ("pickle",),
    "return_a_lock": ("pickle",),
    "hang": ("timeout",),
    "hang_in_c": ("timeout",),
    "overflow_the_stack": ("signal", "exception"),
}
GOOD = [n * n for n in range(60) if n != BAD]
IN_PROCESS = ["leave", "interrupt", "out_of_memory", "raise_what_never_loads"]


def _check(kind: str, error: BaseException | None) -> None:
    """The failure says what happened."""
    expected: tuple[type[BaseException], ...] = {
        "leave": (SystemExit,),
        "interrupt": (KeyboardInterrupt,),
        "out_of_memory": (MemoryError,),
        "hang": (TaskTimeout,),
        "hang_in_c": (TaskTimeout,),
        "raise_what_never_loads": (RemoteError,),
        "return_what_never_pickles": (CannotPickle,),
        "return_a_lock": (CannotPickle,),
        "overflow_the_stack": (WorkerLost, RecursionError),
    }.get(kind, (WorkerLost,))
    if kind == "raise_what_never_loads":
        assert "thirteen" in str(error)
        assert "NeverLoads" in str(error) or "NeverLoads" in type(error).__name__
        return
    assert isinstance(error, expected), repr(error)
    if kind in ("return_what_never_pickles", "return_a_lock"):
        assert "result" in str(error)
    numbers = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "segfault": signal.SIGSEGV}
    if isinstance(error, WorkerLost):
        if kind in numbers:
            assert error.signal == numbers[kind]
            assert numbers[kind].name in str(error)
        if kind == "leave_at_once":
            assert error.exitcode == 17
            assert "17" in str(error)


def _submit_all(executor: Any, function: Any, kind: str) -> None:
    futures = [executor.submit(function, kind, number) for number in range(60)]
    errors = {n: error for n, f in enumerate(futures) if (error := f.exception(PATIENCE))}
    assert list(errors) == [BAD], errors
    _check(kind, errors[BAD])
    good = [f.result() for n, f in enumerate(futures) if n != BAD]
    assert good == [n * n for n in range(60) if n != BAD]


def _limit(kind: str) -> float | None:
    return LIMIT if kind in HANGS else None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_in_processes(kind: str, method: str) -> None:
    with ProcessExecutor(2, method, task_timeout=_limit(kind)) as executor:
        _submit_all(executor, run, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_in_threads_inside_processes(kind: str) -> None:
    if kind == "terminate":
        pytest.skip("a signal to the process is nobody's of several threads")
    with ProcessExecutor(2, threads=3, task_timeout=_limit(kind)) as executor:
        _submit_all(executor, run, kind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HANGS])
def test_in_event_loops_of_processes(kind: str) -> None:
    with CoroutineExecutor(60, processes=2) as executor:
        _submit_all(executor, run_coroutine, kind)


@pytest.mark.parametrize("kind", IN_PROCESS)
def test_in_threads(kind: str) -> None:
    with ThreadExecutor(2) as executor:
        _submit_all(executor, run, kind)


@pytest.mark.parametrize("kind", IN_PROCESS)
def test_on_an_event_loop(kind: str) -> None:
    with CoroutineExecutor(60) as executor:
        _submit_all(executor, run_coroutine, kind)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threads", [1, 3])
def test_one_that_takes_all_memory(method: str, threads: int) -> None:
    with ProcessExecutor(2, method, threads=threads, max_memory="150MB") as executor:
        futures = [executor.submit(memory_tasks.square, number) for number in range(60)]
        errors = {n: error for n, f in enumerate(futures) if (error := f.exception(PATIENCE))}
        assert list(errors) == [BAD], errors
        error = errors[BAD]
        assert isinstance(error, WorkerLost)
        assert error.out_of_memory
        assert [f.result() for n, f in enumerate(futures) if n != BAD] == GOOD


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threads", [1, 3])
def test_one_that_takes_all_memory_in_the_map(method: str, threads: int) -> None:
    run = piecework.map(
        memory_tasks.square, range(60), on="processes", workers=2, threads=threads,
        mp_context=method, max_memory="150MB",
    )  # fmt: skip
    results = sorted(run.results(), key=lambda result: result.index)
    [bad] = [result for result in results if not result.ok]
    assert bad.input == BAD
    assert bad.failure is not None
    assert bad.failure.cause == "memory"
    assert (bad.failure.peak_memory or 0) > 150_000_000
    assert [result.value for result in results if result.ok] == GOOD
    assert run.summary.quarantined == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_in_the_map(kind: str, method: str) -> None:
    outcome = piecework.map(
        Run(kind), range(60), on="processes", workers=2, mp_context=method,
        task_timeout=_limit(kind), retries=0,
    )  # fmt: skip
    results = sorted(outcome.results(), key=lambda result: result.index)
    assert [result.index for result in results] == list(range(60))
    bad = [result for result in results if not result.ok]
    assert [result.input for result in bad] == [BAD]
    failure = bad[0].failure
    assert failure is not None
    assert failure.cause in CAUSES.get(kind, ("signal",))
    assert [result.value for result in results if result.ok] == [
        n * n for n in range(60) if n != BAD
    ]
