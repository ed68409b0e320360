"""How many cores this process may use: affinity and the quota of its control group."""

from __future__ import annotations

import math
import os


def cores() -> int:
    """At least 1; a container limited to two of sixty-four cores gets 2."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _quota()
    return max(1, min(count, math.ceil(quota))) if quota else max(1, count)


def _quota() -> float | None:
    """Cores' worth of time that the control group (version 2, then 1) allows; None: no limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            limit, period = file.read().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
            quota = int(file.read())
        with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
            period_us = int(file.read())
    except (OSError, ValueError):
        return None
    return quota / period_us if quota > 0 and period_us > 0 else None
