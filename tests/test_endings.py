"""How runs end with their interpreter: Ctrl-C, exit, an error; nothing hangs, nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import piecework

HEAD = """
import itertools, os, sys, time
import piecework

def short(x):
    time.sleep(0.01)
    return x

def long_after_3(x):
    time.sleep(60 if x > 3 else 0.01)
    return x

def inputs():
    for i in itertools.count():
        if i == 20:
            print("ready", flush=True)
        yield i

on = sys.argv[1]
"""


class Script:
    """A Python program in a session of its own."""

    def __init__(self, body: str, on: str) -> None:
        code = HEAD + textwrap.dedent(body)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, on],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err

    def left(self) -> list[str]:
        """Processes of its session that are still there after a second."""
        until = time.monotonic() + 5
        while (found := _of_session(self.process.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        return found


def _of_session(session: int) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                name, _, fields = file.read().rpartition(")")
        except OSError:
            continue
        state, _, _, its = fields.split()[:4]
        if int(its) == session and state != "Z":
            found.append(name)
    return found


@pytest.fixture
def scripts() -> Iterator[list[Script]]:
    started: list[Script] = []
    yield started
    for script in started:
        script.process.kill()
        script.process.communicate()


WAYS = ["inline", "threads", "processes", "auto"]

READERS = {
    "values": "for value in run: pass",
    "results": "for result in run.results(): pass",
    "wait": "run.wait()",
    "next": "while True: next(run)",
}

ACCOUNT = """
        s = run.summary
        print(s.stopped, s.inputs == s.done + s.failed + s.quarantined + s.cancelled, s.done > 0)
"""


@pytest.mark.parametrize("on", WAYS)
@pytest.mark.parametrize("reader", READERS)
def test_ctrl_c_ends_a_run_and_keeps_its_account(
    on: str, reader: str, scripts: list[Script]
) -> None:
    body = f"""
    try:
        with piecework.map(short, inputs(), on=on) as run:
            {READERS[reader]}
    except KeyboardInterrupt:
        {ACCOUNT.strip()}
    """
    script = Script(body, on)
    scripts.append(script)
    script.wait_ready()
    script.interrupt()
    code, out, err = script.end()
    assert (code, err) == (0, "")
    assert out == "interrupted True True\n"
    assert script.left() == []


def test_ctrl_c_ends_tasks_that_hang_in_processes(scripts: list[Script]) -> None:
    script = Script(
        """
        print("ready", flush=True)
        for value in piecework.map(long_after_3, itertools.count(), on=on):
            pass
        """,
        "processes",
    )
    scripts.append(script)
    script.wait_ready()
    time.sleep(0.5)
    script.interrupt()
    code, _, err = script.end()
    assert code in (130, -signal.SIGINT)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert script.left() == []


def test_what_ctrl_c_has_interrupted_is_not_begun_again(scripts: list[Script]) -> None:
    script = Script(
        """
        def hangs(x):
            print("ready", flush=True)
            time.sleep(60)

        try:
            with piecework.map(hangs, range(3), on=on) as run:
                next(run)
        except KeyboardInterrupt:
            print(run.summary.stopped, run.summary.done, flush=True)
        """,
        "inline",
    )
    scripts.append(script)
    script.wait_ready()
    script.interrupt()
    code, out, err = script.end()
    assert (code, out, err) == (0, "interrupted 0\n", "")
    assert script.left() == []


def test_ctrl_c_in_the_readers_own_code_ends_the_run(scripts: list[Script]) -> None:
    script = Script(
        """
        for value in piecework.map(short, inputs(), on=on):
            if value == 30:
                time.sleep(60)
        """,
        "processes",
    )
    scripts.append(script)
    script.wait_ready()
    time.sleep(0.5)
    script.interrupt()
    code, _, err = script.end()
    assert code in (130, -signal.SIGINT), err
    assert "KeyboardInterrupt" in err
    assert script.left() == []


@pytest.mark.parametrize("on", WAYS)
def test_a_run_that_is_left_over_at_exit_is_ended(on: str, scripts: list[Script]) -> None:
    script = Script("run = piecework.map(short, inputs(), on=on); print(next(run))", on)
    scripts.append(script)
    assert script.end()[0::2] == (0, "")
    assert script.left() == []


@pytest.mark.parametrize("on", WAYS)
def test_an_error_in_the_readers_code_ends_the_run(on: str, scripts: list[Script]) -> None:
    script = Script("for value in piecework.map(short, inputs(), on=on): 1 / 0", on)
    scripts.append(script)
    code, _, err = script.end()
    assert code == 1
    assert err.rstrip().endswith("ZeroDivisionError: division by zero")
    assert script.left() == []


@pytest.mark.parametrize("on", ["threads", "processes"])
def test_a_source_that_blocks_for_ever_does_not_hold_up_the_exit(
    on: str, scripts: list[Script]
) -> None:
    script = Script(
        """
        def blocked():
            yield from range(3)
            time.sleep(1000)
        run = piecework.map(short, blocked(), on=on)
        print([next(run) for _ in range(3)], flush=True)
        """,
        on,
    )
    scripts.append(script)
    assert script.end() == (0, "[0, 1, 2]\n", "")
    assert script.left() == []


def test_a_reader_of_stdin_may_exit_while_it_waits_for_a_line(scripts: list[Script]) -> None:
    read, write = os.pipe()
    code = HEAD + "run = piecework.map(str.strip, sys.stdin, on=on); print(next(run), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "threads"],
        stdin=read,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(read)
    try:
        os.write(write, b"one\n")
        out, err = process.communicate(timeout=20)
        assert out == "one\n"
        assert (process.returncode, err) == (0, "")
    finally:
        os.close(write)
        process.kill()


def test_a_second_ctrl_c_breaks_into_a_callback_that_takes_its_time(scripts: list[Script]) -> None:
    script = Script(
        """
        def slow(future):
            print("ready", flush=True)
            try:
                time.sleep(60)
            finally:
                print("left", flush=True)

        with piecework.ProcessExecutor(1) as executor:
            future = executor.submit(short, 1)
            future.add_done_callback(slow)
            try:
                executor.submit(time.sleep, 60).result()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
                executor.kill_workers()
        """,
        "processes",
    )
    scripts.append(script)
    script.wait_ready()
    script.interrupt()
    with pytest.raises(subprocess.TimeoutExpired):  # the first one waits for it
        script.process.wait(0.5)
    script.interrupt()
    code, out, err = script.end()
    assert (code, out, err) == (0, "left\ninterrupted\n", "")
    assert script.left() == []


@pytest.mark.parametrize("on", WAYS)
def test_ctrl_c_says_how_to_go_on_where_there_is_a_journal(
    on: str, scripts: list[Script], tmp_path: Path
) -> None:
    path = tmp_path / "kept.journal"
    script = Script(
        f"for v in piecework.map(short, inputs(), on=on, journal={str(path)!r}): pass", on
    )
    scripts.append(script)
    script.wait_ready()
    script.interrupt()
    code, _, err = script.end()
    assert code in (130, -signal.SIGINT)
    assert f"What is done is kept in {path}" in err
    assert "resume=True" in err
    assert script.left() == []


def test_a_deadline_says_how_to_go_on_where_there_is_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "kept.journal"
    run = piecework.map(str, waits(), on="threads", deadline=0.2, journal=path)
    with pytest.raises(piecework.DeadlineExceeded) as caught:
        list(run)
    run.close()
    assert "resume=True" in caught.value.__notes__[0]


def waits() -> Iterator[int]:
    yield from range(3)
    threading.Event().wait(1.0)
