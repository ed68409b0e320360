"""CommandExecutor: the batch contract, and what only commands have."""

from __future__ import annotations

import itertools
import os
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from piecework import CommandFailed, command
from piecework.errors import UsageError
from piecework.executors.command import CommandExecutor
from piecework.task import Batch
from tests.executors.gate import PATIENCE, Gate
from tests.executors.test_batches import Reports

_ids = itertools.count(1)
AT_THE_GATE = """
import os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(str(os.getpid()).encode())
connection.recv(1)
"""


def batch(payloads: Any, first: int = 0) -> Batch:
    payloads = list(payloads)
    return Batch(next(_ids), range(first, first + len(payloads)), payloads)


def at(gate: Gate) -> Any:
    """A command that waits at the gate."""
    return command([sys.executable, "-S", "-E", "-c", AT_THE_GATE, gate.path])


@pytest.fixture
def executor() -> Iterator[CommandExecutor]:
    made = CommandExecutor(2)
    yield made
    made.shutdown(cancel_futures=True)


class Watcher:
    def __init__(self) -> None:
        self.begun: list[tuple[Any, ...]] = []
        self.printed: dict[tuple[int, int], list[bytes]] = {}
        self.ended: list[tuple[Any, ...]] = []
        self.changed = threading.Condition()

    def started(self, *what: Any) -> None:
        with self.changed:
            self.begun.append(what)
            self.changed.notify_all()

    def output(self, index: int, stream: int, data: bytes) -> None:
        with self.changed:
            self.printed.setdefault((index, stream), []).append(data)
            self.changed.notify_all()

    def finished(self, *what: Any) -> None:
        with self.changed:
            self.ended.append(what)
            self.changed.notify_all()


def test_every_position_is_reported_once(executor: CommandExecutor) -> None:
    reports = Reports(60)
    call = executor.prepare(command("printf %s", encoding="utf-8"))
    for first in range(0, 60, 20):
        executor.submit_batch(call, batch(range(first, first + 20), first), reports)
    reports.until_left()
    assert {n: value.stdout for n, value in reports.values.items()} == {
        n: str(n) for n in range(60)
    }
    assert all(report.worker for report in reports.all)


def test_a_bad_end_is_a_failure_in_a_report(executor: CommandExecutor) -> None:
    reports = Reports(3)
    call = executor.prepare(command("exit {}", shell=True))
    executor.submit_batch(call, batch([0, 3, 0]), reports)
    reports.until_left()
    assert list(reports.failures) == [1]
    assert reports.failures[1].exitcode == 3


def test_as_many_run_as_there_are_slots(gate: Gate) -> None:
    executor = CommandExecutor(3)
    reports = Reports(5)
    executor.submit_batch(executor.prepare(at(gate)), batch(range(5)), reports)
    gate.arrived(3)
    assert executor.busy == 3
    assert [index for index, *_ in executor.running] == [0, 1, 2]
    gate.open()
    reports.until_left()
    assert {value.slot for value in reports.values.values()} <= {1, 2, 3}
    executor.shutdown()
    assert executor.busy == 0


def test_what_has_ended_does_not_wait_for_what_still_runs(
    executor: CommandExecutor, gate: Gate
) -> None:
    reports = Reports(10)
    held = Reports(1)
    executor.submit_batch(executor.prepare(at(gate)), batch([0]), held)
    gate.arrived(1)
    executor.submit_batch(executor.prepare(command("true")), batch(range(10)), reports)
    reports.until_left()
    gate.open()
    held.until_left()


def test_cancelling_gives_up_what_has_not_started(gate: Gate) -> None:
    executor = CommandExecutor(1)
    reports = Reports(20)
    call = executor.prepare(at(gate))
    executor.submit_batch(call, batch(range(20)), reports)
    gate.arrived(1)
    executor.cancel(call)
    gate.open()
    reports.until_left()
    assert 0 not in reports.failures
    assert {failure.cause for failure in reports.failures.values()} == {"cancelled"}
    executor.shutdown()


def test_killing_ends_what_runs_and_leaves_other_calls_alone(gate: Gate) -> None:
    executor = CommandExecutor(2)
    killed, others = Reports(5), Reports(1)
    call = executor.prepare(at(gate))
    executor.submit_batch(executor.prepare(at(gate)), batch([0]), others)
    executor.submit_batch(call, batch(range(5)), killed)
    gate.arrived(2)
    executor.cancel(call, kill=True)
    killed.until_left()
    assert {failure.cause for failure in killed.failures.values()} == {"cancelled"}
    gate.open()
    others.until_left()
    assert not others.failures
    executor.shutdown()


