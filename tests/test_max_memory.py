"""A limit of memory for each task: who passes it is ended and named, nobody else is harmed."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

import piecework
from piecework.errors import UsageError
from tests.executors import memory_tasks
from tests.executors.gate import PATIENCE
from tests.executors.memory_tasks import BAD, MB
from tests.executors.processes import all_gone, environment, start

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux only")

LIMIT = 150 * MB


def check(run: piecework.Run[Any]) -> piecework.Result:
    """59 good results; the bad one."""
    results = sorted(run.results(), key=lambda result: result.index)
    assert [result.index for result in results] == list(range(60))
    [bad] = [result for result in results if not result.ok]
    assert [r.value for r in results if r.ok] == [n * n for n in range(60) if n != BAD]
    assert bad.input == BAD
    assert bad.failure is not None
    assert bad.failure.cause == "memory"
    assert bad.failure.peak_memory is not None
    assert bad.failure.peak_memory > LIMIT
    assert "max_memory is 157 MB" in bad.failure.message
    assert run.summary.quarantined == 1
    return bad


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("retries", [0, 3])
def test_the_culprit_is_tried_again_alone_then_quarantined(method: str, retries: int) -> None:
    run = piecework.map(
        memory_tasks.square, range(60), on="processes", workers=2, mp_context=method,
        max_memory=LIMIT, retries=retries,
    )  # fmt: skip
    assert check(run).attempt == 2


def test_one_of_several_threads_is_found_by_running_each_alone() -> None:
    check(piecework.map(
        memory_tasks.square, range(60), on="processes", workers=2, threads=3, max_memory=LIMIT
    ))  # fmt: skip


def test_memory_of_a_child_is_the_tasks_own() -> None:
    check(piecework.map(
        memory_tasks.square_in_a_child, range(60), on="processes", workers=2, max_memory=LIMIT
    ))  # fmt: skip


def test_auto_keeps_the_limit() -> None:
    run = piecework.map(memory_tasks.square, range(60), workers=2, max_memory="157286400")
    check(run)
    assert "processes" in run.summary.on


def test_what_tasks_have_left_behind_is_nobodys_fault() -> None:
    run = piecework.map(
        memory_tasks.leave_behind, range(12), on="processes", workers=1, max_memory=LIMIT
    )
    summary = run.wait()
    assert summary.done == 12, summary
    assert summary.repeats + summary.retries > 0  # a worker was ended for it all the same


def test_what_a_forked_worker_has_inherited_is_not_its_own() -> None:
    held = bytearray(b"x") * (2 * LIMIT)
    run = piecework.map(
        memory_tasks.wait_a_little, range(4), on="processes", workers=2, mp_context="fork",
        max_memory=LIMIT,
    )  # fmt: skip
    assert list(run) == [0, 1, 4, 9]
    assert run.summary.losses == 0
    assert held[-1]


@pytest.mark.parametrize("retries", [0, 1])
def test_a_command_is_a_process_of_its_own_and_blamed_at_once(retries: int) -> None:
    code = "import sys; from tests.executors.memory_tasks import square; print(square(int({})))"
    command = piecework.command(
        [sys.executable, "-c", code.replace("{}", "sys.argv[1]"), "{}"], encoding="utf-8"
    )
    run = piecework.map(command, range(10, 16), workers=2, max_memory=LIMIT, retries=retries)
    results = list(run.results(ordered=True))
    [bad] = [result for result in results if not result.ok]
    assert bad.input == BAD
    assert bad.failure is not None
    assert (bad.failure.cause, bad.attempt) == ("memory", 1 + retries)
    assert (bad.failure.peak_memory or 0) > LIMIT
    assert "max_memory is 157 MB" in bad.failure.message
    assert [r.value.stdout for r in results if r.ok] == [
        "100\n",
        "121\n",
        "144\n",
        "196\n",
        "225\n",
    ]
    assert (run.summary.failed, run.summary.losses) == (1, 0)


def test_a_submitted_call_raises_worker_lost() -> None:
    with piecework.ProcessExecutor(1, max_memory="150MB") as executor:
        bad, good = executor.submit(memory_tasks.hoard), executor.submit(abs, -1)
        with pytest.raises(piecework.WorkerLost, match="max_memory is 150 MB") as caught:
            bad.result(PATIENCE)
        assert caught.value.out_of_memory
        assert good.result(PATIENCE) == 1


def test_a_memory_error_is_an_exception_like_any_other() -> None:
    run = piecework.map(
        memory_tasks.ask_for_too_much, range(60), on="processes", workers=2, max_memory=LIMIT
    )
    [bad] = [result for result in run.results() if not result.ok]
    assert bad.failure is not None
    assert (bad.input, bad.failure.cause, bad.failure.type) == (BAD, "exception", "MemoryError")
    assert (bad.attempt, run.summary.losses, run.summary.done) == (1, 0, 59)


def test_nothing_is_left_of_who_was_ended() -> None:
    environ = environment()
    script = (
        "import piecework; from tests.executors.memory_tasks import square_in_a_child\n"
        "run = piecework.map(square_in_a_child, range(12, 15), on='processes', workers=2,"
        " max_memory='150MB')\n"
        "print(run.wait().quarantined)\n"
    )
    with start(script, environ) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert (out, err) == ("1\n", "")
    assert all_gone(environ, 10) == []


async def coroutine(number: int) -> int:
    return number


@pytest.mark.parametrize(
    ("fn", "given", "says"),
    [
        (abs, {"on": "threads"}, 'in threads, which share one memory. Use on="processes"'),
        (abs, {"on": "inline"}, 'in the caller. Use on="processes"'),
        (coroutine, {}, "coroutines share one memory. Make it a plain function"),
        (abs, {"max_memory": "lots"}, "max_memory is 'lots'. Give bytes"),
        (abs, {"max_memory": 2}, "max_memory is 2. Give bytes, at least 1,048,576"),
        (abs, {"max_memory": True}, "max_memory is True"),
        (abs, {"max_memory": 2.5e9}, "max_memory is 2500000000.0"),
    ],
)
def test_where_it_cannot_be_kept_it_is_refused(fn: Any, given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        piecework.map(fn, [1], **{"max_memory": "2GB", **given})


def test_an_executor_that_cannot_keep_it_refuses() -> None:
    with piecework.ThreadExecutor(1) as executor, pytest.raises(UsageError, match="in threads"):
        piecework.map(abs, [1], on=executor, max_memory="2GB")
    with piecework.ProcessExecutor(1) as processes:
        check_same = piecework.map(abs, [-1], on=processes, max_memory="2GB")
        assert list(check_same) == [1]


@pytest.mark.parametrize("bad", ["lots", 5, -1])
def test_an_executor_checks_what_it_is_given(bad: Any) -> None:
    with pytest.raises(UsageError, match="max_memory is"):
        piecework.ProcessExecutor(1, max_memory=bad)
