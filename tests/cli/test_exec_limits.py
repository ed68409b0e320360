"""When another command may start, how long it may take, and what is noted of it."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import piecework
from piecework.cli.exec import folders
from piecework.cli.exec.joblog import HEADER, Joblog
from piecework.cli.exec.limits import TIMES_MAX, Gate, Reading, Usual
from piecework.cli.exec.pace import Pace, free_memory
from piecework.cli.exec.show import tagged


def test_a_delay_is_kept_between_starts() -> None:
    gate = Gate(delay=2.0)
    assert gate.wait(10.0, None) == 0
    gate.started(10.0)
    assert gate.wait(11.0, None) == 1.0
    assert gate.wait(12.0, None) == 0


def test_nothing_starts_at_that_load_or_with_less_memory() -> None:
    gate = Gate(load=2.0, memory=1000)
    assert gate.wait(0.0, Reading(1.9, 1000)) == 0
    assert gate.wait(0.0, Reading(2.0, 1000)) > 0
    assert "--load 2" in gate.why
    assert gate.wait(0.0, Reading(0.0, 999)) > 0
    assert "--memfree" in gate.why
    assert not gate.too_little(Reading(0.0, 500))
    assert gate.too_little(Reading(0.0, 499))


class Youngest:
    """An executor that is asked for memory."""

    asked = 0

    def give_back_youngest(self) -> None:
        self.asked += 1


def test_the_youngest_goes_where_memory_is_very_short() -> None:
    executor = Youngest()
    Pace(Gate(memory=4 * free_memory() + 4096)).relieve(executor)
    assert executor.asked == 1
    Pace(Gate(memory=1)).relieve(executor)
    assert executor.asked == 1


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=50))
def test_a_limit_goes_by_the_median(times: list[float]) -> None:
    usual = Usual(2.0)
    for n, seconds in enumerate(times):
        assert (usual.limit is None) == (n < 3)
        usual.add(seconds)
    assert usual.limit == pytest.approx(2 * statistics.median_high(times))


def test_the_median_is_one_of_the_last_thousand() -> None:
    usual = Usual(1.0)
    for _ in range(TIMES_MAX):
        usual.add(1.0)
    for _ in range(TIMES_MAX):
        usual.add(5.0)
    assert usual.limit == 5.0


def test_a_job_log_has_nine_columns_and_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for keep in (False, True):
        log = Joblog(str(path), keep=keep)
        log.add(1, 1700000000.5, 0.25, 0, 7, 3, 0, "echo 'a\nb'")
        log.close()
    lines = path.read_bytes().split(b"\n")
    assert lines[0] + b"\n" == HEADER
    assert lines[1] == b"1\t:\t1700000000.500\t     0.250\t0\t7\t3\t0\techo 'a\0b'"
    assert lines[1:] == [lines[1], lines[1], b""]
    Joblog(f"+{path}").close()
    assert path.read_bytes().count(b"\n") == 3
    Joblog(str(path)).close()
    assert path.read_bytes() == HEADER


def test_a_job_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(piecework.UsageError, match="--joblog"):
        Joblog(str(tmp_path / "no" / "log"))


@pytest.mark.parametrize(
    ("columns", "folder"),
    [
        (("a/b",), r"1/a\_b"),
        (("a", "x"), "1/a/2/x"),
        (("",), "1"),
        (("a\\b\tc",), r"1/a\\b\tc"),
        (("..",), r"1/\.."),
    ],
)
def test_a_folder_is_called_as_gnu_parallel_calls_it(columns: tuple[str, ...], folder: str) -> None:
    assert folders.folder_of(columns) == folder


@given(st.text(max_size=400), st.text(max_size=400))
def test_folders_stay_below_theirs_and_apart(one: str, two: str) -> None:
    paths = [folders.folder_of((text,)) for text in (one, two)]
    for path in paths:
        assert not os.path.normpath(path).startswith("..")
        assert path.count("/") <= 1
        assert all(len(os.fsencode(part)) <= 255 for part in path.split("/"))
    assert one == two or paths[0] != paths[1]


@given(st.lists(st.binary(max_size=8)))
def test_each_line_gets_its_tag_wherever_it_is_cut(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    expected = b"\n".join(b"T:" + line for line in lines) + (b"\n" if data.endswith(b"\n") else b"")
    assert b"".join(tagged(chunks, b"T:")) == expected
    assert b"".join(tagged(chunks, b"")) == data
