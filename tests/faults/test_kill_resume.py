"""A run is killed -9 at any instant, again and again, and goes on each time.

PIECEWORK_FAULT_KILLS=50 kills a run of 100,000 tasks fifty times.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from piecework.journal.reader import Reader
from tests.executors.processes import environment, kill_marked
from tests.faults import resumed

KILLS = int(os.environ.get("PIECEWORK_FAULT_KILLS", "0"))
COUNT = 100_000 if KILLS else 8_000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    made = environment(TMPDIR=str(tmp_path), PYTHONPATH=str(ROOT))
    yield made
    kill_marked(made)


class Program:
    """The run, as a program of its own that is started again and again."""

    def __init__(self, folder: Path, on: str, count: int, environ: dict[str, str]) -> None:
        self.journal, self.ran = folder / "x.journal", folder / "ran"
        self._on, self._count, self._environ = on, count, environ

    def start(self, order: int = 0) -> subprocess.Popen[str]:
        arguments = [self.journal, self.ran, self._count, self._on, order]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.resumed", *map(str, arguments)],
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def kill_at_random(self, chance: random.Random, longest: float, order: int = 0) -> bool:
        """Whether it was killed; False where it had ended before."""
        process = self.start(order)
        try:
            _, errors = process.communicate(timeout=chance.uniform(0.05, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        assert process.returncode == 0, errors
        return False

    def finish(self, order: int = 0) -> str:
        process = self.start(order)
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return said


def recorded(path: Path) -> Counter[int]:
    with Reader(path) as reader:
        results = list(reader.results())
    assert all(result.ok and result.value == result.input * 3 for result in results)
    return Counter(result.input for result in results)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("on", ["processes", "threads", "inline"])
def test_every_input_has_one_result_and_no_more_ran_twice_than_was_in_flight(
    on: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    chance = random.Random(f"{on} {KILLS}")
    program = Program(tmp_path, on, COUNT, environ)
    wanted = KILLS or 5
    killed = sum(program.kill_at_random(chance, 0.5) for _ in range(wanted))
    said = program.finish()
    assert recorded(program.journal) == Counter(range(COUNT))
    executions = resumed.ran(str(program.ran))
    assert set(executions) == set(range(COUNT))
    with Reader(program.journal) as reader:
        counts, sessions = reader.counts(), reader.sessions()
    deaths = sum(1 for number in range(0, COUNT, resumed.DEADLY)) if on == "processes" else 0
    lost = sum(session.repeats for session in sessions)
    assert len(executions) - COUNT <= counts.in_flight + deaths + lost
    if not deaths:
        assert len(executions) - COUNT <= counts.in_flight
    assert counts.done == COUNT
    # One that was killed before it had begun left no session behind.
    assert sum(session.why == "killed" for session in sessions) <= killed
    if counts.in_flight:
        assert f"{counts.in_flight:,} were in flight" in said
    print(
        f"{on}: {killed} kills, {len(executions) - COUNT} executions more than {COUNT}, "
        f"{counts.in_flight} were in flight"
    )


@pytest.mark.timeout(900)
def test_inputs_may_be_reordered_added_and_removed_between(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    chance = random.Random(KILLS)
    program = Program(tmp_path, "threads", COUNT, environ)
    for order in range(1, (KILLS or 5) + 1):
        program.kill_at_random(chance, 0.6, order)
    last = resumed.inputs(COUNT, 77)
    program.finish(order=77)
    found = recorded(program.journal)
    wanted = Counter(last)
    assert all(found[number] >= times for number, times in wanted.items())
    program.finish(order=0)
    found = recorded(program.journal)
    assert set(found) == set(range(COUNT))
    executions = resumed.ran(str(program.ran))
    with Reader(program.journal) as reader:
        counts = reader.counts()
    # Those given twice were recorded twice; nothing else ran more often than it was in flight.
    assert len(executions) - counts.done <= counts.in_flight
    assert counts.done <= COUNT + COUNT // 20
