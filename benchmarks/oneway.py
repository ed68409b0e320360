"""One measurement in a process of its own, killed when it takes too long, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

ANSWER = "@@answer "
MARK = "BENCH_ROUND"
SOURCE = Path(__file__).resolve().parent.parent / "src"


def run_one(arguments: list[str], limit: float, source: str | None = None) -> dict[str, Any]:
    """The answer of `python arguments`, or `{"missing": why}`; takes at most `limit` seconds.

    Output goes to a file and not to a pipe: a grandchild that outlives its parent would hold
    the pipe open and we would wait for it.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=_environment(mark, source),
            start_new_session=True,
        )
        try:
            child.wait(limit)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
            child.kill()
            child.wait()
        left = end_marked(mark)
        out.seek(0)
        err.seek(0)
        answer = _read(out.read())
        if answer is None and not ended:
            answer = {"missing": f"hangs (ended after {limit:g} s)"}
        elif answer is None:
            tail = err.read().strip().splitlines()[-1:] or [""]
            answer = {"missing": f"failed, exit {child.returncode}: {tail[0][:200]}"}
        elif not ended:
            answer["note"] = "did not end by itself"
        if left:
            answer["left_running"] = left
        return answer


def _environment(mark: str, source: str | None) -> dict[str, str]:
    path = [
        source or str(SOURCE),
        str(Path(__file__).resolve().parent),
        os.environ.get("PYTHONPATH", ""),
    ]
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
    return os.environ | quiet | {MARK: mark, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def _read(text: str) -> dict[str, Any] | None:
    for line in reversed(text.splitlines()):
        if line.startswith(ANSWER):
            return json.loads(line[len(ANSWER) :])
    return None


def end_marked(mark: str, grace: float = 0.3) -> int:
    """End every process that inherited the mark; how many were still there after the grace."""
    deadline = time.monotonic() + grace
    while (found := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return len(found)


def _marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found
