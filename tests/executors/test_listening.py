"""The streams are replaced and put back while others print: nobody prints through a freed one."""

from __future__ import annotations

import subprocess
import sys

SWAP = """
import sys, threading
from {home} import {name}

swaps = threading.Semaphore(0)
over = threading.Event()

def swap():
    while not over.is_set():
        {swap}
        swaps.release()

sys.setswitchinterval(1e-5)
swapper = threading.Thread(target=swap)
swapper.start()
for _ in range(2000):
    print("a", "line")
    swaps.acquire()
over.set()
swapper.join()
"""


def printed(**parts: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SWAP.format(**parts)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.splitlines()


def test_listeners_come_and_go_while_others_print() -> None:
    """CPython's print borrows sys.stdout: a listener that is freed then crashes the interpreter."""
    lines = printed(
        home="piecework.executors.overheard",
        name="LISTENING",
        swap="LISTENING.begin(), LISTENING.end()",
    )
    assert lines == ["a line"] * 2000


def test_bars_come_and_go_while_others_print() -> None:
    lines = printed(
        home="piecework.screen",
        name="STDERR; sys.stdout.isatty = lambda: True",
        swap='STDERR.stand("a", ""), STDERR.clear("a")',
    )
    assert lines == ["a line"] * 2000
