"""When a run stops early: the rules as they are written, and when they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import piecework
from piecework.halting import Halt, parse


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        (None, None),
        ("never", None),
        (3, Halt(3)),
        ("5%", Halt(share=0.05)),
        ("soon,fail=3", Halt(3)),
        ("now,fail=1", Halt(1, now=True)),
        ("now,success=1", Halt(1, why="success", now=True)),
        ("soon,done=50%", Halt(share=0.5, why="done")),
    ],
)
def test_a_rule_is_read_as_it_is_written(written: object, rule: Halt | None) -> None:
    assert parse(written) == rule
    if rule is not None and str(rule) != "3":
        assert parse(str(rule)) == rule


@pytest.mark.parametrize(
    "written",
    [0, -1, True, "", "x", "0", "3", "0%", "101%", "now", "now,fail", "late,fail=1", "nan%"],
)
def test_what_is_no_rule_is_refused_with_what_is_one(written: object) -> None:
    with pytest.raises(piecework.UsageError, match=r"now,fail=1"):
        parse(written)


def test_a_share_of_failures_waits_until_it_says_something() -> None:
    rule = Halt(share=0.1)
    assert not rule.reached(1, 0)
    assert not rule.reached(3, 16)
    assert rule.reached(3, 17)


def test_other_shares_are_of_all_there_are() -> None:
    assert Halt(share=0.5, why="done").reached(3, 2, 10)
    assert not Halt(share=0.5, why="success").reached(3, 2, 10)
    assert not Halt(share=0.5, why="done").reached(100, 100, None)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 20))
def test_a_number_is_counted_of_what_it_names(failed: int, done: int, count: int) -> None:
    assert Halt(count).reached(failed, done) == (failed >= count)
    assert Halt(count, why="success").reached(failed, done) == (done >= count)
    assert Halt(count, why="done").reached(failed, done) == (failed + done >= count)


def test_enough_successes_end_a_run_that_would_go_on_for_ever() -> None:
    def endless() -> object:
        while True:
            yield 1

    run = piecework.map(abs, endless(), on="threads", workers=1, halt="soon,success=5")  # type: ignore[arg-type]
    summary = run.wait()
    assert summary.stopped == "halted"
    assert summary.done >= 5


def test_now_ends_what_runs() -> None:
    import time

    def work(n: int) -> int:
        if n == 0:
            raise ValueError(n)
        time.sleep(600)
        return n

    run = piecework.map(work, range(4), on="processes", workers=2, batch_size=1, halt="now,fail=1")
    summary = run.wait()
    assert summary.stopped == "halted"
    assert summary.seconds < 300
    assert summary.failed >= 1
