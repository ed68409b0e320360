"""How many cores may be used, and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

import pytest

from piecework.executors import share
from piecework.executors.cores import cores, counted, part
from tests.executors.processes import environment

TELL = (
    "import json; from piecework.executors.cores import counted;"
    " found = counted(); print(json.dumps([found.number, found.why]))"
)


def told(*, prefix: str = "", flags: tuple[str, ...] = ()) -> tuple[int, str]:
    """What a fresh interpreter counts; `prefix` is run in it first."""
    output = subprocess.run(
        [sys.executable, *flags, "-c", prefix + TELL],
        env=environment(), check=True, capture_output=True, timeout=60,
    ).stdout  # fmt: skip
    number, why = json.loads(output)
    return number, why


def test_at_least_one_and_no_more_than_there_are() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
    assert counted().why


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_affinity_counts() -> None:
    one = min(os.sched_getaffinity(0))
    number, why = told(prefix=f"import os; os.sched_setaffinity(0, [{one}]);")
    assert number == 1
    assert (os.cpu_count() or 1) == 1 or "affinity" in why


@contextmanager
def quota(milliseconds: int) -> Iterator[Path]:
    """A control group of a version that lets us, with so much time in 100 ms."""
    for folder, name, text in (
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", f"{milliseconds}000"),
        ("/sys/fs/cgroup", "cpu.max", f"{milliseconds}000 100000"),
    ):
        group = Path(folder, f"piecework-test-{os.getpid()}")
        if not Path(folder, "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            try:
                (group / name).write_text(text)
            except OSError:
                continue
            yield group
            return
        finally:
            group.rmdir()
    pytest.skip("no control group may be made here: run as root, or in a delegated one")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be limited further")
def test_a_quota_counts() -> None:
    with quota(50) as group:
        number, why = told(
            prefix=f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()));"
        )
    assert number == 1
    assert "0.5 cores' worth" in why
    assert group.name in why


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")
def test_what_the_interpreter_is_told_counts() -> None:
    assert told(flags=("-X", "cpu_count=1"))[0] == 1


def test_a_slot_has_its_share_and_what_is_inside_it_a_share_of_that() -> None:
    def inside() -> None:
        share.enter((1, 32))
        assert counted().number == 1
        assert cores() > 1 or (os.cpu_count() or 1) == 1 or "share" in counted().why
        assert part(8) == (1, 4)
        assert part(100) == (1, 1)
        assert part(100, threads_min=4) == (1, 4)

    copy_context().run(inside)
    assert share.mine() is None
    assert part(1) == (cores(), share.THREADS)
