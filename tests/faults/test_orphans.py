"""Whatever ends the master: a second later nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.executors.gate import Gate
from tests.executors.processes import all_gone, environment, kill_marked, marked, start

EXECUTORS = {
    "fork": "ProcessExecutor(2, 'fork')",
    "forkserver": "ProcessExecutor(2, 'forkserver')",
    "spawn": "ProcessExecutor(2, 'spawn')",
    "threads": "ProcessExecutor(2, threads=2)",
    "coroutines": "CoroutineExecutor(4, processes=2)",
}

SCRIPT = """
import sys
from piecework.executors.coroutine import CoroutineExecutor
from piecework.executors.process import ProcessExecutor
from tests.faults import busy
with {executor} as ex:
    for result in ex.map(busy.{task}, [sys.argv[1]] * 2, range(2)):
        pass
"""
MAP_SCRIPT = """
import functools, sys
import piecework
from tests.faults import busy
task = functools.partial(busy.{task}, sys.argv[1])
for value in piecework.map(task, range(2), on="processes", workers=2):
    pass
"""
TASKS = ["hold", "compute", "sleep_in_c", "with_a_child", "ignore_signals"]


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    folder = tmp_path / "tmp"
    folder.mkdir()
    before = set(os.listdir("/dev/shm"))
    made = environment(TMPDIR=str(folder))
    yield made
    kill_marked(made)
    assert os.listdir(folder) == []
    left = {name for name in set(os.listdir("/dev/shm")) - before if "piecework" in name}
    assert left == set()


def _begun(name: str, task: str, gate: Gate, environ: dict[str, str]) -> subprocess.Popen[str]:
    """A master whose two workers have arrived at the gate and now do what they should not."""
    if name == "coroutines":
        task = "coroutine"
    script = SCRIPT.format(executor=EXECUTORS[name], task=task)
    process = start(script, environ, gate.path)
    gate.arrived(2)
    assert len(marked(environ)) >= 3
    return process


def _begun_map(task: str, gate: Gate, environ: dict[str, str]) -> subprocess.Popen[str]:
    process = start(MAP_SCRIPT.format(task=task), environ, gate.path)
    gate.arrived(2)
    return process


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_map_that_is_ended_leaves_no_process(
    number: int, task: str, gate: Gate, environ: dict[str, str]
) -> None:
    process = _begun_map(task, gate, environ)
    os.killpg(process.pid, number)
    left = all_gone(environ, 3 if number == signal.SIGINT else 1)
    _finish(process)
    assert left == []
    assert process.returncode == -number


def _finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=10)
    except BaseException:
        process.kill()
        process.communicate()
        raise


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["fork", "forkserver", "spawn"])
def test_a_killed_master_leaves_no_process(
    name: str, task: str, gate: Gate, environ: dict[str, str]
) -> None:
    process = _begun(name, task, gate, environ)
    process.kill()
    assert all_gone(environ, 1) == []
    _finish(process)


@pytest.mark.parametrize("name", ["threads", "coroutines"])
def test_a_killed_master_of_mixed_workers_leaves_no_process(
    name: str, gate: Gate, environ: dict[str, str]
) -> None:
    process = _begun(name, "hold", gate, environ)
    process.kill()
    assert all_gone(environ, 1) == []
    _finish(process)


@pytest.mark.parametrize("name", EXECUTORS)
def test_one_ctrl_c_ends_everything(name: str, gate: Gate, environ: dict[str, str]) -> None:
    process = _begun(name, "hold", gate, environ)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal sends: to the foreground group
    _, err = _finish(process)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert err.count("Traceback") == 1, err
    assert all_gone(environ, 1) == []


@pytest.mark.parametrize("task", ["compute", "with_a_child", "ignore_signals"])
def test_one_ctrl_c_ends_the_stubborn_too(task: str, gate: Gate, environ: dict[str, str]) -> None:
    process = _begun("forkserver", task, gate, environ)
    os.killpg(process.pid, signal.SIGINT)
    _finish(process)
    assert process.returncode == -signal.SIGINT
    assert all_gone(environ, 1) == []


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_terminated_master_leaves_no_process(
    name: str, gate: Gate, environ: dict[str, str]
) -> None:
    process = _begun(name, "hold", gate, environ)
    process.terminate()
    assert all_gone(environ, 1) == []
    _finish(process)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", EXECUTORS)
def test_a_master_that_ends_while_its_workers_start_leaves_no_process(
    name: str, number: int, gate: Gate, environ: dict[str, str]
) -> None:
    script = SCRIPT.format(executor=EXECUTORS[name], task="hold").replace(
        f"with {EXECUTORS[name]} as ex:", f"print('now', flush=True)\nwith {EXECUTORS[name]} as ex:"
    )
    if name == "coroutines":
        script = script.replace("busy.hold", "busy.coroutine")
    process = start(script, environ, gate.path)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    os.killpg(process.pid, number)
    assert all_gone(environ, 2) == []
    _finish(process)


def test_a_clean_end_leaves_nothing(environ: dict[str, str]) -> None:
    script = "\n".join(
        [
            "from piecework.executors.process import ProcessExecutor",
            "from tests.executors.tasks import square",
            "for method in ('fork', 'forkserver', 'spawn'):",
            "    with ProcessExecutor(2, method) as ex:",
            "        assert len(list(ex.map(bytes, [1 << 20] * 20))) == 20",
        ]
    )
    process: Any = start(script, environ)
    out, err = _finish(process)
    assert (process.returncode, out, err) == (0, "", "")
    assert all_gone(environ, 1) == []
