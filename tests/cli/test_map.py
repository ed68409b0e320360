"""`piecework map`: what is written, what is said, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, TASKS, map_, piecework


def test_results_are_json_lines_on_stdout_and_everything_else_is_on_stderr() -> None:
    done = map_("double", "a", "b", "-k")
    assert done.code == 0
    assert done.rows == [
        {"index": 0, "input": "a", "ok": True, "value": "aa"},
        {"index": 1, "input": "b", "ok": True, "value": "bb"},
    ]
    assert done.err.endswith("2 inputs = 2 done + 0 failed + 0 quarantined + 0 cancelled\n")
    assert "\x1b" not in done.err


@pytest.mark.parametrize("on", ["inline", "threads", "processes", "auto"])
def test_lines_of_standard_input_work_everywhere(on: str) -> None:
    done = map_("double", "--on", on, "-k", stdin="1\n2\n3\n")
    assert [row["value"] for row in done.rows] == ["11", "22", "33"]
    assert done.code == 0


@pytest.mark.parametrize("on", ["coroutines", "auto"])
def test_a_coroutine_function_runs_on_an_event_loop(on: str) -> None:
    done = map_("soon", "a", "b", "--on", on, "-k")
    assert [row["value"] for row in done.rows] == ["a", "b"]


def test_a_failure_is_a_line_of_its_own_and_exit_1() -> None:
    done = map_("number", "4", "0", "x", "-k", "--on", "threads")
    assert done.code == 1
    assert [row["ok"] for row in done.rows] == [True, False, False]
    failure = done.rows[1]["failure"]
    assert failure["type"] == "ZeroDivisionError"
    assert failure["cause"] == "exception"
    assert "return 1 / float(value)" in failure["traceback"]
    assert "tasks.py" in failure["where"]
    assert failure["attempt"] == 1
    assert "1 × ZeroDivisionError" in done.err


def test_a_task_that_kills_its_worker_costs_one_input() -> None:
    inputs = "".join(f"{n}\n" for n in range(60))
    done = map_("die", "--on", "processes", stdin=inputs)
    bad = [row for row in done.rows if not row["ok"]]
    assert len(done.rows) == 60
    assert [row["input"] for row in bad] == ["13"]
    assert bad[0]["failure"]["signal"] == 9
    assert done.code == 1


def test_a_value_that_json_cannot_say_is_the_failure_of_its_task() -> None:
    done = map_("odd_type", "good", "bad", "-k", "--on", "threads")
    assert [row["ok"] for row in done.rows] == [True, False]
    assert "type complex cannot be written as JSON" in done.rows[1]["failure"]["message"]
    assert "1 done + 1 failed" in done.err


def test_inputs_may_be_json_and_one_that_is_not_fails_alone() -> None:
    done = map_("number", "--inputs", "json", "-k", "--on", "threads", stdin="4\n{nope\n0.5\n")
    assert [row.get("value") for row in done.rows] == [0.25, None, 2.0]
    assert [row["input"] for row in done.rows] == [4, "{nope", 0.5]
    assert "the input is not JSON" in done.rows[1]["failure"]["message"]


def test_results_go_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("of an earlier run\n" * 100)
    done = map_("double", "a", "-o", str(path))
    assert done.out == ""
    assert [json.loads(line)["value"] for line in path.read_text().splitlines()] == ["aa"]


def test_no_inputs_is_a_run_of_none(tmp_path: Path) -> None:
    done = map_("double", stdin="")
    assert (done.code, done.out) == (0, "")
    assert "0 inputs = 0 done" in done.err


def test_what_a_task_prints_does_not_end_up_between_the_results() -> None:
    done = map_("chatty", "a", "b", "--on", "processes", "-k")
    assert [row["value"] for row in done.rows] == ["a", "b"]


def test_retries_are_counted() -> None:
    done = map_("number", "0", "--retries", "2", "--retry-delay", "1ms", "--on", "threads")
    assert done.rows[0]["failure"]["attempt"] == 3
    assert done.code == 1


def test_a_flag_may_come_from_the_environment() -> None:
    done = map_("double", "a", PIECEWORK_JSON="1", PIECEWORK_PROGRESS="off")
    assert json.loads(done.err)["summary"]["done"] == 1


def test_the_summary_as_json_says_what_the_text_says() -> None:
    done = map_("number", "0", "4", "--json", "--on", "threads")
    summary = json.loads(done.err.splitlines()[-1])["summary"]
    assert (summary["inputs"], summary["done"], summary["failed"]) == (2, 1, 1)
    assert summary["groups"][0]["type"] == "ZeroDivisionError"
    assert summary["ok"] is False


def test_progress_as_json_is_objects_on_stderr(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*COMMAND, "map", f"{TASKS}:hold", str(fifo), "--progress", "json", "--on", "threads"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stderr is not None
    first = json.loads(process.stderr.readline())["progress"]
    fifo.write_text("go")
    process.communicate(timeout=60)
    assert (first["total"], first["done"]) == (1, 0)
    assert process.returncode == 0


def test_halt_ends_the_run_with_3() -> None:
    done = map_("number", "--halt", "2", "--on", "threads", stdin="0\n" * 1000)
    assert done.code == 3
    assert "stopped: " in done.err


def test_a_deadline_ends_the_run_with_124(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = map_("hold", str(fifo), "--deadline", "0.3", "--on", "processes")
    assert done.code == 124


def test_a_task_past_its_time_limit_is_ended_alone(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = map_("hold", "a", str(fifo), "b", "--timeout", "0.5", "--on", "processes", "-k")
    assert [row["ok"] for row in done.rows] == [True, False, True]
    assert done.rows[1]["failure"]["cause"] == "timeout"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_tells_of_every_command(option: str) -> None:
    done = piecework(option)
    assert done.code == 0
    for word in ("map", "extract", "version", "PIECEWORK_JOBS"):
        assert word in done.out


def test_version_names_it() -> None:
    from piecework import __version__

    assert piecework("version").out.startswith(f"piecework {__version__} (CPython 3.")
