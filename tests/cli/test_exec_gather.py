"""Several arguments for one command: so many, or as many as fit."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.cli.exec.gather import by_count, by_size

ROWS = st.lists(st.tuples(st.text(st.sampled_from("ab"), max_size=4)), max_size=30)


def cost(row: tuple[str, ...]) -> int:
    return sum(len(column) + 1 for column in row)


@given(ROWS, st.integers(1, 7))
def test_every_command_but_the_last_gets_as_many(rows: list[tuple[str]], count: int) -> None:
    made = list(by_count(rows, count))
    assert [column for group in made for column in group] == [row[0] for row in rows]
    assert all(len(group) == count for group in made[:-1])
    assert all(made)


@given(ROWS, st.integers(1, 30), st.integers(1, 4), st.none() | st.integers(1, 5))
def test_nothing_is_lost_and_nothing_is_too_long(
    rows: list[tuple[str]], limit: int, slots: int, count: int | None
) -> None:
    made = list(by_size(rows, cost, limit, count, slots))
    assert [column for group in made for column in group] == [row[0] for row in rows]
    for group in made:
        assert len(group) == 1 or cost(group) <= limit
        assert count is None or len(group) <= count


def test_what_fits_in_one_is_shared_out() -> None:
    rows = [(str(n),) for n in range(5)]
    assert list(by_size(rows, cost, 100, None, 2)) == [("0", "1", "2"), ("3", "4")]
    assert list(by_size(rows, cost, 100, None, 1)) == [("0", "1", "2", "3", "4")]


@pytest.mark.skipif(shutil.which("xargs") is None, reason="xargs is not here: install findutils")
def test_as_many_as_xargs_takes() -> None:
    numbers = [str(n) for n in range(1, 31)]
    done = subprocess.run(
        ["xargs", "-s", "40", "echo"],
        input="\n".join(numbers),
        capture_output=True,
        text=True,
        check=True,
    )
    made = by_size([(n,) for n in numbers], cost, 40 - len("echo") - 1)
    assert [" ".join(group) for group in made] == done.stdout.splitlines()
