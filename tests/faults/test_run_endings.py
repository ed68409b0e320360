"""Runs that end at any moment, in any way, in every mode: nothing is left, the journal is whole.

PIECEWORK_FAULT_ENDINGS of them, 12 by default.
"""

from __future__ import annotations

import contextlib
import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from piecework.journal.reader import Reader
from tests.executors.processes import ROOT, all_gone, environment, kill_marked

ENDINGS = int(os.environ.get("PIECEWORK_FAULT_ENDINGS", "12"))
ENDED = ROOT / "tests" / "faults" / "ended.py"

LIBRARY = ["threads", "processes", "coroutines", "inline", "auto", "commands"]
COMMANDS = ["map threads", "map processes", "map coroutines", "map inline", "map auto", "exec"]
HOW = ["KILL", "INT", "TERM", "HUP", "TERM TERM", "INT INT", "reader", "terminal"]

# What the command line ends with. A program of the library ends as Python programs do.
CODES = {"KILL": -9, "INT": 130, "TERM": 143, "HUP": 129, "TERM TERM": 143, "INT INT": 130,
         "reader": 141, "terminal": 129}  # fmt: skip


class Case(NamedTuple):
    mode: str
    how: str
    journal: bool
    seconds: float


def case(number: int) -> Case:
    chance = random.Random(number)
    modes = LIBRARY + COMMANDS
    how = HOW[(number // len(modes) + number) % len(HOW)]
    return Case(modes[number % len(modes)], how, chance.random() < 0.5, chance.uniform(0, 0.3))


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    made = environment(TMPDIR=str(temporary), XDG_STATE_HOME=str(tmp_path / "state"))
    shared_memory = set(os.listdir("/dev/shm"))
    yield made
    kill_marked(made)
    until = time.monotonic() + 2  # a guard removes files last; other tests may run beside this one
    while left := [*temporary.iterdir(), *(set(os.listdir("/dev/shm")) - shared_memory)]:
        if not any("piece" in str(name) for name in left):
            break
        assert time.monotonic() < until, left
        time.sleep(0.05)


def command(case: Case, folder: Path) -> list[str]:
    journal = str(folder / "kept.journal") if case.journal else ""
    if case.mode in LIBRARY:
        return [sys.executable, str(ENDED), case.mode, journal]
    numbers = folder / "numbers"
    numbers.write_text("".join(f"{n}\n" for n in range(50_000)))
    keeping = ["--journal", journal] if journal else ["--no-journal"]
    common = ["-j", "2", "-a", str(numbers), "--progress", "plain", *keeping]
    what, _, on = case.mode.partition(" ")
    piecework = [sys.executable, "-m", "piecework", what]
    if what == "exec":
        return [*piecework, *common, "sh", "-c", "sleep 0.01; echo $0"]
    function = "said_async" if on == "coroutines" else "said"
    return [*piecework, f"{ENDED}:{function}", "--on", on, *common]


def end(process: subprocess.Popen[bytes], case: Case, terminal: int) -> None:
    assert process.stdout is not None
    if case.how == "reader":
        process.stdout.close()
    elif case.how == "terminal":
        os.close(terminal)
    else:
        for name in case.how.split():
            os.killpg(process.pid, getattr(signal, f"SIG{name}"))
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break


@pytest.mark.parametrize("number", range(ENDINGS))
def test_a_run_may_end_at_any_moment_in_any_way(
    number: int, environ: dict[str, str], tmp_path: Path
) -> None:
    it = case(number)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command(it, tmp_path),
        env=environ,
        stdin=slave if it.how == "terminal" else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave if it.how == "terminal" else subprocess.PIPE,
        start_new_session=True,
        preexec_fn=(lambda: own(slave)) if it.how == "terminal" else None,
    )
    os.close(slave)
    assert process.stdout is not None
    assert process.stdout.readline(), (it, process.stderr and process.stderr.read())
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(it.seconds)
        said = os.read(master, 10_000) if it.how == "terminal" else process.communicate()[1]
        raise AssertionError((it, process.returncode, said))  # it goes on until it is ended
    end(process, it, master)
    left = all_gone(environ, 1.5 if it.how == "KILL" else 8)
    if it.how != "terminal":
        os.close(master)
    out, err = b"", b""
    if it.how not in ("reader", "terminal"):
        out, err = process.communicate(timeout=20)
    elif process.stderr is not None:
        err = process.stderr.read()
    assert left == [], (it, err)
    code = process.wait(20)
    process.stdout.close()
    if process.stderr is not None:
        process.stderr.close()
    assert whole(out, it), (it, out[-100:])
    if it.mode not in LIBRARY:
        assert code == CODES[it.how], (it, err)
        assert b"Traceback" not in err, (it, err)
    if it.journal:
        with Reader(tmp_path / "kept.journal") as reader:
            assert not reader.live
            assert reader.counts().failed == 0


def whole(out: bytes, case: Case) -> bool:
    """Whole lines only; a program that was killed may have been writing one."""
    return case.mode in LIBRARY or case.how == "KILL" or out.endswith(b"\n") or not out


def own(terminal: int) -> None:
    """Make it the terminal of this session: who closes it hangs up."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
