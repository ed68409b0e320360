"""What a death means for the tasks that the worker had."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piecework.executors.deaths import FRUITLESS_DEATHS, START_FAILURES, Deaths, Estate
from piecework.executors.slot import (
    CURRENT,
    DECODING,
    FLUSHING,
    IDLE,
    LOADED,
    LOADING,
    PHASE,
    RUNNING,
    SENDING,
)
from piecework.executors.work import BatchWork, Call, Stretch
from piecework.executors.worker_process import WorkerProcess
from piecework.loop import Loop
from piecework.task import Batch


class Kernel:
    """Counts of processes killed for memory, as the kernel would tell."""

    kills = 0

    def __call__(self) -> int:
        return self.kills


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def deaths(kernel: Kernel) -> Deaths:
    return Deaths(coroutines=False, oom_kills=kernel)


@contextmanager
def dead(slots: int = 1, *, status: int = -9, ready: bool = True) -> Iterator[WorkerProcess]:
    """A worker as it is when its exit status has come."""
    loop = Loop("test")
    worker = WorkerProcess(1, loop, slots)
    worker.watch(lambda line: None)
    worker.pid, worker.ready, worker.exited, worker.status = 4711, ready, True, status
    try:
        yield worker
    finally:
        worker.close()
        loop.close()


def send(worker: WorkerProcess, count: int, line: int = 0, call: Call | None = None) -> BatchWork:
    work = BatchWork(call or Call(b"", limit=5.0), Batch(1, range(count), []), lambda _: None)
    first = worker.lines[line].note(work, 0, count)
    worker.lines[line].frame_ends.append(first + count)
    return work


def was(worker: WorkerProcess, phase: int, current: int, line: int = 0) -> None:
    worker.lines[line].words[PHASE] = phase
    worker.lines[line].words[CURRENT] = current


def at(stretches: list[Stretch]) -> list[int]:
    return [position for s in stretches for position in range(s.start, s.stop)]


def blamed(estate: Estate) -> list[int]:
    return at([stretch for stretch, _ in estate.failed])


def test_the_running_task_is_blamed_and_the_rest_runs_again(deaths: Deaths) -> None:
    with dead() as worker:
        work = send(worker, 10)
        was(worker, RUNNING, 4)
        estate = deaths.settle(worker, stopping=False)
        assert blamed(estate) == [3]
        failure = estate.failed[0][1]
        assert (failure.cause, failure.signal, failure.exitcode) == ("signal", 9, None)
        assert "SIGKILL" in failure.message
        assert sorted(at(estate.again)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert estate.suspects == []
        assert work.repeats == 3  # had finished, and their results were lost
        assert worker.idle


@pytest.mark.parametrize(
    ("status", "oom", "cause", "number", "code"),
    [
        (-signal.SIGSEGV, 0, "signal", signal.SIGSEGV, None),
        (3, 0, "exit", None, 3),
        (0, 0, "exit", None, 0),
        (-9, 1, "memory", 9, None),
        (-15, 1, "signal", 15, None),
        (137, 1, "memory", None, 137),  # it says that a process of its was killed so
        (137, 0, "exit", None, 137),
    ],
)
def test_the_cause_is_how_the_process_ended(
    deaths: Deaths,
    kernel: Kernel,
    status: int,
    oom: int,
    cause: str,
    number: int | None,
    code: int | None,
) -> None:
    kernel.kills = oom
    with dead(status=status) as worker:
        send(worker, 1)
        was(worker, RUNNING, 1)
        [(_, failure)] = deaths.settle(worker, stopping=False).failed
        assert (failure.cause, failure.signal, failure.exitcode) == (cause, number, code)
        assert failure.lost


def test_one_kill_for_memory_explains_one_death(deaths: Deaths, kernel: Kernel) -> None:
    kernel.kills = 1
    causes = []
    for _ in range(2):
        with dead() as worker:
            send(worker, 1)
            was(worker, RUNNING, 1)
            causes.append(deaths.settle(worker, stopping=False).failed[0][1].cause)
    assert causes == ["memory", "signal"]


def test_two_kills_for_memory_explain_two_deaths(deaths: Deaths, kernel: Kernel) -> None:
    kernel.kills = 2
    causes = []
    for status in (-9, 1, -9, -9):
        with dead(status=status) as worker:
            send(worker, 1)
            was(worker, RUNNING, 1)
            causes.append(deaths.settle(worker, stopping=False).failed[0][1].cause)
    assert causes == ["memory", "exit", "memory", "signal"]


def test_who_passed_the_memory_limit_is_blamed_with_what_it_held(deaths: Deaths) -> None:
    with dead() as worker:
        work = send(worker, 10)
        was(worker, RUNNING, 4)
        worker.doomed, worker.over_memory = "memory", (3_000_000_000, 2_000_000_000)
        estate = deaths.settle(worker, stopping=False)
        [(stretch, failure)] = estate.failed
        assert (stretch.start, failure.cause, failure.peak_memory) == (3, "memory", 3_000_000_000)
        assert "held 3 GB" in failure.message
        assert "max_memory is 2 GB" in failure.message
        assert len(at(estate.again)) == 9
        assert work.repeats == 3


def test_of_several_who_share_a_memory_each_runs_alone(deaths: Deaths) -> None:
    with dead(slots=2) as worker:
        send(worker, 3, 0)
        send(worker, 3, 1)
        was(worker, RUNNING, 2, 0)
        was(worker, RUNNING, 1, 1)
        worker.doomed, worker.over_memory = "memory", (3_000_000_000, 2_000_000_000)
        estate = deaths.settle(worker, stopping=False)
        assert estate.failed == []
        assert sorted(at(estate.suspects)) == [0, 1]


def test_nobody_is_blamed_for_memory_once_all_had_finished(deaths: Deaths) -> None:
    for _ in range(3):
        with dead() as worker:
            send(worker, 3, call=(call := Call(b"")))
            worker.lines[0].words[LOADED] = call.id
            was(worker, LOADING, 0)
            worker.doomed, worker.over_memory = "memory", (3, 2)
            estate = deaths.settle(worker, stopping=False)
            assert (estate.failed, estate.guilty_call, estate.broken) == ([], None, None)
            assert at(estate.again) == [0, 1, 2]


def test_several_suspects_run_again_one_by_one(deaths: Deaths) -> None:
    with dead() as worker:
        work = send(worker, 6)
        was(worker, SENDING, 3)
        estate = deaths.settle(worker, stopping=False)
        assert estate.failed == []
        assert [(s.start, s.stop) for s in estate.suspects] == [(0, 1), (1, 2), (2, 3)]
        assert at(estate.again) == [3, 4, 5]
        assert work.repeats == 3


def test_tasks_that_never_began_are_no_repeats(deaths: Deaths) -> None:
    with dead() as worker:
        work = send(worker, 4)
        was(worker, DECODING, 1)
        estate = deaths.settle(worker, stopping=False)
        assert len(estate.suspects) == 4
        assert work.repeats == 0


def test_a_result_sent_beside_a_running_task_is_suspected_too(deaths: Deaths) -> None:
    with dead() as worker:
        send(worker, 5)
        was(worker, RUNNING, 3)
        worker.lines[0].words[FLUSHING] = 1
        estate = deaths.settle(worker, stopping=False)
        assert estate.failed == []
        assert at(estate.suspects) == [0, 1, 2]


def test_two_slots_at_work_are_two_suspects(deaths: Deaths) -> None:
    with dead(slots=3) as worker:
        works = [send(worker, 2, line) for line in range(3)]
        was(worker, RUNNING, 1, 0)
        was(worker, RUNNING, 2, 1)
        was(worker, IDLE, 0, 2)
        estate = deaths.settle(worker, stopping=False)
        assert estate.failed == []
        assert [(s.work, s.start) for s in estate.suspects] == [(works[0], 0), (works[1], 1)]
        assert len(at(estate.again)) == 4


def test_nobody_is_blamed_for_a_worker_that_died_idle(deaths: Deaths) -> None:
    with dead() as worker:
        send(worker, 3)
        estate = deaths.settle(worker, stopping=False)
        assert (estate.failed, estate.suspects) == ([], [])
        assert at(estate.again) == [0, 1, 2]


def test_a_function_that_kills_whoever_loads_it_is_guilty_the_second_time(deaths: Deaths) -> None:
    call = Call(b"")
    for guilty in (None, call.id):
        with dead() as worker:
            send(worker, 3, call=call)
            worker.lines[0].words[LOADED] = call.id
            was(worker, LOADING, 0)
            estate = deaths.settle(worker, stopping=False)
            assert (estate.guilty_call and estate.guilty_call[0]) == guilty
            assert at(estate.again) == [0, 1, 2]


# -- ended by us ------------------------------------------------------------------------------


def test_the_task_that_passed_its_limit_fails_and_its_neighbours_run_again(deaths: Deaths) -> None:
    with dead(slots=2) as worker:
        work, beside = send(worker, 4, 0), send(worker, 4, 1)
        was(worker, RUNNING, 2, 0)
        was(worker, RUNNING, 3, 1)
        worker.doomed, worker.timed_out, worker.stacks = "timeout", (0, 2), "Stack of it"
        estate = deaths.settle(worker, stopping=False)
        [(stretch, failure)] = estate.failed
        assert (stretch.work, stretch.start) == (work, 1)
        assert failure.cause == "timeout"
        assert "5 s" in failure.message
        assert "Stack of it" in failure.traceback
        assert estate.suspects == []
        assert len(at(estate.again)) == 7
        assert work.repeats == 1  # position 0 had finished
        assert beside.repeats == 3  # two had finished, the third was at work


def test_a_task_that_finished_in_the_last_moment_is_not_failed(deaths: Deaths) -> None:
    with dead() as worker:
        send(worker, 4)
        worker.lines[0].settle(2)
        was(worker, RUNNING, 3)
        worker.doomed, worker.timed_out = "timeout", (0, 2)
        estate = deaths.settle(worker, stopping=False)
        assert (estate.failed, estate.suspects) == ([], [])
        assert at(estate.again) == [2, 3]


def test_a_frame_that_hangs_while_it_is_decoded_is_tried_one_by_one(deaths: Deaths) -> None:
    with dead() as worker:
        send(worker, 3)
        send(worker, 2)
        was(worker, DECODING, 1)
        worker.doomed, worker.timed_out = "timeout", (0, 1)
        estate = deaths.settle(worker, stopping=False)
        assert estate.failed == []
        assert at(estate.suspects) == [0, 1, 2]
        assert at(estate.again) == [0, 1]


def test_a_cancelled_call_ends_its_own_tasks_and_not_its_neighbours(deaths: Deaths) -> None:
    given_up, other = Call(b""), Call(b"")
    given_up.cancelled = True
    with dead(slots=2) as worker:
        send(worker, 2, 0, given_up)
        beside = send(worker, 2, 1, other)
        was(worker, RUNNING, 1, 0)
        was(worker, RUNNING, 1, 1)
        worker.doomed = "cancelled"
        estate = deaths.settle(worker, stopping=False)
        [(stretch, failure)] = estate.failed
        assert (stretch.work.call, stretch.start, failure.cause) == (given_up, 0, "cancelled")
        assert sorted(at([s for s in estate.again if s.work is beside])) == [0, 1]
        assert beside.repeats == 1


def test_on_request_what_runs_is_lost_and_what_waits_is_cancelled(deaths: Deaths) -> None:
    with dead(status=-15) as worker:
        send(worker, 3)
        was(worker, RUNNING, 1)
        worker.doomed = "terminated"
        estate = deaths.settle(worker, stopping=True)
        causes = {position: f.cause for s, f in estate.failed for position in at([s])}
        assert causes == {0: "signal", 1: "cancelled", 2: "cancelled"}
        assert (estate.again, estate.suspects) == ([], [])


def test_a_worker_that_was_disowned_blames_nobody(deaths: Deaths) -> None:
    with dead(status=-9) as worker:
        send(worker, 3)
        was(worker, RUNNING, 1)
        worker.doomed = "disowned"
        estate = deaths.settle(worker, stopping=False)
        assert (estate.failed, estate.suspects) == ([], [])
        assert sorted(at(estate.again)) == [0, 1, 2]


# -- without end ------------------------------------------------------------------------------


def one_death(deaths: Deaths, *, ready: bool = True, **changes: Any) -> Estate:
    with dead(ready=ready, status=1) as worker:
        for name, value in changes.items():
            setattr(worker, name, value)
        send(worker, 2)
        return deaths.settle(worker, stopping=False)


def test_workers_that_never_get_ready_break_the_executor(deaths: Deaths) -> None:
    estates = [one_death(deaths, ready=False) for _ in range(START_FAILURES)]
    assert [estate.broken is not None for estate in estates] == [False] * (START_FAILURES - 1) + [
        True
    ]
    broken = estates[-1].broken
    assert broken is not None
    assert "no worker process can be started" in broken.message
    assert "exit code 1" in broken.message


def test_one_that_gets_ready_begins_the_count_anew(deaths: Deaths) -> None:
    for _ in range(3 * START_FAILURES):
        assert one_death(deaths, ready=False).broken is None
        deaths.worker_ready()


def test_deaths_without_blame_or_result_end_at_last(deaths: Deaths) -> None:
    estates = [one_death(deaths) for _ in range(FRUITLESS_DEATHS)]
    assert [estate.broken is not None for estate in estates].index(True) == FRUITLESS_DEATHS - 1


def test_a_result_between_deaths_begins_the_count_anew(deaths: Deaths) -> None:
    for _ in range(3 * FRUITLESS_DEATHS):
        assert one_death(deaths).broken is None
        deaths.result_came()


@pytest.mark.parametrize("told", [{"stopped": True}, {"doomed": "disowned"}])
def test_workers_that_went_because_they_were_told_to_are_no_deaths(
    deaths: Deaths, told: dict[str, Any]
) -> None:
    for _ in range(3 * FRUITLESS_DEATHS):
        assert one_death(deaths, **told).broken is None


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),  # tasks in a first frame, and in a second
            st.integers(0, 6),
            st.integers(0, 5),  # phase
            st.integers(0, 14),  # current
            st.integers(0, 1),  # flushing
            st.integers(0, 12),  # settled
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["", "timeout", "memory", "cancelled", "terminated", "disowned"]),
    st.tuples(st.integers(0, 2), st.integers(1, 12)),
    st.booleans(),
    st.booleans(),
)
def test_whatever_it_died_of_every_task_goes_one_way_and_one_only(
    lines: list[tuple[int, int, int, int, int, int]],
    doomed: str,
    timed_out: tuple[int, int],
    coroutines: bool,
    cancelled: bool,
) -> None:
    deaths = Deaths(coroutines=coroutines, oom_kills=lambda: 0)
    with dead(slots=len(lines)) as worker:
        expected = set()
        for index, (first, second, phase, current, flushing, settled) in enumerate(lines):
            line = worker.lines[index]
            works = [send(worker, count, index) for count in (first, second) if count]
            for work in works:
                work.call.cancelled = cancelled
            line.settle(min(settled, first + second))
            line.words[PHASE], line.words[CURRENT] = phase, current
            line.words[FLUSHING] = flushing
            expected |= {
                (id(sent.work), sent.start + n) for sent in line.sent for n in range(sent.count)
            }
        worker.doomed = doomed
        worker.timed_out = (timed_out[0] % len(lines), timed_out[1])
        estate = deaths.settle(worker, stopping=False)
        ways = [stretch for stretch, _ in estate.failed] + estate.suspects + estate.again
        gone = [(id(s.work), position) for s in ways for position in range(s.start, s.stop)]
        assert sorted(gone) == sorted(expected)
        assert worker.idle
        if doomed in ("", "memory"):
            assert len(blamed(estate)) <= 1
            assert not (estate.failed and estate.suspects)
        for stretch in ways:
            assert isinstance(stretch.work, BatchWork)
            assert 0 <= stretch.work.repeats <= len(stretch.work.batch)
