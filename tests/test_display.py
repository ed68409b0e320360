"""The bar and the lines: what they say, and what goes first where there is no room."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework import Progress, Result
from piecework.display import (
    TOLD_MAX,
    Bar,
    Lines,
    Quiet,
    Watch,
    bar_line,
    failure_line,
    plain_line,
)
from piecework.groups import FIRSTS_MAX
from piecework.screen import Screen
from piecework.task import Failure


def progress(**changes: Any) -> Progress:
    fields: dict[str, Any] = {
        "total": 3000, "done": 1231, "failed": 2, "quarantined": 1, "cancelled": 0,
        "running": 16, "waiting": 4, "retries": 9, "repeats": 0, "groups": (), "seconds": 60.0,
        "rate": 20.5, "eta_low": 61.0, "eta_high": 80.0, "recalled": 500, "busy": 7, "slots": 8,
        "group_count": 2, "firsts": (), "stopped": "",
    }  # fmt: skip
    return Progress(**{**fields, **changes})


def failed(index: int, input: Any = "x", message: str = "no", where: str = "a.py:3") -> Result:
    failure = Failure("ValueError", message, where=where)
    return Result(index, input, False, None, failure)


def test_a_wide_bar_says_everything() -> None:
    assert bar_line(progress(), 200) == (
        "━━━━━━━━━━━━╺───────────────── 1,234 of 3,000 · 3 failed in 2 groups · 20/s"
        " · 61 to 80 s left · 7 of 8 busy · 4 to be tried again · 500 from the journal"
    )


def test_an_encoding_without_the_characters_gets_plain_ones() -> None:
    assert bar_line(progress(), 100, ascii=True).isascii()


@pytest.mark.parametrize("width", [120, 90, 60, 40])
def test_a_narrow_bar_leaves_out_what_is_wanted_least(width: int) -> None:
    line = bar_line(progress(), width, "name")
    assert len(line) < width
    assert "1,234 of 3,000" in line
    assert "3 failed in 2 groups" in line
    assert ("from the journal" in line) <= ("left" in line)


@given(
    st.integers(1, 250),
    st.text(max_size=30),
    st.none() | st.integers(0, 10**12),
    st.integers(0, 10**12),
    st.none() | st.floats(0, 1e9),
)
def test_a_bar_of_any_run_fits_any_width(
    width: int, name: str, total: int | None, done: int, eta: float | None
) -> None:
    shot = progress(total=total, done=done, eta_low=eta, eta_high=eta and eta * 3)
    line = bar_line(shot, width, name)
    assert len(line) < width
    assert "\n" not in plain_line(shot)


def test_nothing_is_said_of_what_is_not_known() -> None:
    unknown = progress(
        total=None, done=5, failed=0, quarantined=0, waiting=0, rate=0.0, eta_low=None,
        eta_high=None, recalled=0, slots=1, busy=1,
    )  # fmt: skip
    assert bar_line(unknown, 100) == "5"


def test_a_run_that_is_told_to_stop_says_so_first() -> None:
    assert "1,234 of 3,000 · stopping ·" in bar_line(progress(stopped="interrupted"), 200)


def test_seldom_tasks_are_counted_by_the_minute() -> None:
    assert "2.5/min" in plain_line(progress(rate=2.5 / 60))


def test_a_failure_says_index_input_type_message_and_where() -> None:
    line = failure_line(failed(17, "x" * 500, "it broke\nand more"))
    assert line.startswith("input 17, 'xxx")
    assert line.endswith("ValueError: it broke  at a.py:3")
    assert len(line) < 150


class Terminal(io.StringIO):
    encoding = "utf-8"


def told(watch: Watch, screen: Terminal, firsts: list[Result]) -> list[str]:
    before = len(screen.getvalue())
    watch.show(progress(firsts=tuple(firsts)))
    return screen.getvalue()[before:].splitlines()


def test_each_kind_of_failure_is_told_once() -> None:
    screen = Terminal()
    watch = Watch(Quiet("name", Screen(screen)))
    first, second = failed(3, message="one"), failed(9, message="two")
    assert told(watch, screen, []) == []
    assert told(watch, screen, [first]) == ["name: input 3, 'x': ValueError: one  at a.py:3"]
    assert told(watch, screen, [first]) == []
    assert told(watch, screen, [first, second]) == [
        "name: input 9, 'x': ValueError: two  at a.py:3"
    ]


def test_an_explosion_of_kinds_ends_in_one_line() -> None:
    screen = Terminal()
    watch = Watch(Quiet("name", Screen(screen)))
    kinds = [failed(n, message=f"kind {n}") for n in range(FIRSTS_MAX)]
    assert FIRSTS_MAX > TOLD_MAX
    assert len(told(watch, screen, kinds[:7])) == 7
    lines = told(watch, screen, kinds)
    assert len(lines) == TOLD_MAX - 7 + 1
    assert "only counted" in lines[-1]
    assert told(watch, screen, kinds) == []


def test_the_last_snapshot_tells_what_was_not_told_yet() -> None:
    screen = Terminal()
    watch = Watch(Bar(screen=Screen(screen)))
    watch.close(progress(firsts=(failed(3),)))
    assert "input 3" in screen.getvalue()


def test_lines_come_less_and_less_often() -> None:
    screen = Terminal()
    lines = Lines(screen=Screen(screen))
    said = []
    for second in range(3600):
        before = len(screen.getvalue())
        lines.show(progress(seconds=float(second)))
        if len(screen.getvalue()) > before:
            said.append(second)
    assert said[:3] == [1, 6, 11]
    assert said[-1] - said[-2] == 60
    assert len(said) < 130
