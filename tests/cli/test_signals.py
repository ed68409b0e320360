"""Ctrl-C, SIGTERM, a closed terminal, a reader that has gone: in good order, within the grace."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, TASKS
from tests.test_endings import _of_session


class Held:
    """A command with one finished task, whose other task waits until `release`."""

    def __init__(
        self,
        directory: Path,
        on: str,
        *options: str,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        before: Callable[[], object] | None = None,
    ) -> None:
        self.fifo = directory / "fifo"
        os.mkfifo(self.fifo)
        hold = "hold_async" if on == "coroutines" else "hold"
        common = ["map", f"{TASKS}:{hold}", "--on", on, "-j", "2", "--batch-size", "1"]
        self.process = subprocess.Popen(
            [*COMMAND, *common, *options],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env={**ENVIRONMENT, "XDG_STATE_HOME": str(directory / "state")},
            start_new_session=True,
            preexec_fn=before,
        )
        stdin = pipe(self.process.stdin)
        stdin.write(b"first\n%s\n" % os.fsencode(self.fifo))
        stdin.flush()
        self.first = None
        if stdout == subprocess.PIPE:
            self.first = json.loads(pipe(self.process.stdout).readline())
        # opening a FIFO to write succeeds once the task has opened it to read
        self.writer = os.open(self.fifo, os.O_WRONLY)

    def say(self, number: int) -> None:
        """To the whole group, as a terminal sends Ctrl-C, or to the command alone."""
        send = os.killpg if number == signal.SIGINT else os.kill
        send(self.process.pid, number)

    def release(self) -> None:
        os.write(self.writer, b"released")
        self.close()

    def close(self) -> None:
        os.close(self.writer)
        self.writer = os.open(os.devnull, os.O_WRONLY)

    def end(self) -> tuple[int, list[dict[str, object]], str]:
        out, err = self.process.communicate(timeout=60)
        return (
            self.process.returncode,
            [json.loads(line) for line in out.splitlines()],
            err.decode(),
        )


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


WAYS = ["processes", "threads", "inline", "coroutines", "auto"]
Make = Callable[..., Held]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made = []

    def make(on: str, *options: str, **given: Any) -> Held:
        made.append(Held(tmp_path, on, *options, **given))
        return made[-1]

    yield make
    for command in made:
        if command.process.poll() is None:
            command.process.kill()
        command.process.communicate()
        os.close(command.writer)
        assert not left_in_session(command.process.pid)


@pytest.fixture(params=WAYS)
def held(request: pytest.FixtureRequest, make: Make) -> Held:
    return make(request.param)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_finishes_what_runs(held: Held, number: int, code: int) -> None:
    held.say(number)
    assert b"what runs is finished first" in pipe(held.process.stderr).readline()
    held.release()
    ended, rows, err = held.end()
    assert ended == code, err
    assert [row["value"] for row in [held.first, *rows] if row["ok"]] == ["first", "released"]
    assert "2 done + 0 failed" in err
    assert "Traceback" not in err, err


def test_the_second_signal_ends_it_now(held: Held) -> None:
    held.say(signal.SIGINT)
    assert b"Once more" in pipe(held.process.stderr).readline()
    held.say(signal.SIGINT)
    ended, _, err = held.end()
    assert ended == 130
    assert "1 done" in err
    assert "piecework resume hold" in err
    assert "Traceback" not in err, err


@pytest.mark.parametrize("on", WAYS[:3])
def test_what_does_not_end_within_the_grace_is_ended(on: str, make: Make) -> None:
    held = make(on, "--grace", "0.3")
    held.say(signal.SIGTERM)
    ended, rows, err = held.end()
    assert ended == 143, err
    assert all(row["ok"] for row in rows)
    assert "1 done" in err
    assert "piecework resume hold" in err
    assert "Traceback" not in err, err


def test_for_programs_every_line_is_an_object_and_the_summary_the_last(make: Make) -> None:
    held = make("processes", "--json", "--progress", "json", "--grace", "0.3", "--deadline", "1")
    ended, _, err = held.end()
    *_, go_on, summary = [json.loads(line) for line in err.splitlines()]
    assert ended == 124
    assert go_on["go_on"].startswith("piecework resume hold")
    assert summary["summary"]["stopped"] == "deadline"


@pytest.mark.parametrize("on", ["processes", "threads", "inline"])
def test_a_deadline_does_not_wait_for_what_cannot_be_ended(on: str, make: Make) -> None:
    held = make(on, "--grace", "0.3", "--deadline", "1")
    ended, _, err = held.end()
    assert ended == 124, err
    assert "piecework resume hold" in err


@pytest.mark.parametrize("on", ["processes", "threads", "coroutines"])
def test_a_reader_that_has_seen_enough_ends_the_run(on: str, make: Make) -> None:
    """As `| head -1` does: the next line cannot be written, and the rest is for nothing."""
    held = make(on, "--no-journal")
    stdin = pipe(held.process.stdin)
    pipe(held.process.stdout).close()
    if on == "inline":
        held.release()  # its one task at a time is the held one
    with contextlib.suppress(BrokenPipeError):
        stdin.write(b"more\n" * 10)
        stdin.flush()
    assert held.process.wait(30) == 141
    assert b"Traceback" not in pipe(held.process.stderr).read()


@pytest.mark.parametrize("on", ["processes", "threads", "inline"])
def test_a_closed_terminal_ends_the_run(on: str, make: Make) -> None:
    master, slave = pty.openpty()

    def own_terminal() -> None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    held = make(on, "--grace", "0.3", stdout=slave, stderr=slave, before=own_terminal)
    os.close(slave)
    os.close(master)  # the window is closed: SIGHUP, and nothing can be written any more
    assert held.process.wait(30) == 129


@pytest.mark.parametrize("on", ["threads"])
def test_under_nohup_a_closed_terminal_is_nothing(on: str, make: Make) -> None:
    held = make(on, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    held.say(signal.SIGHUP)
    held.release()
    ended, rows, err = held.end()
    assert ended == 0, err
    assert [row["value"] for row in rows] == ["released"]


def test_standard_error_that_nobody_reads_does_not_hold_up_ctrl_c(make: Make) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    held = make("processes", stderr=write)
    os.close(write)
    held.say(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        held.process.wait(0.5)
    held.say(signal.SIGINT)
    assert held.process.wait(30) == 130
    os.close(read)


def left_in_session(session: int) -> list[str]:
    """What is still there of a session some time after its leader has gone."""
    until = time.monotonic() + 5
    while (found := _of_session(session)) and time.monotonic() < until:
        time.sleep(0.05)
    return found
