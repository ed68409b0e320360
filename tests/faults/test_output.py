"""What was printed before a death, beside many others, into nothing, or without end."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

import piecework
from piecework.executors.process import ProcessExecutor
from piecework.tail import LINES_MAX

METHODS = ["fork", "forkserver", "spawn"]
PATIENCE = 60


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def print_and_die(how: str) -> None:
    print("first line")
    print("last words", file=sys.stderr)
    print("unfinished", end="")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "leave":
        os._exit(3)
    elif how == "hang":
        time.sleep(PATIENCE)


@pytest.mark.parametrize("how", ["kill", "segfault", "leave", "hang"])
def test_last_words_are_in_the_failure(
    how: str, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = piecework.map(
        print_and_die, ["live", how, "live"], on="processes", workers=2, mp_context=method,
        task_timeout=1 if how == "hang" else None, batch_size=1,
    )  # fmt: skip
    (bad,) = (result for result in run.results() if not result.ok)
    assert bad.index == 1
    assert bad.failure is not None
    assert bad.failure.output == "first line\nlast words\nunfinished\n"
    run.close()
    lines = Counter(re.findall(r"\d \| process #?\d+\] (.*)", capsys.readouterr().err))
    assert lines == {"first line": 3, "last words": 3, "unfinished": 3}


def test_in_a_batch_only_its_own_lines_are_blamed(capsys: pytest.CaptureFixture[str]) -> None:
    run = piecework.map(
        print_and_die, ["live"] * 20 + ["kill"] + ["live"] * 20, on="processes", workers=1,
        batch_size=41,
    )  # fmt: skip
    (bad,) = (result for result in run.results() if not result.ok)
    assert bad.index == 20
    assert bad.failure is not None
    assert bad.failure.output == "first line\nlast words\nunfinished\n"


def many_lines(number: int) -> int:
    for line in range(10_000):
        print(f"{number:02}:{line:05}:" + "x" * (line % 200))
    return number


def test_eight_workers_tear_no_line_and_lose_none(capfd: pytest.CaptureFixture[str]) -> None:
    assert sorted(piecework.map(many_lines, range(8), on="processes", workers=8)) == list(range(8))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 80_000
    seen = [0] * 8
    for line in lines:
        found = re.fullmatch(r"\[many_lines (\d) \| process #?\d+\] (\d\d):(\d{5}):(x*)", line)
        assert found, line
        number, at = int(found[2]), int(found[3])
        assert int(found[1]) == number
        assert at == seen[number]  # in the order in which they were printed
        assert len(found[4]) == at % 200
        seen[number] += 1


def from_threads(number: int) -> int:
    def say(thread: int) -> None:
        for line in range(200):
            print(thread, "prints", line)
            logging.getLogger("tests.threads").warning("%d logs %d", thread, line)

    threads = [threading.Thread(target=say, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return number


def test_threads_in_a_task_tear_nothing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert list(piecework.map(from_threads, range(2), on="processes", workers=2)) == [0, 1]
    lines = capsys.readouterr().err.splitlines()
    pattern = re.compile(r"\[from_threads \d \| process #?\d+\] \d prints \d+")
    assert len(lines) == 2 * 4 * 200
    assert all(pattern.fullmatch(line) for line in lines)
    records = [record for record in caplog.records if record.name == "tests.threads"]
    assert len(records) == 2 * 4 * 200
    assert {record.task for record in records} == {0, 1}  # type: ignore[attr-defined]


def garbage(case: tuple[int, int]) -> None:
    fd, number = case
    for _ in range(50):
        os.write(fd, os.urandom(5000))
        print("between")
    os.write(fd, b"\n")
    print("readable", number)
    raise ValueError(number)


@pytest.mark.parametrize("fd", [1, 2])
def test_binary_garbage_between_the_records_harms_none(fd: int, method: str) -> None:
    inputs = [(fd, number) for number in range(4)]
    run = piecework.map(garbage, inputs, on="processes", workers=2, mp_context=method)
    for result in run.results():
        assert result.failure is not None
        assert result.failure.type == "ValueError"
        lines = result.failure.output.split("\n")
        assert len(lines) <= LINES_MAX + 1
        if fd == 1:  # the two pipes are not in one order
            assert f"readable {result.index}" in lines


SLOW = """
import piecework, re, sys

