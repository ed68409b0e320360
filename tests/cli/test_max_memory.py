"""`piecework map --max-memory`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.cli.command import piecework

HUNGRY = """
import threading

def grow(text):
    held = []
    while text == "13" and len(held) < 128:
        held.append(bytearray(b"x") * (8 << 20))
        threading.Event().wait(0.002)
    return text
"""


@pytest.fixture
def grow(tmp_path: Path) -> str:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    return f"{tmp_path}/hungry.py:grow"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux only")
def test_a_command_that_takes_more_is_one_failure(grow: str) -> None:
    code = "import sys; from hungry import grow; print(grow(sys.argv[1]), flush=True)"
    numbers = map(str, range(10, 15))
    done = piecework(
        "exec", "--max-memory", "150MB", "-k", "--json", sys.executable, "-c", code, "{}",
        ":::", *numbers, PYTHONPATH=str(Path(grow).parent),
    )  # fmt: skip
    assert done.code == 1
    assert [row["ok"] for row in done.rows] == [True, True, True, False, True]
    failure = done.rows[3]["failure"]
    assert (failure["cause"], failure["attempt"]) == ("memory", 1)
    assert "max_memory is 150 MB" in failure["message"]
    assert failure["peak_memory"] > 150_000_000


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux only")
def test_who_takes_more_is_one_failure(grow: str) -> None:
    numbers = map(str, range(20))
    done = piecework("map", grow, *numbers, "--on", "processes", "--max-memory", "150MB", "-k")
    assert done.code == 1
    assert [row["ok"] for row in done.rows] == [number != 13 for number in range(20)]
    failure = done.rows[13]["failure"]
    assert (failure["cause"], failure["attempt"]) == ("memory", 2)
    assert failure["peak_memory"] > 150_000_000
    assert "20 inputs = 19 done + 0 failed + 1 quarantined + 0 cancelled" in done.err


def test_a_size_that_is_none(grow: str) -> None:
    done = piecework("map", grow, "1", "--max-memory", "much")
    assert (done.code, done.out) == (2, "")
    assert 'max_memory="2GB"' in done.err


def test_where_it_cannot_be_kept(grow: str) -> None:
    done = piecework("map", grow, "1", "--max-memory", "2GB", "--on", "threads")
    assert (done.code, done.out) == (2, "")
    assert 'Use on="processes"' in done.err
