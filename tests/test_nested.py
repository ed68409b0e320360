"""Maps inside tasks: none waits for ever, and together they do not take more than there is."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

import piecework
from piecework.errors import UsageError
from piecework.executors import blas
from piecework.executors.cores import cores
from tests import nested_tasks
from tests.executors.gate import PATIENCE
from tests.executors.processes import all_gone, environment, start
from tests.nested_tasks import WAYS

RUN = """
import json
import piecework
from tests import nested_tasks

print(json.dumps(list({expression})))
"""
SLOTS = cores()


def told(expression: str, **environ: str) -> Any:
    """The values of a map in a process of its own; nothing is left of it."""
    given = environment(**environ)
    with start(RUN.format(expression=expression), given) as process:
        try:
            out, err = process.communicate(timeout=2 * PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, ""), err
    assert all_gone(given, 10) == []
    return json.loads(out)


@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_two_levels_end_and_no_more_processes_live_than_slots_ask_for(
    first: str, second: str
) -> None:
    tasks = [(second, number) for number in range(4)]
    found = told(f"piecework.map(nested_tasks.inner, {tasks}, on={first!r})")
    assert [value for value, _ in found] == [3 * number + 3 for number in range(4)]
    outer = 1 + SLOTS  # a supervisor and its workers
    # Each of four tasks at once may have a supervisor and one worker, one that ends not counted.
    assert max(seen for _, seen in found) <= 1 + outer + 4 * 3


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        ("processes", "processes", "processes"),
        ("threads", "threads", "threads"),
        ("threads", "processes", "threads"),
        ("auto", "auto", "auto"),
        ("inline", "inline", "inline"),
        ("processes", "threads", "processes"),
    ],
)
def test_three_levels_end(first: str, second: str, third: str) -> None:
    tasks = [(second, third, number) for number in range(2)]
    found = told(f"piecework.map(nested_tasks.outer, {tasks}, on={first!r})")
    assert [value for value, _ in found] == [9 * number + 18 for number in range(2)]
    assert max(seen for _, seen in found) <= 1 + (1 + SLOTS) + 2 * 3 + 2 * 3 * 3


@pytest.mark.parametrize("way", WAYS)
def test_inside_coroutines(way: str) -> None:
    tasks = [(way, number) for number in range(4)]
    found = told(f"piecework.map(nested_tasks.coroutine, {tasks})")
    assert [value for value, _ in found] == [3 * number + 3 for number in range(4)]
    assert max(seen for _, seen in found) <= 1 + 4 * 3


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_worker_process_has_its_share_of_the_cores(method: str) -> None:
    for workers in (1, SLOTS, 2 * SLOTS):
        with piecework.ProcessExecutor(workers, method) as executor:
            assert executor.submit(nested_tasks.counted, 0).result(PATIENCE) == (
                max(1, SLOTS // workers),
                min(32, max(4, 128 // workers)),
            )


def test_a_thread_and_a_coroutine_have_theirs() -> None:
    with piecework.ThreadExecutor(32) as threads:
        assert threads.submit(nested_tasks.counted, 0).result(PATIENCE) == (max(1, SLOTS // 32), 4)
    with piecework.ThreadExecutor(1) as threads:
        assert threads.submit(nested_tasks.counted, 0).result(PATIENCE) == (SLOTS, 32)
    with piecework.CoroutineExecutor(1000) as loop:
        future = loop.submit(nested_tasks.counted_on_a_loop, 0)
        assert future.result(PATIENCE) == (1, 1)
    with piecework.CoroutineExecutor(1000, processes=SLOTS) as loops:
        future = loops.submit(nested_tasks.counted_on_a_loop, 0)
        assert future.result(PATIENCE)[0] == 1
    assert nested_tasks.counted(0) == (SLOTS, 32)


def test_workers_that_are_asked_for_are_started_all_the_same() -> None:
    assert list(piecework.map(nested_tasks.explicit_workers, [0], on="processes")) == [3]
    assert list(piecework.map(nested_tasks.explicit_workers, [0], on="threads")) == [3]


def test_a_map_on_the_threads_that_would_wait_for_it_is_refused() -> None:
    with piecework.ThreadExecutor(1) as executor:
        future = executor.submit(lambda: piecework.map(abs, [-1], on=executor))
        with pytest.raises(UsageError, match="runs the calling task"):
            future.result(PATIENCE)
        assert list(piecework.map(abs, [-1], on=executor)) == [1]


def test_waiting_in_a_coroutine_for_its_own_event_loop_is_refused() -> None:
    with piecework.CoroutineExecutor(4) as executor:
        future = executor.submit(nested_tasks.waits_for_its_own, executor)
        with pytest.raises(UsageError, match="Use await run, or async for"):
            future.result(PATIENCE)
        future = executor.submit(nested_tasks.awaits_its_own, executor)
        assert future.result(PATIENCE) == [2, 4]


# -- threads of native libraries ------------------------------------------------------------------

NATIVE = "piecework.map(nested_tasks.native_threads, [0], on='processes', workers={}{})"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_native_libraries_in_a_worker_start_its_share_of_threads(method: str) -> None:
    [found] = told(NATIVE.format(SLOTS, f", mp_context={method!r}"))
    assert set(found["environ"].values()) == {"1"}
    assert all(threads == 1 for threads in found["pools"])


@pytest.mark.skipif(sys.platform != "linux", reason="loaded libraries are found on Linux only")
def test_libraries_loaded_before_the_fork_are_told() -> None:
    before = "__import__('numpy').ones((2, 2)) is not None and "
    [found] = told(before + NATIVE.format(SLOTS, ", mp_context='fork'"))
    assert all(threads == 1 for threads in found["pools"])


def test_what_the_user_has_set_stays() -> None:
    [found] = told(NATIVE.format(SLOTS, ""), OPENBLAS_NUM_THREADS="2", RAYON_NUM_THREADS="7")
    assert found["environ"]["OPENBLAS_NUM_THREADS"] == "2"
    assert found["environ"]["RAYON_NUM_THREADS"] == "7"
    assert found["environ"]["MKL_NUM_THREADS"] == "1"


def test_who_obeys_what_the_user_has_set_is_left_alone() -> None:
    assert blas.limits({"OMP_NUM_THREADS": "4"}, 1).keys().isdisjoint(blas.OBEY_OMP)
    [found] = told(
        "__import__('numpy') and " + NATIVE.format(SLOTS, ", mp_context='fork'"),
        OMP_NUM_THREADS="2",
    )
    assert found["environ"]["OMP_NUM_THREADS"] == "2"
    assert found["environ"]["OPENBLAS_NUM_THREADS"] is None
    if (os.cpu_count() or 1) > 1:
        assert all(threads == 2 for threads in found["pools"])
