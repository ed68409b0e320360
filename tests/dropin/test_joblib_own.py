"""joblib's own tests, run with our backend in the place of its own; see joblib_runner.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SECONDS = 400
AT_LEAST = 240  # cases of joblib 1.6 that run ours; some more are skipped without threadpoolctl


@pytest.mark.timeout(SECONDS + 20)
def test_joblibs_own_tests_pass(tmp_path: Path) -> None:
    if not (find_spec("joblib") and find_spec("joblib.test.test_parallel")):
        pytest.skip("joblib with its tests is not installed: pip install joblib")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "joblib_runner",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-c", os.devnull, "--timeout", "100", "--pyargs", "joblib.test.test_parallel"]
    run = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert run.returncode == 0, run.stdout[-20_000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) >= AT_LEAST, run.stdout[-20_000:]
