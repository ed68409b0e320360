"""Run the command line as a user does, in a process of its own."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

TASKS = Path(__file__).with_name("tasks.py")
COMMAND = [sys.executable, "-m", "piecework"]
STATE = tempfile.mkdtemp(prefix="piecework-tests-")  # where the journals of the tests go
atexit.register(shutil.rmtree, STATE, ignore_errors=True)
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith(("PIECEWORK_", "NO_COLOR"))},
    "XDG_STATE_HOME": STATE,
}


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def piecework(*arguments: str, stdin: str | bytes = b"", **environment: str) -> Outcome:
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        timeout=60,
        env={**ENVIRONMENT, **environment},
    )
    out, err = done.stdout.decode("utf-8"), done.stderr.decode("utf-8", "replace")
    assert "Traceback (most recent call last)" not in err, err
    return Outcome(done.returncode, out, err)


def map_(name: str, *arguments: str, **given: Any) -> Outcome:
    """`piecework map` with a function of tasks.py."""
    return piecework("map", f"{TASKS}:{name}", *arguments, **given)
