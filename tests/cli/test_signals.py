"""Ctrl-C and SIGTERM: once ends the run in good order, twice ends it now."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, TASKS


class Held:
    """A command with one finished task, whose other task waits until `release`."""

    def __init__(self, directory: Path, on: str) -> None:
        self.fifo = directory / "fifo"
        os.mkfifo(self.fifo)
        self.process = subprocess.Popen(
            [*COMMAND, "map", f"{TASKS}:hold", "--on", on, "-j", "2", "--batch-size", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        stdin = pipe(self.process.stdin)
        stdin.write(b"first\n%s\n" % os.fsencode(self.fifo))
        stdin.flush()
        self.first = json.loads(pipe(self.process.stdout).readline())
        # opening a FIFO to write succeeds once the task has opened it to read
        self.writer = os.open(self.fifo, os.O_WRONLY)

    def say(self, number: int) -> None:
        """To the whole group, as a terminal sends Ctrl-C, or to the command alone."""
        send = os.killpg if number == signal.SIGINT else os.kill
        send(self.process.pid, number)

    def release(self) -> None:
        os.write(self.writer, b"released")
        os.close(self.writer)

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


@pytest.fixture(params=["processes", "threads", "inline"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Held]:
    command = Held(tmp_path, request.param)
    yield command
    if command.process.poll() is None:
        command.process.kill()
        command.process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_finishes_what_runs(held: Held, number: int, code: int) -> None:
    held.say(number)
    assert b"what runs is finished first" in pipe(held.process.stderr).readline()
    held.release()
    ended, rows, err = held.end()
    assert ended == code, err
    assert [row["value"] for row in [held.first, *rows] if row["ok"]] == ["first", "released"]
    assert "2 done + 0 failed" in err
    assert "Traceback" not in err


def test_the_second_signal_ends_it_now(held: Held) -> None:
    held.say(signal.SIGINT)
    assert b"Once more" in pipe(held.process.stderr).readline()
    held.say(signal.SIGINT)
    ended, _, err = held.end()
    os.close(held.writer)
    assert ended == 130
    assert "1 done" in err
    assert "Traceback" not in err
