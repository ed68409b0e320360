"""Python, cores, memory and the limits of this process."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator

from piecework.cli.doctor.finding import Finding, note, ok, wrong
from piecework.executors import blas, cgroup, memory
from piecework.executors.cgroup import Limit, read_file
from piecework.executors.cores import counted
from piecework.sizes import size_text

FILES_A_WORKER = 16  # descriptors in this process
FILES_BESIDE = 64
MEMORY_A_WORKER = 30 << 20  # of one that has imported next to nothing
FULL = 0.9
SHARED_SMALL = 128 << 20


def findings() -> Iterator[Finding]:
    yield from _python()
    yield _cores()
    yield from _memory()
    yield from _files()
    yield from _shared_memory()
    yield from _native_threads()


def _python() -> Iterator[Finding]:
    free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    lock = (
        "without the interpreter lock: threads compute at once"
        if free
        else "one thread computes at a time"
    )
    yield ok(
        "python",
        f"{platform.python_implementation()} {platform.python_version()}, {lock}; "
        f"{sys.executable or 'no executable'} on {platform.system()} {platform.release()}",
    )
    if sys.dont_write_bytecode:
        yield note(
            "python",
            "no bytecode is written, so every worker compiles what it imports",
            "unset PYTHONDONTWRITEBYTECODE, or leave out -B.",
        )


def _cores() -> Finding:
    found = counted()
    return ok("cores", f"{found.number} used: {found.why}")


# -- memory ---------------------------------------------------------------------------------------


def _memory() -> Iterator[Finding]:
    total, free = _entry("MemTotal:"), _entry("MemAvailable:")
    if total is None or free is None:
        yield note("memory", "this system does not tell how much there is")
    else:
        yield _judged("memory", f"{size_text(free)} free of {size_text(total)}", 1 - free / total)
    limit = cgroup.memory_limit(read_file)
    if limit is not None and (total is None or limit.amount < total):
        yield _group(limit)
    kills = cgroup.oom_kills(read_file)
    if kills:
        yield note(
            "memory",
            f"the kernel has killed {kills} processes here for want of memory",
            'give tasks a limit, max_memory="2GB" or --max-memory, or use fewer workers.',
        )
    if not memory.can_measure():
        yield note(
            "memory",
            "what a worker holds cannot be seen, so max_memory cannot be kept",
            "pip install psutil",
        )


def _group(limit: Limit) -> Finding:
    used = cgroup.memory_used(read_file, limit)
    text = f"the control group allows {size_text(limit.amount)} ({limit.path})"
    if used is None:
        return ok("memory", text)
    return _judged("memory", f"{text}, {size_text(used)} of it used", used / limit.amount)


def _judged(topic: str, text: str, share: float) -> Finding:
    if share < FULL:
        return ok(topic, text)
    return wrong(topic, text, "end what else runs, use fewer workers (-j), or get more memory.")


def _entry(name: str) -> int | None:
    for line in (read_file("/proc/meminfo") or "").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1]) * 1024
    return None


# -- limits ---------------------------------------------------------------------------------------


def _files() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = counted().number
    needed = FILES_BESIDE + FILES_A_WORKER * workers
    if soft == resource.RLIM_INFINITY or soft >= needed:
        most = "any number" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        yield ok("open files", f"{most} at once, {workers} workers need about {needed}")
    else:
        yield wrong(
            "open files",
            f"{soft} at once, and {workers} workers need about {needed}",
            f"ulimit -n {min(hard, 4096) if hard > 0 else 4096}",
        )
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY and space < 4 << 30:
        yield note(
            "address space",
            f"limited to {size_text(space)}: large values are copied instead of shared",
            "ulimit -v unlimited",
        )


def _shared_memory() -> Iterator[Finding]:
    """Ours has no name and no place; that of multiprocessing lies in /dev/shm."""
    if not os.path.isdir("/dev/shm"):
        return
    stat = os.statvfs("/dev/shm")
    size, free = stat.f_frsize * stat.f_blocks, stat.f_frsize * stat.f_bavail
    text = f"/dev/shm: {size_text(free)} free of {size_text(size)}"
    if not os.access("/dev/shm", os.W_OK):
        yield wrong(
            "shared memory",
            "/dev/shm cannot be written to: no lock or queue of multiprocessing can be made",
            "mount it for everybody: mount -o remount,mode=1777 /dev/shm",
        )
    elif free < SHARED_SMALL:
        yield note(
            "shared memory",
            f"{text}; piecework does without, multiprocessing.shared_memory of tasks does not",
            "docker run --shm-size=1g, or mount -o remount,size=1g /dev/shm",
        )
    else:
        yield ok("shared memory", text)


# -- native threads -------------------------------------------------------------------------------


def _native_threads() -> Iterator[Finding]:
    cores = counted().number
    told = {name: os.environ[name] for name in blas.VARIABLES if name in os.environ}
    each = ", ".join(f"{name}={value}" for name, value in told.items())
    many = [int(value) for value in told.values() if value.isdigit() and int(value) > 1]
    if many:
        yield note(
            "BLAS",
            f"{each} is set and stays so in each of {cores} workers: up to "
            f"{max(many) * cores} threads for {cores} cores",
            f"unset {' '.join(told)}, and each worker gets its share.",
        )
    elif told:
        yield ok("BLAS", f"{each} is set and stays so in workers")
    pools = list(blas.pools()) if _numpy() else []
    for pool in pools:
        yield ok("BLAS", f"{pool.name}: {pool.ask()} threads here, its share in a worker")
    if not pools and not told:
        yield ok("BLAS", "no native thread pool is loaded; each worker's get its share of cores")


def _numpy() -> bool:
    """Have it loaded, which brings its BLAS along."""
    try:
        import numpy  # noqa: F401
    except Exception:  # broken ones raise all sorts of things
        return False
    return True
