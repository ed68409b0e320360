"""`piecework map` killed at any instant and resumed: every input one line, in the file, whole.

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

from tests.cli.command import COMMAND, ENVIRONMENT, TASKS, piecework

KILLS = int(os.environ.get("PIECEWORK_FAULT_KILLS", "6"))
INPUTS = 20_000


@pytest.mark.parametrize("order", [[], ["-k"]], ids=["as they come", "in order"])
def test_killed_at_any_instant_and_resumed_every_input_has_one_whole_line(
    tmp_path: Path, order: list[str]
) -> None:
    given, out, log = tmp_path / "in", tmp_path / "out.jsonl", tmp_path / "log"
    given.write_text("".join(f"input {n}\n" for n in range(INPUTS)))
    name = f"killed-{os.getpid()}{len(order)}"
    environment = {**ENVIRONMENT, "EXECUTIONS": str(log)}
    begin = ["map", f"{TASKS}:note", "-a", str(given), "-o", str(out), "--name", name, "-j", "2"]
    words = [*begin, *order, "--progress", "off"]
    seconds = 0.9
    for kill in range(KILLS):
        process = subprocess.Popen(
            [*COMMAND, *words], env=environment, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            _, err = process.communicate(timeout=random.uniform(0.2, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            assert process.returncode == 0, err.decode()
            break
        if f"{name}.journal" in os.listdir(
            Path(ENVIRONMENT["XDG_STATE_HOME"], "piecework", "runs")
        ):
            words = [*begin, *order, "--progress", "off", "--resume"]
    done = piecework("resume", name, EXECUTIONS=str(log))
    assert done.code == 0, done.err
    lines = out.read_bytes().split(b"\n")
    assert lines.pop() == b""
    rows = [json.loads(line) for line in lines]
    assert Counter(row["index"] for row in rows) == Counter(range(INPUTS))
    assert all(row["input"] == f"input {row['index']}" and row["ok"] for row in rows)
    if order:
        assert [row["index"] for row in rows] == list(range(INPUTS))
    executed = len(log.read_text().splitlines())
    told = json.loads(piecework("show", name, "--json").out)
    assert told["done"] == INPUTS
    assert executed >= INPUTS