def test_shutting_down_gives_up_what_has_not_started(gate: Gate) -> None:
    executor = CommandExecutor(1)
    reports = Reports(30)
    call = executor.prepare(at(gate))
    executor.submit_batch(call, batch(range(30)), reports)
    gate.arrived(1)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown()
    reports.until_left()
    assert {failure.cause for failure in reports.failures.values()} <= {"cancelled"}
    with pytest.raises(RuntimeError):
        executor.submit_batch(call, batch([1]), reports)


def test_room_is_bounded_and_comes_back(gate: Gate) -> None:
    executor = CommandExecutor(2)
    call = executor.prepare(at(gate))
    reports, count = Reports(0), 0
    while executor.room() > 0:
        executor.submit_batch(call, batch([count], count), reports)
        count += 1
        assert count <= 64
    assert count >= 2
    gate.open()
    reports.until_left(-count)
    assert executor.room() > 0
    executor.shutdown()


def test_batches_may_be_submitted_from_many_threads(executor: CommandExecutor) -> None:
    reports = Reports(40)
    call = executor.prepare(command("true"))

    def work(number: int) -> None:
        executor.submit_batch(call, batch(range(10), number * 10), reports)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    reports.until_left()
    assert not reports.failures


def test_only_commands_are_taken(executor: CommandExecutor) -> None:
    for wrong in (3, len):
        with pytest.raises(UsageError, match=r"piecework\.command"):
            executor.prepare(wrong)  # type: ignore[arg-type]


def test_submit_gives_a_future(executor: CommandExecutor) -> None:
    assert executor.submit(command("echo {}"), "x").result().stdout == b"x\n"
    with pytest.raises(CommandFailed, match="exit code 3"):
        executor.submit(command("exit {}", shell=True), 3).result()
    with pytest.raises(TypeError):
        executor.submit(command("true"))


def test_leaving_the_block_waits_for_all() -> None:
    with CommandExecutor(2) as executor:
        futures = [executor.submit(command("sleep 0.1", append=False), n) for n in range(4)]
    assert all(future.result().returncode == 0 for future in futures)
    with pytest.raises(RuntimeError):
        executor.submit(command("true"), 1)


def test_a_watcher_is_told_of_all(tmp_path: Path) -> None:
    watcher = Watcher()
    executor = CommandExecutor(1, watcher=watcher)
    reports = Reports(2)
    script = "printf 'one\\ntw'; printf 'o\\n'; echo bad >&2; printf three; exit {}"
    executor.submit_batch(executor.prepare(command(script, shell=True)), batch([0, 5]), reports)
    reports.until_left()
    executor.shutdown()
    for index in (0, 1):
        assert b"".join(watcher.printed[index, 1]) == b"one\ntwo\nthree"
        assert all(part.endswith((b"\n", b"three")) for part in watcher.printed[index, 1])
        assert watcher.printed[index, 2] == [b"bad\n"]
    assert [(index, attempt, slot) for index, attempt, slot, *_ in watcher.begun] == [
        (0, 1, 1),
        (1, 1, 1),
    ]
    (first, second) = watcher.ended
    assert first[2].returncode == 0
    assert first[3] is None
    assert second[2].stdout == b"one\ntwo\nthree"
    assert second[3].exitcode == 5


def test_a_watcher_that_fails_costs_the_tasks_and_hangs_nobody() -> None:
    class Bad:
        def output(self, index: int, stream: int, data: bytes) -> None:
            raise OSError("its terminal is gone")

    executor = CommandExecutor(2, watcher=Bad())
    reports = Reports(6)
    script = "echo x; sleep 1000"
    call = executor.prepare(command(script, shell=True, append=False))
    executor.submit_batch(call, batch(range(6)), reports)
    reports.until_left()
    assert len(reports.failures) == 6
    assert "terminal" in next(iter(reports.failures.values())).message
    executor.shutdown()


