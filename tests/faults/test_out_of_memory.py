"""The kernel kills for want of memory: told from other deaths by its counters, with the peak."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from piecework.executors import cgroup
from tests.executors.gate import PATIENCE
from tests.executors.processes import environment, start

LIMIT = 300 << 20
SCRIPT = """
import json, sys
with open(sys.argv[1], "w") as file:
    file.write("0")
import piecework
from tests.executors.memory_tasks import square

run = piecework.map(square, range(60), on="processes", workers=2)
results = list(run.results(ordered=True))
[bad] = [result for result in results if not result.ok]
failure = bad.failure
print(json.dumps({
    "good": sum(result.ok for result in results),
    "bad": bad.input, "cause": failure.cause, "signal": failure.signal, "attempt": bad.attempt,
    "peak": failure.peak_memory, "message": failure.message,
    "quarantined": run.summary.quarantined,
}))
"""


def groups() -> Iterator[tuple[Path, str]]:
    """Where a group could be made below our own, and the name of its limit, by version."""
    found = cgroup._folders(cgroup.read_file, "memory")
    if found:
        yield Path(found[0]), "memory.limit_in_bytes"
    for folder in cgroup._folders(cgroup.read_file, "")[1:]:  # not ours: processes are in it
        yield Path(folder), "memory.max"


@pytest.fixture
def limited() -> Iterator[Path]:
    """A control group with little memory and no swap."""
    for parent, name in groups():
        group = parent / f"piecework-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(LIMIT))
            if (group / "memory.swap.max").exists():
                (group / "memory.swap.max").write_text("0")
        except OSError:
            group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no memory control group may be made here: run as root, or in a delegated one")


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_task_that_the_kernel_kills_for_memory_is_blamed_with_its_peak(limited: Path) -> None:
    environ = environment()
    with start(SCRIPT, environ, str(limited / "cgroup.procs")) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["message"].startswith("the worker was killed by SIGKILL because memory ran out")
    assert "peak memory" in told["message"]
    assert (told["good"], told["bad"], told["quarantined"]) == (59, 13, 1)
    assert (told["cause"], told["signal"], told["attempt"]) == ("memory", 9, 2)
    assert LIMIT / 2 < told["peak"] <= LIMIT * 1.2
