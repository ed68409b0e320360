"""How many cores may be used here, and why: affinity, control groups, the share of a task."""

from __future__ import annotations

import os

from piecework.executors import share
from piecework.executors.cgroup import cpu_limit, read_file
from piecework.record import record


@record(frozen=True, slots=True)
class Cores:
    number: int
    why: str


def cores() -> int:
    """At least 1; a container limited to two of sixty-four cores gets 2, and a map inside a task
    the share of the slot that it runs in."""
    return counted().number


def counted() -> Cores:
    """The number of cores and what decides it: the tightest of all that limit it."""
    found = Cores(*_allowed())
    quota = cpu_limit(read_file)
    if quota is not None and -(-quota.amount // 1) < found.number:
        why = f"the control group allows {quota.amount:g} cores' worth of time ({quota.path})"
        found = Cores(int(-(-quota.amount // 1)), why)
    mine = share.mine()
    if mine is not None and mine[0] < found.number:
        found = Cores(mine[0], "the share of the task that asks")
    return found


def part(slots: int, *, threads_min: int = 1) -> share.Share:
    """The share of each of so many slots: what a map inside one of their tasks keeps to."""
    return max(1, cores() // slots), max(threads_min, share.threads() // slots)


def _allowed() -> tuple[int, str]:
    there = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        number = len(os.sched_getaffinity(0))
        why = f"affinity allows {number} of {there}" if number < there else f"there are {there}"
    else:
        number, why = there, f"there are {there}"
    if hasattr(os, "process_cpu_count"):  # python -X cpu_count=4, from 3.13 on
        told = os.process_cpu_count() or number
        if told != number:
            return told, f"-X cpu_count or PYTHON_CPU_COUNT says {told}"
    return number, why