def much(number):
    for _ in range(300):
        print("x" * 9999)
    sys.stdout.write("y" * 3_000_000)  # and a line without end
    return number

run = piecework.map(much, range(40), on="processes", workers=2, task_timeout=2)
summary = run.wait()
with open("/proc/self/status") as status:
    peak = re.search(r"VmHWM:\\s+(\\d+)", status.read())[1]
print(summary.done, int(peak) // 1024)
"""


def test_a_reader_that_stops_holds_up_the_tasks_and_nothing_grows() -> None:
    """240 MB, more than the time limit without a reader: no task is ended for it."""
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.read(1)  # it has begun to print
        time.sleep(4)  # the thing itself: a reader that takes nothing for longer than the limit
        sizes = Counter(len(line.partition(b"] ")[2]) for line in process.stderr)
        done, peak = process.stdout.read().split()
    assert int(done) == 40
    assert sizes[10_000] >= 40 * 300 - 1
    assert sum(size * count for size, count in sizes.items()) >= 40 * (300 * 9999 + 3_000_000)
    assert int(peak) < 100


CLOSED = """
import sys
import piecework

def say(number):
    print("out", number)
    print("err", number, file=sys.stderr)
    if number == 3:
        raise ValueError
    return number

run = piecework.map(say, range(6), on="processes", workers=2, mp_context={method!r})
results = list(run.results())
assert sum(result.ok for result in results) == 5
(bad,) = [result for result in results if not result.ok]
assert bad.failure.output == "out 3\\nerr 3\\n", bad.failure.output
with open({path!r}, "w") as file:
    file.write("fine")
"""


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_master_without_streams_works_all_the_same(
    closed: str, method: str, tmp_path: object
) -> None:
    path = f"{tmp_path}/fine"
    script = f"{tmp_path}/script.py"
    with open(script, "w") as file:
        file.write(CLOSED.format(method=method, path=path))
    command = f"{sys.executable} {script} {closed}"
    subprocess.run(["sh", "-c", command], check=True, timeout=PATIENCE)
    with open(path) as file:
        assert file.read() == "fine"


def configure() -> None:
    logging.basicConfig(level=logging.INFO, format="own %(message)s", stream=sys.stderr)


def log_info(number: int) -> int:
    logging.getLogger("tests.own").info("number %d", number)
    return number


def test_what_an_initializer_configures_is_not_doubled(
    method: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with ProcessExecutor(2, method, initializer=configure) as executor:
        assert list(executor.map(log_info, range(4))) == [0, 1, 2, 3]
    assert sorted(capsys.readouterr().err.splitlines()) == [f"own number {n}" for n in range(4)]
    assert not caplog.records


def leave_somebody_behind(number: int) -> int:
    subprocess.Popen(["sh", "-c", f"sleep 0.3; echo late {number}"])
    return number


def test_what_a_task_leaves_running_is_heard_while_the_executor_lives(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProcessExecutor(1, max_tasks_per_child=1) as executor:
        assert executor.submit(leave_somebody_behind, 1).result(PATIENCE) == 1
        assert executor.submit(time.sleep, 0.6).result(PATIENCE) is None
    assert "late 1\n" in capsys.readouterr().out


def test_two_maps_at_once_tear_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        assert list(piecework.map(many_lines, range(1), on="processes", workers=1)) == [0]

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 20_000
    assert all(
        re.fullmatch(r"\[many_lines 0 \| process #?\d+\] 00:\d{5}:x*", line) for line in lines
    )
