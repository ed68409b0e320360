"""What tasks print: in whole lines, marked in worker processes, and in their failures. One suite
for every way to run."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest

import piecework
from piecework.executors.overheard import Listener
from tests.executors import printing_tasks as tasks
from tests.executors.printing_tasks import BAD


class Way:
    """A way to run a map."""

    def __init__(self, name: str, processes: bool, coroutines: bool, **options: Any) -> None:
        self.name = name
        self.processes = processes
        self.coroutines = coroutines
        self._options = options

    def map(self, fn: Callable[[int], int], count: int = 6, **more: Any) -> piecework.Run[int]:
        options = dict(self._options)
        make = options.pop("make", None)
        if make is not None:
            options["on"] = make()
        given = tasks.later(fn) if self.coroutines else fn
        return piecework.map(given, range(count), **options, **more)


def _loops() -> piecework.CoroutineExecutor:
    return piecework.CoroutineExecutor(20, processes=2)


WAYS = [
    Way("fork", True, False, on="processes", workers=2, mp_context="fork"),
    Way("forkserver", True, False, on="processes", workers=2, mp_context="forkserver"),
    Way("spawn", True, False, on="processes", workers=2, mp_context="spawn"),
    Way("slots", True, False, on="processes", workers=1, threads=3),
    Way("auto", True, False, on="auto", task_timeout=60),
    Way("loops", True, True, make=_loops),
    Way("threads", False, False, on="threads", workers=3),
    Way("coroutines", False, True, on="coroutines"),
    Way("inline", False, False, on="inline"),
]


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


def _failure(run: piecework.Run[int]) -> piecework.Failure:
    found = [result.failure for result in run.results() if result.index == BAD]
    assert len(found) == 1
    assert found[0] is not None
    return found[0]


def _lines(text: str) -> list[str]:
    """Without their marks."""
    return [re.sub(r"^\[[^|\]]* \| process #?\d+\] ", "", line) for line in text.splitlines()]


def test_a_print_reaches_the_master(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(way.map(tasks.say)) == list(range(6))
    out, err = capsys.readouterr()
    assert sorted(_lines(err if way.processes else out)) == [f"line of {n}" for n in range(6)]
    assert not (out if way.processes else err)


def test_in_processes_every_line_says_whose_it_is(
    way: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    list(way.map(tasks.say))
    if way.processes:
        for line in capsys.readouterr().err.splitlines():
            assert re.fullmatch(r"\[\w+ (\d) \| process #?\d+\] line of \1", line)


def test_what_a_failed_task_printed_is_in_its_failure(
    way: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = _failure(way.map(tasks.say_then_fail))
    assert failure.output == f"out of {BAD}\nerr of {BAD}\n"
    out, err = capsys.readouterr()
    assert len(out.splitlines()) + len(err.splitlines()) == 12


def test_of_much_output_the_last_fifty_lines_are_in_the_failure(way: Way) -> None:
    for result in way.map(tasks.say_much_then_fail).results():
        assert result.failure is not None
        said = "".join(f"{result.index} says {line}\n" for line in range(150, 200))
        assert result.failure.output == said


def test_a_long_line_is_cut_in_the_failure_and_nowhere_else(
    way: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = _failure(way.map(tasks.say_a_long_line))
    assert failure.output.endswith("x [... 98000 characters cut]\n")
    out, err = capsys.readouterr()
    assert _lines(out + err) == ["x" * 100_000] * 6


def test_a_line_without_an_end_is_a_line(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    failure = _failure(way.map(tasks.say_without_an_end))
    assert failure.output == f"begun by {BAD}\n"
    out, err = capsys.readouterr()
    if way.name != "inline":  # there it stays as it was printed: prompts must show
        assert sorted(_lines(out + err)) == [f"begun by {n}" for n in range(6)]


def test_pieces_of_a_line_stay_together(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    list(way.map(tasks.say_in_pieces, 50))
    out, err = capsys.readouterr()
    expected = {"".join(f"{n}-{piece}," for piece in range(20)) for n in range(50)}
    assert set(_lines(out + err)) == expected


def test_bytes_that_are_no_text_are_shown(way: Way, capsysbinary: Any) -> None:
    if not way.processes:
        pytest.skip("in this process the buffer is that of the stream itself")
    failure = _failure(way.map(tasks.write_bytes))
    assert failure.output == "good\n\\xff\\xfe\x00bad\n"


def test_an_exception_shows_the_last_lines(way: Way) -> None:
    if way.name == "inline":
        pytest.skip("there it is the very exception that the task raised")
    with pytest.raises(ValueError, match=str(BAD)) as caught:
        list(way.map(tasks.say_then_fail))
    assert f"it printed:\n    out of {BAD}\n    err of {BAD}" in caught.value.__notes__


def test_log_records_reach_the_loggers_of_the_master(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tests.tasks"):
        failure = _failure(way.map(tasks.log))
    said = [r for r in caplog.records if r.name == "tests.tasks" and r.levelno == logging.INFO]
    assert sorted(r.getMessage() for r in said) == [f"number {n}" for n in range(6)]
    for record in said:
        assert record.task == int(record.getMessage()[-1])  # type: ignore[attr-defined]
        assert record.answer == 42  # type: ignore[attr-defined]
        worker = record.worker  # type: ignore[attr-defined]
        assert worker.startswith("process ") == way.processes
    (error,) = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert error.getMessage() == "it went wrong"
    assert "KeyError: 3" in (error.exc_text or "") or error.exc_info
    assert f"INFO:tests.tasks:number {BAD}\nERROR:tests.tasks:it went wrong\n" in failure.output


def test_what_nobody_would_see_is_not_logged(
    way: Way, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.ERROR, "tests.tasks"):
        failure = _failure(way.map(tasks.log))
    assert not [r for r in caplog.records if r.levelno < logging.ERROR]
    assert "INFO" not in failure.output


def test_what_is_written_past_python_is_heard_in_processes(
    way: Way, capfd: pytest.CaptureFixture[str]
) -> None:
    """By descriptor and by a child: whole lines; where there is one slot they are the task's."""
    failure = _failure(way.map(tasks.write_past_python))
    err = capfd.readouterr().err
    assert len(re.findall(r"from the descriptor \d$", err, re.MULTILINE)) == 6
    if way.name in ("fork", "forkserver", "spawn"):
        said = [f"from a child {BAD}", f"from the descriptor {BAD}"]
        assert sorted(failure.output.splitlines()) == said


