"""The progress bar on a terminal, and its absence where none is."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import termios
from pathlib import Path

import pytest

from tests import terminal
from tests.cli.command import COMMAND, ENVIRONMENT, TASKS, map_


def on_a_terminal(
    fifo: Path, *options: str, both: bool = False, columns: int = 200, **environment: str
) -> str:
    """What a command shows whose task ends once `0 of 1` has been seen on the terminal."""
    os.mkfifo(fifo)
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    process = subprocess.Popen(
        [*COMMAND, "map", f"{TASKS}:hold", str(fifo), "--on", "threads", *options],
        stdin=subprocess.DEVNULL,
        stdout=slave if both else subprocess.DEVNULL,
        stderr=slave,
        env={**ENVIRONMENT, "TERM": "xterm-256color", **environment},
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
    written = on_a_terminal(fifo)
    assert "╺──" in written
    left = terminal.screen(written)
    assert "─" not in "".join(left)
    assert left[-2].startswith("1 input = 1 done")


def test_a_narrow_terminal_gets_a_bar_that_fits(fifo: Path) -> None:
    written = on_a_terminal(fifo, columns=30)
    bars = [part for part in written.replace("\x1b[K", "\r").split("\r") if "0 of 1" in part]
    assert bars
    assert all(len(bar) < 30 for bar in bars)


def test_a_dumb_terminal_gets_lines(fifo: Path) -> None:
    written = on_a_terminal(fifo, "--progress", "auto", TERM="dumb")
    assert "\x1b" not in written
    assert "1 input = 1 done" in written


def test_where_no_terminal_is_there_are_no_escapes_even_if_a_bar_was_asked_for() -> None:
    done = map_("number", "1", "x", "--progress", "bar")
    assert "\x1b" not in done.err
    assert done.code == 1


def test_results_and_the_bar_share_a_screen_without_tearing_lines(fifo: Path) -> None:
    left = terminal.screen(on_a_terminal(fifo, both=True))
    rows = [json.loads(line) for line in left if line.startswith("{")]
    assert [row["value"] for row in rows] == ["go"]


def test_a_kind_of_failure_is_told_once_with_its_first_input() -> None:
    done = map_(
        "number", "1", "one", "two", "0", "--inputs", "text", "-j", "1", "--progress", "off"
    )
    told = [line for line in done.err.splitlines() if line.startswith("piecework: input")]
    assert len(told) == 2
    assert told[0].startswith("piecework: input 1, 'one': ValueError: could not convert")
    assert told[1].startswith("piecework: input 3, '0': ZeroDivisionError: ")


def test_as_json_every_line_is_an_object() -> None:
    done = map_("number", "1", "x", "--progress", "json", "--json")
    entries = [json.loads(line) for line in done.err.splitlines()]
    failure = next(entry["failure"] for entry in entries if "failure" in entry)
    assert (failure["index"], failure["input"], failure["type"]) == (1, "'x'", "ValueError")
    assert "summary" in entries[-1]


def test_off_says_only_the_account() -> None:
    done = map_("double", "a", "--progress", "off")
    assert len(done.err.splitlines()) <= 3
