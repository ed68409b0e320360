"""Whatever is given: a clear message, the right exit code, nothing finished lost."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, TASKS, map_, piecework


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere_at_all:f", 'no module "nowhere_at_all"'),
        (f"{TASKS}:duble", "Did you mean 'double'?"),
        (f"{TASKS}:not_a_function", "cannot be called"),
        ("double", "Write MODULE:FUNC"),
    ],
)
def test_a_function_that_is_not_there_or_not_callable(target: str, said: str) -> None:
    done = piecework("map", target, "a")
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_function_that_cannot_be_pickled_is_refused_before_the_first_task(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("results of an earlier run\n")
    done = map_("unpicklable", "a", "--on", "processes", "-o", str(path))
    assert done.code == 2
    assert "lock" in done.err
    assert path.read_text() == "results of an earlier run\n"


def test_inputs_that_raise_while_being_drawn_name_the_index() -> None:
    done = map_("double", "-a", "/proc/self/mem", "--on", "threads")
    assert done.code == 1
    assert "input 0" in done.err
    assert "0 inputs = 0 done" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-j", "0"], "--jobs"),
        (["-j", "-3"], "--jobs"),
        (["-j", "many"], "--jobs"),
        (["-j", "99999999"], "99999999"),
        (["--threads", "0"], "--threads"),
        (["--on", "fiber"], "Choose one of: threads, processes, coroutines"),
        (["--timeout", "soon"], "Write 30, 1.5s, 10m or 2h"),
        (["--timeout", "1", "--on", "threads"], "processes"),
        (["--halt", "0"], "a share, 5%"),
        (["--retries", "-1"], "--retries"),
        (["--start-method", "magic"], "forkserver"),
        (["--batch-size", "0"], "--batch-size"),
        (["--jbos", "2"], "--jobs"),
        (["-a", "nowhere.txt"], "Give one of them"),
    ],
)
def test_options_out_of_range_are_refused(arguments: list[str], said: str) -> None:
    done = map_("double", "a", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_command_that_is_not_there_gets_a_suggestion() -> None:
    done = piecework("mpa", "x:y")
    assert done.code == 2
    assert "no command \"mpa\". Did you mean 'map'?" in done.err
    assert piecework("zzz").err.startswith('piecework: no command "zzz". Choose one of: exec, map,')
    assert piecework().code == 2


def test_a_file_that_vanished_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("abc")
    done = map_("size", str(tmp_path / "there"), str(tmp_path / "gone"), "-k")
    assert done.rows[0]["value"] == 3
    assert done.rows[1]["failure"]["type"] == "FileNotFoundError"
    assert done.code == 1


def test_names_that_are_not_utf8_are_read_and_written(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(name)).write_text("abc")
    done = map_("size", stdin=name + b"\n")
    assert done.rows[0]["value"] == 3
    assert done.rows[0]["input"].endswith("caf\udce9")


def test_text_that_is_not_utf8_is_the_failure_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "latin"
    path.write_bytes(b"caf\xe9")
    done = map_("size", str(path), PYTHONUTF8="1")
    assert done.rows[0]["failure"]["type"] == "UnicodeDecodeError"


@pytest.mark.parametrize(
    ("place", "said"),
    [("no/where/out.jsonl", "mkdir -p"), (".", "Is a directory"), ("in.txt", "is an input too")],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, place: str, said: str
) -> None:
    given = tmp_path / "in.txt"
    given.write_text("a\n")
    done = map_("double", "-a", str(given), "-o", str(tmp_path / place))
    assert done.code == 2
    assert said in done.err
    assert given.read_text() == "a\n"


def test_a_full_disk_is_told_and_not_swallowed() -> None:
    done = map_("double", "a", "-o", "/dev/full")
    assert done.code == 125
    assert "cannot write /dev/full: No space left on device" in done.err


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 2, "standard output is closed. Give -o FILE."),
        ("<&-", 2, "no inputs"),
        ("2>&-", 0, '"value":"aa"'),
    ],
)
def test_a_closed_standard_stream_is_no_surprise(redirection: str, code: int, said: str) -> None:
    given = "" if redirection == "<&-" else "a"
    command = f"{shlex.join(COMMAND)} map {TASKS}:double {given} --on threads {redirection}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("on", ["threads", "processes"])
def test_a_reader_that_has_seen_enough_ends_the_run_quietly(on: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "map", f"{TASKS}:double", "--on", on],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # nothing of ours is left to be flushed into the closed pipe
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"x\n" * 10)
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    try:
        while True:  # an endless input: only the closed output can end it
            process.stdin.write(b"x\n" * 1000)
    except BrokenPipeError:
        process.stdin.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
