"""Finds the processes that a script started, whoever their parent is by now."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import piecework

MARKER = "PW_TEST_MARKER"
ROOT = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """For a script: finds the package and the tests, and marks all its descendants."""
    source = str(Path(piecework.__file__).parent.parent)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([source, str(ROOT)]),
        MARKER: uuid.uuid4().hex,
        **more,
    }


def start(script: str, environ: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Run the script in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def marked(environ: dict[str, str]) -> list[int]:
    """The processes alive that have the marker of this environment; zombies are gone already."""
    wanted = f"{MARKER}={environ[MARKER]}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found.append(int(folder.name))
        except OSError:  # it has just ended, or is not ours
            continue
    return found


def all_gone(environ: dict[str, str], seconds: float) -> list[int]:
    """Wait until no marked process is left; what is left when the time is over."""
    until = time.monotonic() + seconds
    while (left := marked(environ)) and time.monotonic() < until:
        for pid in left[:1]:
            _wait_for_end(pid, until - time.monotonic())
    return left


def _wait_for_end(pid: int, seconds: float) -> None:
    """Wait for the end of a process that need not be a child of ours."""
    import select

    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        select.select([fd], [], [], max(seconds, 0))
    finally:
        os.close(fd)


def kill_marked(environ: dict[str, str]) -> None:
    for pid in marked(environ):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
