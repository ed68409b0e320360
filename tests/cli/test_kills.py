"""`piecework map` killed at any instant and resumed: every input one line, in the file, whole.

PIECEWORK_FAULT_KILLS=50 kills more often than the test does by itself.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, TASKS, piecework

KILLS = int(os.environ.get("PIECEWORK_FAULT_KILLS", "6"))
INPUTS = 4000 * KILLS


def killed(words: list[str], environment: dict[str, str]) -> bool:
    """Start the command and kill it at a random instant; False where it had ended before."""
    process = subprocess.Popen(
        [*COMMAND, *words], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, err = process.communicate(timeout=random.uniform(0.15, 0.7))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0, err.decode()
    return False


@pytest.mark.parametrize("order", [[], ["-k"]], ids=["as they come", "in order"])
def test_killed_at_any_instant_and_resumed_every_input_has_one_whole_line(
    tmp_path: Path, order: list[str]
) -> None:
    given, out, log = tmp_path / "in", tmp_path / "out.jsonl", tmp_path / "log"
    given.write_text("".join(f"input {n}\n" for n in range(INPUTS)))
    environment = {**ENVIRONMENT, "EXECUTIONS": str(log)}
    name = tmp_path.name
    words = ["map", f"{TASKS}:note", "-a", str(given), "-o", str(out), "--name", name, "-j", "2"]
    words += [*order, "--progress", "off", "--resume"]
    kills = sum(killed(words, environment) for _ in range(KILLS))
    done = piecework("resume", name, EXECUTIONS=str(log))
    assert done.code == 0, done.err
    lines = out.read_bytes().split(b"\n")
    assert lines.pop() == b""
    rows = [json.loads(line) for line in lines]
    assert Counter(row["index"] for row in rows) == Counter(range(INPUTS))
    assert all(row["input"] == f"input {row['index']}" and row["ok"] for row in rows)
    if order:
        assert [row["index"] for row in rows] == list(range(INPUTS))
    told = json.loads(piecework("show", name, "--json").out)
    assert (told["state"], told["done"], told["open"]) == ("done", INPUTS, 0)
    assert sum(session["why"] == "killed" for session in told["sessions"]) <= kills
    twice = len(log.read_text().splitlines()) - INPUTS
    assert 0 <= twice <= told["in_flight_at_kills"]


def test_commands_killed_at_any_instant_and_resumed_have_one_whole_line_each(
    tmp_path: Path,
) -> None:
    count, name = 300 * KILLS, tmp_path.name
    given, out, log = tmp_path / "in", tmp_path / "out.jsonl", tmp_path / "log"
    given.write_text("".join(f"input-{n}\n" for n in range(count)))
    words = ["exec", "-a", str(given), "-o", str(out), "--name", name, "-j", "2", "--resume"]
    words += ["--progress", "off", "sh", "-c", f'echo "$0" >> {log}; echo "of $0"', "{}"]
    kills = sum(killed(words, ENVIRONMENT) for _ in range(KILLS))
    done = piecework("resume", name)
    assert done.code == 0, done.err
    lines = out.read_bytes().split(b"\n")
    assert lines.pop() == b""
    rows = [json.loads(line) for line in lines]
    assert Counter(row["index"] for row in rows) == Counter(range(count))
    for row in rows:
        assert row["input"] == f"input-{row['index']}"
        assert row["value"]["stdout"] == f"of {row['input']}\n"
    told = json.loads(piecework("show", name, "--json").out)
    assert (told["state"], told["done"], told["open"]) == ("done", count, 0)
    assert sum(session["why"] == "killed" for session in told["sessions"]) <= kills
    twice = len(log.read_text().splitlines()) - count
    assert 0 <= twice <= told["in_flight_at_kills"]
