"""The plan of an ending: in order, each step once, and never later than the grace allows."""

from __future__ import annotations

import signal

from hypothesis import given
from hypothesis import strategies as st

from piecework.cli.ending import (
    EXIT,
    EXIT_SECONDS,
    KILL,
    KILL_SECONDS,
    LEAVE,
    LOST_SECONDS,
    STOP,
    Ending,
)


def test_the_first_signal_stops_and_the_grace_ends_in_kill() -> None:
    ending = Ending(grace=10)
    assert ending.next() is None
    ending.signalled(signal.SIGTERM, 100)
    assert ending.due(100) == [STOP]
    assert ending.due(109) == []
    assert ending.next() == 110
    assert ending.due(110) == [KILL]
    assert ending.due(110 + KILL_SECONDS) == [LEAVE]
    assert ending.due(110 + KILL_SECONDS + EXIT_SECONDS) == [EXIT]
    assert ending.next() is None
    assert ending.code == 143


def test_the_second_signal_is_now_and_the_first_names_the_code() -> None:
    ending = Ending(grace=10)
    ending.signalled(signal.SIGINT, 100)
    ending.due(100)
    ending.signalled(signal.SIGTERM, 101)
    assert ending.due(101) == [KILL, LEAVE]
    assert ending.next() == 101 + EXIT_SECONDS
    assert ending.code == 130


def test_a_lost_reader_ends_what_runs() -> None:
    ending = Ending()
    ending.lost(5)
    assert ending.due(5) == [KILL]
    assert ending.due(5 + LOST_SECONDS) == [LEAVE]
    assert ending.code == 141


def test_the_deadline_leaves_threads_behind_after_the_grace() -> None:
    ending = Ending(grace=2, deadline=50)
    assert ending.next() == 52
    assert ending.code == 0
    assert ending.due(52) == [LEAVE]
    assert ending.code == 124


def test_a_run_that_ended_by_itself_has_no_plan() -> None:
    ending = Ending(deadline=50)
    ending.over()
    assert ending.next() is None
    assert ending.code == 0


def test_one_that_was_told_to_end_may_not_hang_in_its_closing() -> None:
    ending = Ending(grace=1)
    ending.signalled(signal.SIGINT, 0)
    ending.due(0)
    ending.over()
    assert ending.next() == 1 + KILL_SECONDS + EXIT_SECONDS
    assert ending.due(100) == [EXIT]


@given(
    st.lists(st.tuples(st.sampled_from(["INT", "TERM", "lost", "wait"]), st.floats(0, 20))),
    st.floats(0, 30),
    st.none() | st.floats(0, 50),
)
def test_whatever_happens_the_steps_come_once_and_the_end_is_near(
    events: list[tuple[str, float]], grace: float, deadline: float | None
) -> None:
    ending, now, steps = Ending(grace, deadline), 0.0, list[str]()
    latest = None if deadline is None else deadline + grace + EXIT_SECONDS
    for what, seconds in events:
        now += seconds
        if what == "lost":
            ending.lost(now)
        elif what != "wait":
            ending.signalled(getattr(signal, f"SIG{what}"), now)
        if what != "wait":
            bound = now + grace + KILL_SECONDS + LOST_SECONDS + EXIT_SECONDS
            latest = bound if latest is None else min(latest, bound)
        steps += ending.due(now)
    due = ending.next()
    if latest is None:
        assert due is None
        assert not steps
        return
    steps += ending.due(max(latest, now) + 0.001)
    assert len(set(steps)) == len(steps)
    assert steps[-1] == EXIT
    assert steps.index(LEAVE) < steps.index(EXIT)
    assert sorted(steps, key=[STOP, KILL, LEAVE, EXIT].index) == steps