def test_nothing_is_left_in_place_of_the_streams(way: Way) -> None:
    before = sys.stdout, sys.stderr, logging.getLogRecordFactory()
    list(way.map(tasks.say))
    with pytest.raises(ValueError, match=str(BAD)):
        list(way.map(tasks.say_then_fail))
    with way.map(tasks.say, 1000) as run:
        next(iter(run))
    assert (sys.stdout, sys.stderr, logging.getLogRecordFactory()) == before


def test_a_run_inside_redirect_stdout_prints_there(way: Way) -> None:
    if way.processes:
        pytest.skip("what comes from processes goes to standard error")
    into = io.StringIO()
    with redirect_stdout(into):
        list(way.map(tasks.say))
    assert sorted(into.getvalue().splitlines()) == [f"line of {n}" for n in range(6)]


def test_a_stream_that_is_replaced_during_a_run_is_left_alone(way: Way) -> None:
    outer, into = sys.stdout, io.StringIO()
    run = way.map(tasks.say, 200)
    next(run)
    with redirect_stdout(into):
        list(run)
        assert sys.stdout is into
        print("of the reader")
    assert "of the reader\n" in into.getvalue()
    print("passes")
    list(way.map(tasks.say))
    assert not isinstance(sys.stdout, Listener) or sys.stdout.stream is outer


def test_quiet_tasks_start_nothing(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(way.map(tasks.quiet)) == list(range(6))
    assert capsys.readouterr() == ("", "")


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def method(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param  # type: ignore[no-any-return]


def test_a_standard_executor_prints_plainly_on_the_same_stream(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with piecework.ProcessExecutor(2, method) as executor:
        errors = [executor.submit(tasks.say_then_fail, n).exception() for n in range(6)]
        assert list(executor.map(tasks.say, range(2))) == [0, 1]
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == ["line of 0", "line of 1"] + [
        f"out of {n}" for n in range(6)
    ]
    assert sorted(err.splitlines()) == [f"err of {n}" for n in range(6)]
    error = errors[BAD]
    assert error is not None
    assert error.__notes__ == [f"it printed:\n    out of {BAD}\n    err of {BAD}"]


def test_more_than_sixty_four_slots_in_a_process() -> None:
    with piecework.ProcessExecutor(1, threads=100) as executor:
        assert list(executor.map(tasks.quiet, range(300))) == list(range(300))
