"""CPython 3.13's own tests of multiprocessing.Pool, run on ours; see pool_runner.py.

Under each start method, on threads, and behind the proxies of a manager.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import cloudpickle
import pytest

import piecework
from tests.cpython.test_cpython_executors import HOW, _candidates, _has_tests

# How many tests 3.13.0 has for each; a later one may have more.
KINDS = {"fork": 33, "forkserver": 33, "spawn": 33, "threads": 25, "manager": 25}
SECONDS = 280


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cpython")
    # Only what is pure Python: our own environment holds compiled modules of another version.
    (folder / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
    source = Path(piecework.__file__).parent.parent
    return {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{folder}"}


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.parametrize("kind", KINDS)
def test_cpythons_own_tests_of_pool_pass(
    kind: str, environ: dict[str, str], tmp_path: Path
) -> None:
    python = next(filter(_has_tests, _candidates()), None)
    if python is None:
        pytest.skip(HOW)
    run = subprocess.run(
        [python, str(Path(__file__).with_name("pool_runner.py")), kind],
        env=environ,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert run.returncode == 0, run.stdout[-20_000:]
    assert "\nOK" in run.stdout
    ran = re.search(r"^Ran (\d+) tests", run.stdout, re.MULTILINE)
    assert ran is not None
    assert int(ran[1]) >= KINDS[kind], run.stdout
