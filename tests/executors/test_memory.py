"""How much memory a process and its children hold, as seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from piecework.executors import memory

MB = 1 << 20
HOLD = "held = bytearray(b'x') * {0}; print('ready', flush=True); input()"
FORK = """
import os, sys
held = bytearray(b"x") * {0}
pid = os.fork()
if pid == 0:
    more = bytearray(b"y") * {1}
    os.write(1, b"%d\\n" % os.getpid())
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
os.waitpid(pid, 0)
"""
MAPPED = """
import mmap
with open({0!r}, "rb") as file:
    seen = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
total = sum(seen[::4096])
print("ready", flush=True)
input()
"""

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux only")


@contextmanager
def running(script: str) -> Iterator[tuple[int, str]]:
    """The script once it has said a line: its process id and the line."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.pid, process.stdout.readline()
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def test_what_a_process_holds_counts() -> None:
    with running(HOLD.format(80 * MB)) as (pid, _):
        for held in (memory.rough([pid]), memory.exact([pid], forked=False)):
            assert 80 * MB <= held < 130 * MB


def test_children_are_of_the_family() -> None:
    with running(FORK.format(0, 30 * MB)) as (pid, line):
        child = int(line)
        assert memory.family(pid) == [pid, child]
        assert memory.family(child) == [child]
        assert memory.exact([pid, child], forked=False) >= 30 * MB


def test_of_a_forked_process_only_what_it_has_written_itself_counts() -> None:
    with running(FORK.format(100 * MB, 10 * MB)) as (pid, line):
        child = int(line)
        assert memory.rough([child]) >= 100 * MB
        assert 10 * MB <= memory.exact([child], forked=True) < 60 * MB
        # Pages that two share count half at each, so once in the family.
        assert memory.exact([pid, child], forked=False) < 150 * MB


def test_a_file_that_is_only_read_is_not_held(tmp_path: object) -> None:
    path = f"{tmp_path}/table"
    with open(path, "wb") as file:
        file.truncate(60 * MB)
    with running(MAPPED.format(path)) as (pid, _):
        assert memory.rough([pid]) < 40 * MB
        assert memory.exact([pid], forked=False) < 40 * MB


def test_what_has_ended_counts_nothing() -> None:
    with running("print('ready', flush=True); input()") as (pid, _):
        pass
    assert memory.rough([pid]) == 0
    assert memory.exact([pid], forked=True) == 0
    assert memory.family(pid) == [pid]


def test_it_can_be_measured_here() -> None:
    assert memory.can_measure()
