"""CPython 3.13's own executor tests, run on our classes by a 3.13 interpreter; see runner.py.

Most of their time is spent waiting, so the four kinds run side by side.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

import piecework

KINDS = ("Thread", "ProcessFork_", "ProcessForkserver_", "ProcessSpawn_")
SECONDS = 280
HOW = (
    "no Python 3.13 with its `test` package was found. Get one with: pyenv install 3.13, or name "
    "one: PIECEWORK_CPYTHON=/path/to/python3.13 make test"
)


def _candidates() -> Iterator[str]:
    named = os.environ.get("PIECEWORK_CPYTHON")
    if named:
        yield named
    if sys.version_info[:2] == (3, 13):
        yield sys.executable
    for path in sorted(Path.home().glob(".pyenv/versions/3.13*/bin/python3.13")):
        yield str(path)
    found = shutil.which("python3.13")
    if found:
        yield found


def _has_tests(python: str) -> bool:
    check = "import sys, test.test_concurrent_futures as t; assert sys.version_info[:2] == (3, 13)"
    try:
        run = subprocess.run([python, "-c", check], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return run.returncode == 0


@pytest.fixture(scope="module")
def python() -> str:
    for candidate in _candidates():
        if _has_tests(candidate):
            return candidate
    pytest.skip(HOW)


@pytest.fixture(scope="module")
def runs(
    python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    folder = tmp_path_factory.mktemp("cpython")
    # Only what is pure Python: our own environment holds compiled modules of another version.
    (folder / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
    source = Path(piecework.__file__).parent.parent
    environ = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{folder}"}
    runner = str(Path(__file__).with_name("runner.py"))
    started = {}
    for kind in KINDS:
        log = (folder / kind).open("w+")
        started[kind] = subprocess.Popen(
            [python, runner, kind],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started[kind].log = log  # type: ignore[attr-defined]
    yield started
    for run in started.values():
        if run.poll() is None:
            os.killpg(run.pid, 9)
            run.wait()
        run.log.close()  # type: ignore[attr-defined]


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.parametrize("kind", KINDS)
def test_cpythons_own_tests_pass(runs: dict[str, subprocess.Popen[str]], kind: str) -> None:
    run = runs[kind]
    try:
        code: int | None = run.wait(SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    log = run.log  # type: ignore[attr-defined]
    log.seek(0)
    text = log.read()
    assert code == 0, f"exit {code}\n{text[-20_000:]}"
    assert "\nOK" in text
    assert " tests in " in text
