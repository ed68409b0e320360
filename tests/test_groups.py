"""Failures in groups: equal ones are one line, and what differs is told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from piecework.groups import Failures
from piecework.task import Failure, Result


def grouped(*failed: tuple[Any, str]) -> list[tuple[int, str]]:
    failures = Failures()
    for index, (input, message) in enumerate(failed):
        failures.add(Result(index, input, False, failure=Failure("ValueError", message)))
    return [(group.count, group.message) for group in failures.groups()]


@pytest.mark.parametrize("made", [str, Path])
def test_messages_that_differ_in_their_own_input_are_one_group(made: Any) -> None:
    failed = [(made(f"/data/{n}.txt"), f"no such file: '/data/{n}.txt'") for n in ("abc", "xyz")]
    assert grouped(*failed) == [(2, "no such file: '…'")]


def test_the_file_name_alone_is_enough() -> None:
    failed = [(f"/x/{n}.py", f"invalid syntax ({n}.py, line {len(n)})") for n in ("one", "three")]
    assert grouped(*failed) == [(2, "invalid syntax (…, line 3)")]


def test_one_failure_alone_keeps_its_words() -> None:
    assert grouped(("a.txt", "no file a.txt")) == [(1, "no file a.txt")]


def test_what_says_something_else_is_another_group() -> None:
    assert grouped(("a.txt", "too long"), ("b.txt", "too short")) == [
        (1, "too long"),
        (1, "too short"),
    ]


def test_numbers_make_no_difference() -> None:
    assert grouped((1, "at 0x7f00 after 3 s"), (2, "at 0x8f11 after 14 s"))[0][0] == 2


def test_a_short_number_and_a_long_one_are_one_group() -> None:
    assert grouped(("7", "bad 7"), ("107", "bad 107"), ("17", "bad 17")) == [(3, "bad …")]


def test_a_short_input_folds_nothing() -> None:
    assert grouped(("ab", "table ab"), ("cd", "table cd")) == [(1, "table ab"), (1, "table cd")]
