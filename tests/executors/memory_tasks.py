"""Tasks that take memory; the number 13 takes all it can."""

from __future__ import annotations

import subprocess
import sys
import threading

MB = 1 << 20
BAD = 13
left_behind: list[bytearray] = []


def hoard() -> None:
    """Takes a gigabyte, at a pace that leaves time to be seen, and keeps it until it is ended."""
    held = []
    while len(held) < 128:
        held.append(bytearray(b"x") * (8 * MB))
        threading.Event().wait(0.002)
    threading.Event().wait()


def square(number: int) -> int:
    if number == BAD:
        hoard()
    return number * number


def square_in_a_child(number: int) -> int:
    """The memory is a child's."""
    if number == BAD:
        code = "from tests.executors.memory_tasks import hoard; hoard()"
        subprocess.run([sys.executable, "-c", code], check=True)
    return number * number


def leave_behind(number: int) -> int:
    """Every task leaves 30 MB in its process: no single one has taken too much."""
    left_behind.append(bytearray(b"x") * (30 * MB))
    threading.Event().wait(0.1)
    return number * number


def wait_a_little(number: int) -> int:
    threading.Event().wait(0.12)
    return number * number


def ask_for_too_much(number: int) -> int:
    """What the address space does not allow is refused, and takes nothing."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    return len(bytearray(8 << 30)) if number == BAD else number * number
