"""on="auto": what is chosen for which work, and that nothing runs twice on the way."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from typing import Any

import pytest

import piecework
from piecework.auto import Choice, Sample, choose
from piecework.measuring import Crowding, Sampling
from piecework.trivial import is_trivial


def way(sample: Sample, cores: int = 2, **known: Any) -> str:
    choice = choose(sample, cores, **{"limited": False, "gil_free": None, **known})
    return "ask" if choice is None else choice.way


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (Sample(1e-7, 1e-7, 40), "inline"),
        (Sample(5e-6, 5e-6, 40), "processes"),
        (Sample(1e-3, 1e-3, 40), "processes"),
        (Sample(0.01, 1e-4, 40), "threads"),
        (Sample(1.0, 0.01, 40), "threads"),
        (Sample(0.004, 0.004, 8e6), "ask"),
    ],
)
def test_the_way_follows_from_the_measures(sample: Sample, expected: str) -> None:
    assert way(sample) == expected


def test_waiting_and_computing_takes_threads_in_processes() -> None:
    choice = choose(Sample(0.03, 0.01, 40), 4, limited=False, gil_free=None)
    assert choice is not None
    assert (choice.way, choice.threads) == ("processes", 3)


def test_large_values_stay_in_threads_where_they_run_beside_each_other() -> None:
    sample = Sample(0.004, 0.004, 8e6)
    assert way(sample, gil_free=True) == "threads"
    assert way(Sample(0.4, 0.4, 8e6), gil_free=False) == "processes"


def test_a_time_limit_takes_processes_whatever_was_measured() -> None:
    assert way(Sample(1e-7, 1e-7, 40), limited=True) == "processes"
    assert way(Sample(0.01, 1e-5, 40), limited=True) == "processes"
    assert way(Sample(0.004, 0.004, 8e6), limited=True) == "processes"


def test_the_reason_says_what_was_measured() -> None:
    choice = choose(Sample(0.0101, 1e-4, 40), 2, limited=False, gil_free=None)
    assert choice == Choice("threads", "a task takes 10.1 ms, 99 % of it waiting", 64)


def square(x: float) -> float:
    return x * x


def with_branch(x: int) -> float:
    """With a docstring."""
    return x / 2 if x % 2 == 0 else -x


def with_call(x: int) -> int:
    return abs(x)


def with_loop(x: int) -> int:
    while x > 1:
        x -= 1
    return x


def with_power(x: int) -> int:
    return x**x


def with_text(x: int) -> str:
    return "ab" * x


@pytest.mark.parametrize("fn", [square, with_branch, lambda x: x + 1])
def test_operations_on_numbers_need_no_measuring(fn: Any) -> None:
    assert is_trivial(fn, range(10))
    assert is_trivial(fn, [1, 2.5, True])


@pytest.mark.parametrize("fn", [with_call, with_loop, with_power, with_text, int, asyncio.sleep])
def test_whatever_may_take_long_is_measured(fn: Any) -> None:
    assert not is_trivial(fn, range(10))


@pytest.mark.parametrize("inputs", [["a"], [1 << 70], [None], range(1 << 70), [], iter([1])])
def test_inputs_of_any_size_are_measured(inputs: Any) -> None:
    assert not is_trivial(square, inputs)


def test_a_thread_beside_a_task_tells_whether_it_let_others_run() -> None:
    sleeping = Sampling(time.sleep)(0.05)
    assert sleeping.value is None
    assert sleeping.ticks > 20


def test_a_process_nobody_knows_is_taken_as_undisturbed() -> None:
    assert Crowding().share("process 999999999") == 1.0
    assert Crowding().share("thread 1") == 1.0


def test_the_share_of_a_core_is_a_share() -> None:
    assert 0 < Crowding().share(f"process {os.getpid()}") <= 1


# -- whole runs -------------------------------------------------------------------------------


def note(x: tuple[int, str]) -> int:
    index, folder = x
    with open(os.path.join(folder, f"{index}"), "a") as file:
        file.write("x")
    return index


def small(x: int) -> int:
    return abs(x) + 1


def waits(x: int) -> int:
    time.sleep(0.02)
    return x


def fails_early(x: int) -> int:
    if x < 3:
        raise ValueError(f"no {x}")
    return x


async def later(x: int) -> int:
    await asyncio.sleep(0)
    return x


@pytest.mark.parametrize("fn", [square, small, abs])
def test_whatever_is_chosen_every_value_comes_in_order(fn: Any) -> None:
    run = piecework.map(fn, range(5000))
    assert list(run) == [fn(x) for x in range(5000)]
    assert run.why.startswith("auto")
    assert run.summary.ok


def test_nothing_runs_twice(tmp_path: Any) -> None:
    inputs = [(i, str(tmp_path)) for i in range(300)]
    run = piecework.map(note, inputs)
    assert list(run) == [*range(300)]
    assert run.summary.executions == 300
    assert Counter(file.read_text() for file in tmp_path.iterdir()) == {"x": 300}


def test_tasks_that_wait_run_in_threads() -> None:
    run = piecework.map(waits, range(200))
    assert list(run) == [*range(200)]
    assert "auto chose threads" in run.why
    assert "waiting" in run.why
    assert run.why in str(run.summary)


def test_coroutine_functions_run_on_event_loops() -> None:
    run = piecework.map(later, range(100))
    assert list(run) == [*range(100)]
    assert run.why == "auto chose coroutines: the function is one"


def test_first_tasks_that_fail_are_failures_like_others() -> None:
    summary = piecework.map(fails_early, range(500)).wait()
    assert (summary.done, summary.failed) == (497, 3)


def test_a_first_task_that_kills_its_worker_costs_one_task() -> None:
    def kills(x: int) -> int:
        if x == 0:
            os.kill(os.getpid(), 9)
        return abs(x)

    summary = piecework.map(kills, range(500)).wait()
    assert (summary.done, summary.failed, summary.losses) == (499, 1, 1)


def test_tasks_that_become_long_leave_the_caller() -> None:
    def drifts(x: int) -> tuple[int, int]:
        if x > 200_000:
            time.sleep(0.002)
        return x, os.getpid()

    run = piecework.map(drifts, range(200_500))
    values = list(run)
    assert [x for x, _ in values] == [*range(200_500)]
    if "inline" in run.why:  # a busy machine may have chosen processes at once
        pytest.fail(f"still {run.why}")


def test_an_awaited_run_may_choose_the_caller() -> None:
    async def main() -> list[int]:
        return [value async for value in piecework.map(small, (x for x in range(3000)))]

    assert asyncio.run(main()) == [x + 1 for x in range(3000)]


def test_a_run_that_is_dropped_while_it_measures_leaves_nothing() -> None:
    gate = threading.Event()
    before = threading.active_count()
    run = piecework.map(waits, range(10))
    del run
    for _ in range(200):
        if threading.active_count() <= before:
            break
        gate.wait(0.05)
    assert threading.active_count() <= before


def _large(seconds: float) -> bytes:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return bytes(1 << 20)


def test_what_was_measured_beside_a_value_never_reaches_the_reader() -> None:
    kinds = {type(value) for value in piecework.map(_large, [0.06] * 14)}
    assert kinds == {bytes}
