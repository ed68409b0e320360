"""Whatever ends the master of child commands: a second later nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executors.gate import PATIENCE, Gate
from tests.executors.processes import all_gone, environment, kill_marked, marked, start
from tests.executors.test_command import AT_THE_GATE

SCRIPT = """
import sys
import piecework
command = piecework.command({template!r}, shell=True, append=False)
run = piecework.map(command, range(2), workers=2)
for value in run:
    pass
"""
ARRIVE = f"{sys.executable} -S -E -c '{AT_THE_GATE}' $GATE"
KINDS = {
    "plain": f"exec {ARRIVE}",
    "with a child": f"{ARRIVE} & wait",
    "ignores signals": f"trap '' INT TERM HUP; {ARRIVE}; sleep 1000",
    "left its group": f"setsid {ARRIVE}",
    "left its group and its parent": f"setsid {ARRIVE} & sleep 1000",
    "holds much output": f"head -c 2000000 /dev/zero; {ARRIVE}",
}
RACE = """
import piecework
command = piecework.command("sleep 1000", append=False)
print("begun", flush=True)
for value in piecework.map(command, range(2000), workers=200):
    pass
"""


@pytest.fixture
def environ(tmp_path: Path, gate: Gate) -> Iterator[dict[str, str]]:
    folder = tmp_path / "tmp"
    folder.mkdir()
    made = environment(TMPDIR=str(folder), GATE=gate.path)
    yield made
    kill_marked(made)


def _files_gone(folder: str) -> bool:
    """Wait until nothing is left there: the last that a guard does."""
    until = time.monotonic() + PATIENCE
    while os.listdir(folder) and time.monotonic() < until:
        time.sleep(0.01)  # nobody tells when a folder is removed
    return not os.listdir(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_map_of_commands_that_is_ended_leaves_nothing(
    number: int, kind: str, gate: Gate, environ: dict[str, str]
) -> None:
    process = start(SCRIPT.format(template=KINDS[kind]), environ, gate.path)
    gate.arrived(2)
    os.kill(process.pid, number)
    assert all_gone(environ, 1.0) == []
    process.communicate(timeout=PATIENCE)
    assert _files_gone(environ["TMPDIR"])


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01, 0.03, 0.06])
def test_who_is_just_being_started_is_found(delay: float, environ: dict[str, str]) -> None:
    process = start(RACE, environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(delay)  # the moment of the kill is what varies
    process.kill()
    assert all_gone(environ, 1.0) == []
    process.communicate(timeout=PATIENCE)


def test_a_daemon_outlives_a_run_that_ends_by_itself(gate: Gate, environ: dict[str, str]) -> None:
    script = SCRIPT.format(template=f"setsid {ARRIVE} >/dev/null 2>&1 &") + "print(run.wait().done)"
    process = start(script, environ, gate.path)
    out, err = process.communicate(timeout=PATIENCE)
    assert (out, err) == ("2\n", "")
    pids = [int(name) for name in gate.arrived(2)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


FORKS = """
import os, signal, sys
import piecework
run = piecework.map(piecework.command(sys.argv[1], shell=True, append=False), range(2), workers=2)
sys.stdin.readline()
pid = os.fork()
if not pid:
    signal.pause()
print(pid, flush=True)
run.wait()
"""


def test_a_forked_copy_of_the_master_does_not_keep_them_alive(
    gate: Gate, environ: dict[str, str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKS, KINDS["left its group"]],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    gate.arrived(2)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    copy = int(process.stdout.readline())
    process.kill()
    until = time.monotonic() + 1.0
    while marked(environ) != [copy] and time.monotonic() < until:
        time.sleep(0.01)  # the copy lives on, so there is no single end to wait for
    assert marked(environ) == [copy]
    os.kill(copy, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)


def test_a_guard_that_is_killed_is_replaced(gate: Gate, environ: dict[str, str]) -> None:
    process = start(SCRIPT.format(template=KINDS["left its group"]), environ, gate.path)
    gate.arrived(2)
    found = ["pgrep", "-f", f"piecework-guard.*{environ['TMPDIR']}"]
    first = subprocess.run(found, capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(first[0]), signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        now = subprocess.run(found, capture_output=True, text=True).stdout.split()
        if now and now != first:
            break
    process.kill()
    assert all_gone(environ, 1.0) == []
    process.communicate(timeout=PATIENCE)
