"""What control groups allow, from texts as they are found on machines and in containers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.executors.cgroup import (
    Limit,
    cpu_limit,
    memory_limit,
    memory_used,
    oom_kills,
    read_file,
)

V2 = {
    "/proc/self/cgroup": "0::/user.slice/run-1.scope\n",
    "/proc/self/mountinfo": "25 30 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
}
OWN, SLICE, ROOT = (
    "/sys/fs/cgroup/user.slice/run-1.scope",
    "/sys/fs/cgroup/user.slice",
    "/sys/fs/cgroup",
)
V1 = {
    "/proc/self/cgroup": "4:memory:/docker/1f\n1:cpu,cpuacct:/docker/1f\n",
    "/proc/self/mountinfo": (
        "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
        "32 30 0:29 /docker/1f /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpuacct,cpu\n"
        "35 30 0:32 /docker/1f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    ),
}


@pytest.mark.parametrize(
    ("files", "amount", "path"),
    [
        ({}, None, ""),
        ({f"{OWN}/cpu.max": "max 100000\n"}, None, ""),
        ({f"{OWN}/cpu.max": "150000 100000\n"}, 1.5, f"{OWN}/cpu.max"),
        ({f"{OWN}/cpu.max": "400000"}, 4.0, f"{OWN}/cpu.max"),
        # A limit of any group around ours holds as well.
        (
            {f"{OWN}/cpu.max": "400000 100000", f"{SLICE}/cpu.max": "50000 100000"},
            0.5,
            f"{SLICE}/cpu.max",
        ),
        ({f"{SLICE}/cpu.max": "300000 100000"}, 3.0, f"{SLICE}/cpu.max"),
        ({f"{ROOT}/cpu.max": "100000 100000"}, 1.0, f"{ROOT}/cpu.max"),
        ({f"{OWN}/cpu.max": "lots 100000"}, None, ""),
        ({f"{OWN}/cpu.max": "100000 0"}, None, ""),
        ({f"{OWN}/cpu.max": ""}, None, ""),
    ],
)
def test_the_tightest_quota_on_the_path_holds(
    files: dict[str, str], amount: float | None, path: str
) -> None:
    limit = cpu_limit({**V2, **files}.get)
    assert limit == (None if amount is None else Limit(amount, path))


def test_version_1_in_a_container_that_sees_its_own_group_as_the_root() -> None:
    folder = "/sys/fs/cgroup/cpu,cpuacct"
    files = {f"{folder}/cpu.cfs_quota_us": "250000\n", f"{folder}/cpu.cfs_period_us": "100000\n"}
    assert cpu_limit({**V1, **files}.get) == Limit(2.5, f"{folder}/cpu.cfs_quota_us")
    files[f"{folder}/cpu.cfs_quota_us"] = "-1\n"
    assert cpu_limit({**V1, **files}.get) is None


def test_both_versions_side_by_side() -> None:
    files = {
        "/proc/self/cgroup": "3:memory:/a/b\n1:cpu:/\n0::/x\n",
        "/proc/self/mountinfo": (
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
            "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        ),
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "600000",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        "/sys/fs/cgroup/unified/x/cpu.max": "700000 100000",
        "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712",
        "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000000",
        "/sys/fs/cgroup/memory/a/memory.usage_in_bytes": "400000",
    }
    assert cpu_limit(files.get) == Limit(6.0, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    limit = memory_limit(files.get)
    assert limit == Limit(1000000, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes")
    assert memory_used(files.get, limit) == 400000


def test_without_mountinfo_the_usual_places_are_looked_at() -> None:
    files = {"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.max": "5000"}
    assert memory_limit(files.get) == Limit(5000, "/sys/fs/cgroup/a/memory.max")


def test_a_group_outside_of_what_is_mounted_falls_back_to_the_mount_point() -> None:
    files = {**V2, "/proc/self/cgroup": "0::/../../other\n", f"{ROOT}/cpu.max": "100000 100000"}
    assert cpu_limit(files.get) == Limit(1.0, f"{ROOT}/cpu.max")


def test_a_mount_point_with_a_blank() -> None:
    files = {
        "/proc/self/cgroup": "0::/\n",
        "/proc/self/mountinfo": "25 30 0:22 / /my\\040groups rw - cgroup2 none rw\n",
        "/my groups/memory.max": "77",
    }
    assert memory_limit(files.get) == Limit(77, "/my groups/memory.max")


def test_kills_are_counted_by_our_own_group() -> None:
    events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
    assert oom_kills({**V2, f"{OWN}/memory.events": events, "/proc/vmstat": "oom_kill 9"}.get) == 2
    control = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"
    assert oom_kills({**V1, "/sys/fs/cgroup/memory/memory.oom_control": control}.get) == 4


def test_without_memory_groups_the_machine_counts() -> None:
    assert oom_kills({**V2, "/proc/vmstat": "pgfault 7\noom_kill 9\n"}.get) == 9
    assert oom_kills({}.get) == 0


@given(st.dictionaries(st.sampled_from([
    "/proc/self/cgroup", "/proc/self/mountinfo", "/proc/vmstat", "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.events",
]), st.text(alphabet="0:/ amx1\\.-\ncgroup2,", max_size=80)))  # fmt: skip
def test_odd_files_are_no_limit_and_never_an_error(files: dict[str, str]) -> None:
    for limit in (cpu_limit(files.get), memory_limit(files.get)):
        assert limit is None or limit.amount >= 0
    assert oom_kills(files.get) >= 0


def test_a_file_that_cannot_be_read_is_none(tmp_path: object) -> None:
    assert read_file(f"{tmp_path}/missing") is None
    assert read_file(f"{tmp_path}") is None
    assert read_file("/proc/\0") is None
