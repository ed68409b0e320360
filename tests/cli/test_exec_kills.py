"""`piecework exec` killed at any instant: no command survives, no line is lost or doubled.

PIECEWORK_FAULT_KILLS=50 kills more often than the test does by itself.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, piecework

KILLS = int(os.environ.get("PIECEWORK_FAULT_KILLS", "5"))
INPUTS = 150 * KILLS


def test_a_killed_run_leaves_no_command(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # each holds the fifo open to write, in a process group of its own, through a grandchild
    script = f"sleep 600 > {fifo} & echo started > {fifo}; wait $!"
    process = subprocess.Popen(
        [*COMMAND, "exec", "-j2", "-n0", "--shell", script, ":::", "a", "b"],
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    with open(fifo, "rb") as held:
        assert held.readline() == b"started\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        held.read()  # ends when nobody holds it any more


@pytest.mark.parametrize("order", [[], ["-k"]], ids=["as they come", "in order"])
def test_killed_and_resumed_every_input_has_one_whole_line(
    tmp_path: Path, order: list[str]
) -> None:
    given, out, log = tmp_path / "in", tmp_path / "out.jsonl", tmp_path / "log"
    given.write_text("".join(f"input {n}\n" for n in range(INPUTS)))
    script = f'echo "$1" >> {log}; echo "$1"'
    words = ["exec", "-a", str(given), "-o", str(out), "--name", tmp_path.name, "-j2", *order]
    words += ["--progress", "off", "--resume", "sh", "-c", script, "x"]
    kills = 0
    for _ in range(KILLS):
        process = subprocess.Popen([*COMMAND, *words], env=ENVIRONMENT, stderr=subprocess.PIPE)
        try:
            _, err = process.communicate(timeout=random.uniform(0.1, 0.8))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        else:
            assert process.returncode == 0, err.decode()
    done = piecework("resume", tmp_path.name)
    assert done.code == 0, done.err
    lines = out.read_bytes().split(b"\n")
    assert lines.pop() == b""
    rows = [json.loads(line) for line in lines]
    assert Counter(row["index"] for row in rows) == Counter(range(INPUTS))
    for row in rows:
        assert row["input"] == f"input {row['index']}"
        assert row["value"]["stdout"] == row["input"] + "\n"
    if order:
        assert [row["index"] for row in rows] == list(range(INPUTS))
    told = json.loads(piecework("show", tmp_path.name, "--json").out)
    assert (told["state"], told["done"], told["open"]) == ("done", INPUTS, 0)
    twice = len(log.read_text().splitlines()) - INPUTS
    assert 0 <= twice <= told["in_flight_at_kills"]


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    mark, log = tmp_path / "mark", tmp_path / "log"
    script = f'echo "$1" >> {log}; test "$1" != b || test -e {mark}'
    words = ["exec", "-k", "sh", "-c", script, "x", ":::", "a", "b", "c"]
    assert piecework(*words).code == 1
    mark.touch()
    again = piecework(words[0], "--resume-failed", *words[1:])
    assert again.code == 0, again.err
    assert sorted(log.read_text().split()) == ["a", "b", "b", "c"]


def test_a_failed_command_is_retried_and_replayed(tmp_path: Path) -> None:
    script = 'cat; echo "out $1"; test "$1" != b || test -e mark'
    words = ["--name", tmp_path.name, "--cwd", str(tmp_path), "sh", "-c", script, "x"]
    first = piecework("exec", *words, ":::", "a", "b")
    assert first.code == 1
    played = piecework("replay", tmp_path.name, "1", stdin="fed\n")
    assert (played.code, played.out) == (1, "fed\nout b\n")
    (tmp_path / "mark").touch()
    retried = piecework("retry", tmp_path.name)
    assert (retried.code, retried.out) == (0, "out b\n"), retried.err
    results = piecework("results", tmp_path.name)
    assert [row["ok"] for row in results.rows] == [True, True]


def test_a_run_from_standard_input_is_given_it_once_more(tmp_path: Path) -> None:
    words = ["exec", "--name", tmp_path.name, "--halt", "1", "-j1", "-k"]
    script = 'echo "$1"; test -e mark || test "$1" != b'
    begun = piecework(*words, "--cwd", str(tmp_path), "sh", "-c", script, "x", stdin="a\nb\nc\n")
    assert begun.code == 3
    (tmp_path / "mark").touch()
    assert "| piecework resume" in piecework("resume", tmp_path.name).err
    again = piecework("resume", tmp_path.name, "--failed", stdin="a\nb\nc\n")
    assert again.code == 0, again.err
    assert again.out.split() == ["b", "c"]  # what was printed is not printed again
