"""Functions that run in worker processes: what only processes can do, and do wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

kept: list[Any] = []
lent: Any = None


def start_a_child(path: str) -> None:
    """Start a process, tell who it is, and wait for it."""
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path(path).write_text(str(child.pid))
    child.wait()


def ignore_signals_and_start_a_child(path: str) -> None:
    """What only SIGKILL can end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    start_a_child(path)