def test_without_capture_the_end_of_standard_error_is_kept() -> None:
    executor = CommandExecutor(1, capture=False)
    call = executor.prepare(command("echo out; echo err >&2; exit 1", shell=True, append=False))
    reports = Reports(1)
    executor.submit_batch(call, batch([1]), reports)
    reports.until_left()
    executor.shutdown()
    assert reports.failures[0].output == "err"
    assert reports.failures[0].result.out.size == 4  # type: ignore[union-attr]


def test_a_gate_decides_when_the_next_one_starts() -> None:
    asked: list[int] = []

    def gate(running: int) -> float:
        asked.append(running)
        return 0.01 if len(asked) % 2 else 0.0

    executor = CommandExecutor(2, gate=gate)
    reports = Reports(4)
    executor.submit_batch(executor.prepare(command("true")), batch(range(4)), reports)
    reports.until_left()
    executor.shutdown()
    assert len(asked) >= 8


def test_the_youngest_can_be_given_back_and_runs_again(gate: Gate) -> None:
    watcher = Watcher()
    executor = CommandExecutor(2, watcher=watcher)
    reports = Reports(2)
    executor.submit_batch(executor.prepare(at(gate)), batch(range(2)), reports)
    gate.arrived(2)
    assert executor.give_back_youngest()
    gate.arrived(3)
    gate.open()
    reports.until_left()
    assert not reports.failures
    assert sum(report.repeats for report in reports.all) == 1
    assert [what[0] for what in watcher.begun] == [0, 1, 1]
    assert not executor.give_back_youngest()
    executor.shutdown()


def test_a_time_limit_may_change_while_commands_run() -> None:
    limits: list[float | None] = [None]
    executor = CommandExecutor(1, time_limit=lambda: limits[0])
    reports = Reports(1)
    call = executor.prepare(command("sleep 1000", append=False))
    executor.submit_batch(call, batch([1]), reports)
    limits[0] = 0.2
    reports.until_left()
    assert reports.failures[0].cause == "timeout"
    executor.shutdown()


def test_children_get_three_descriptors_and_none_of_ours(executor: CommandExecutor) -> None:
    reports = Reports(20)
    call = executor.prepare(command("ls /proc/self/fd", append=False, input=b"x"))
    executor.submit_batch(call, batch(range(20)), reports)
    reports.until_left()
    theirs = {b"%d" % fd for fd in range(256) if fd > 2 and inheritable(fd)}
    for value in reports.values.values():
        assert len(set(value.stdout.split()) - theirs) == 4  # one is the folder that ls reads


def inheritable(fd: int) -> bool:
    """Whether this process began with it open for whatever it starts."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_nothing_is_left_open() -> None:
    for _ in range(2):
        before = len(os.listdir("/proc/self/fd"))
        executor = CommandExecutor(4)
        reports = Reports(20)
        call = executor.prepare(command("head -c 400000 /dev/zero", append=False, input=b"x"))
        executor.submit_batch(call, batch(range(20)), reports)
        reports.until_left()
        executor.shutdown()
        executor.loop.join()
        del executor, call, reports
        after = len(os.listdir("/proc/self/fd"))
    assert after <= before


def test_no_more_run_than_descriptors_allow() -> None:
    running: list[int] = []
    executor = CommandExecutor(50, gate=lambda count: running.append(count) or 0.0)  # type: ignore[func-returns-value]
    reports = Reports(60)
    call = executor.prepare(command("sleep 0.2", append=False))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 40, hard))
        executor.submit_batch(call, batch(range(60)), reports)
        reports.until_left()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not reports.failures
    assert 1 <= max(running) < 50
    executor.shutdown()


def test_where_pidfds_are_missing_a_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    executor = CommandExecutor(2)
    reports = Reports(10)
    executor.submit_batch(executor.prepare(command("echo {}")), batch(range(10)), reports)
    reports.until_left()
    assert {n: value.stdout for n, value in reports.values.items()} == {
        n: f"{n}\n".encode() for n in range(10)
    }
    executor.shutdown()


def test_who_was_hit_by_a_signal_for_us_while_it_started_runs_again(tmp_path: Path) -> None:
    executor = CommandExecutor(1)
    reports = Reports(1)
    script = "test -e {} || { touch {}; kill -INT $$; }; echo again"
    executor.submit_batch(
        executor.prepare(command(script, shell=True)), batch([str(tmp_path / "once")]), reports
    )
    reports.until_left()
    executor.shutdown()
    assert reports.values[0].stdout == b"again\n"
    assert reports.all[0].repeats == 1
