"""The progress bar on a terminal, and its absence where none is."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, TASKS, map_

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(fifo: Path, *options: str, both: bool = False, **environment: str) -> str:
    """What a command shows whose task ends once `0 of 1` has been seen on the terminal."""
    os.mkfifo(fifo)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "map", f"{TASKS}:hold", str(fifo), "--on", "threads", *options],
        stdin=subprocess.DEVNULL,
        stdout=slave if both else subprocess.DEVNULL,
        stderr=slave,
        env={**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "200", **environment},
    )
    os.close(slave)
    screen = ""
    seen = False
    while block := read(master):
        screen += block.decode()
        if not seen and ("0 of 1" in screen or "--progress" in options):
            seen = True
            fifo.write_text("go")
    os.close(master)
    assert process.wait(60) == 0
    return screen


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # what Linux says once the other end of a terminal is closed
        return b""


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    return tmp_path / "fifo"


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(fifo: Path) -> None:
    screen = on_a_terminal(fifo)
    assert "0 of 1" in screen
    assert "━" in screen
    end = screen[screen.rindex("\x1b[2K") :]  # the last erased line
    assert "━" not in end
    assert "1 input = 1 done" in end


def test_no_color_takes_the_colours_away(fifo: Path) -> None:
    plain = on_a_terminal(fifo, NO_COLOR="1")
    assert not re.search(r"\x1b\[(3[0-9]|38;[0-9;]*)m", plain)


def test_a_dumb_terminal_gets_lines(fifo: Path) -> None:
    screen = on_a_terminal(fifo, "--progress", "auto", TERM="dumb")
    assert not ESCAPE.search(screen)
    assert "1 input = 1 done" in screen


def test_results_and_the_bar_share_a_screen_without_tearing_lines(fifo: Path) -> None:
    screen = on_a_terminal(fifo, both=True)
    lines = [ESCAPE.sub("", line).strip("\r\n") for line in screen.split("\n")]
    rows = [json.loads(line.split("\r")[-1]) for line in lines if '"index"' in line]
    assert [row["value"] for row in rows] == ["go"]


def test_off_says_only_the_account() -> None:
    done = map_("double", "a", "--progress", "off")
    assert len(done.err.splitlines()) <= 3
