"""Masters that end at any moment, in any way: PIECEWORK_FAULT_ENDINGS of them, 12 by default."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executors.processes import all_gone, environment, kill_marked, start

ENDINGS = int(os.environ.get("PIECEWORK_FAULT_ENDINGS", "12"))

SCRIPT = """
import sys
from piecework.executors.process import ProcessExecutor
from tests.faults import misbehave
print("now", flush=True)
while True:
    with ProcessExecutor(2, sys.argv[1], threads=int(sys.argv[2])) as ex:
        futures = [ex.submit(misbehave.run, "kill", n) for n in range(30)]
        errors = [future.exception() for future in futures]
        assert sum(error is not None for error in errors) == 1, errors
        assert len(list(ex.map(bytes, [1 << 20] * 10))) == 10
"""


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    made = environment(TMPDIR=str(tmp_path))
    shared_memory = set(os.listdir("/dev/shm"))
    yield made
    kill_marked(made)
    assert os.listdir(tmp_path) == []
    assert not {name for name in set(os.listdir("/dev/shm")) - shared_memory if "piece" in name}


@pytest.mark.parametrize("number", range(ENDINGS))
def test_a_master_may_end_at_any_moment(number: int, environ: dict[str, str]) -> None:
    chance = random.Random(number)
    method = ["fork", "forkserver", "spawn"][number % 3]
    how = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM][number // 3 % 3]
    process = start(SCRIPT, environ, method, chance.choice("12"))
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    with pytest.raises(subprocess.TimeoutExpired):  # it goes on until it is ended
        process.wait(chance.uniform(0, 0.4))
    os.killpg(process.pid, how)
    left = all_gone(environ, 2 if how == signal.SIGINT else 1)
    _, err = process.communicate(timeout=10)
    assert left == [], err
    assert process.returncode == -how, err
