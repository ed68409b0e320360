"""`ProcessExecutor.map`: lazy drawing and results in order; test_contract.py has the rest."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.executors.mapping import _Part
from piecework.executors.process import ProcessExecutor
from piecework.executors.work import BatchWork
from piecework.task import Batch, Failure, Report
from tests.executors import process_tasks as tasks
from tests.executors.gate import Gate

PATIENCE = 20.0


@pytest.fixture(scope="module")
def pair() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms())
def test_reports_in_any_order_are_handed_over_in_the_order_of_the_inputs(
    sizes: list[int], dice: Any
) -> None:
    total = sum(sizes)
    batch = Batch(1, range(total), [])
    reports, offset = [], 0
    for size in sizes:
        values = list(range(offset, offset + size))
        failures = {offset: Failure("E", "")} if offset % 2 else {}
        reports.append(Report(batch, offset, values, failures, [(size, 0.0)], "w"))
        offset += size
    dice.shuffle(reports)
    part = _Part(total)
    told: set[int] = set()
    for report in reports:
        part.add(report)
        told |= set(range(report.offset, report.offset + len(report)))
        ready = next(n for n in range(total + 1) if n not in told)
        assert part.ready == ready
        assert part.values == list(range(ready))
    assert set(part.failures) == {r.offset for r in reports if r.offset % 2}


def test_inputs_may_wait_for_what_another_thread_does_with_the_same_executor(
    pair: ProcessExecutor,
) -> None:
    inputs: queue.Queue[int | None] = queue.Queue()

    def feed() -> None:
        for number in range(5):
            inputs.put(pair.submit(tasks.identity, number).result(PATIENCE))
        inputs.put(None)

    results: list[int] = []
    mapper = threading.Thread(
        target=lambda: results.extend(pair.map(tasks.identity, iter(inputs.get, None))),
        daemon=True,
    )
    feeder = threading.Thread(target=feed, daemon=True)
    mapper.start()
    feeder.start()
    mapper.join(PATIENCE)
    assert not mapper.is_alive(), "the map and its own input wait for each other"
    assert results == list(range(5))


def test_inputs_may_come_from_another_map_of_the_same_executor(pair: ProcessExecutor) -> None:
    first = pair.map(tasks.identity, range(3000))
    assert list(pair.map(tasks.identity, first)) == list(range(3000))


def test_a_slow_input_holds_up_nobody_else(pair: ProcessExecutor) -> None:
    drawing, go_on = threading.Event(), threading.Event()

    def inputs() -> Iterator[int]:
        yield 1
        drawing.set()
        assert go_on.wait(PATIENCE)
        yield 2

    results: list[int] = []
    slow = threading.Thread(target=lambda: results.extend(pair.map(tasks.identity, inputs())))
    slow.start()
    assert drawing.wait(PATIENCE)
    assert pair.submit(tasks.identity, 7).result(PATIENCE) == 7
    assert list(pair.map(tasks.identity, range(100))) == list(range(100))
    go_on.set()
    slow.join(PATIENCE)
    assert results == [1, 2]


def test_an_input_that_uses_its_own_map_is_no_deadlock(pair: ProcessExecutor) -> None:
    results: list[Any] = []

    def inputs() -> Iterator[int]:
        for number in range(20):
            pair.submit(tasks.identity, number)
            yield number

    results += pair.map(tasks.identity, inputs(), chunksize=3)
    assert results == list(range(20))


def test_a_paused_consumer_pauses_the_drawing(pair: ProcessExecutor) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            drawn.append(number)
            yield number
            number += 1

    results = pair.map(tasks.identity, endless(), buffersize=50)
    assert [next(results) for _ in range(10)] == list(range(10))
    wait_for_quiet(pair)
    assert len(drawn) <= 10 + 50 + 50  # what was handed over inside and what may be ahead
    before = len(drawn)
    wait_for_quiet(pair)
    assert len(drawn) == before
    results.close()  # type: ignore[attr-defined]


def wait_for_quiet(executor: ProcessExecutor) -> None:
    """Every worker has done what it had, and what it told has been handled."""
    for _ in range(3):
        list(executor.map(tasks.identity, range(10), chunksize=1))


def test_a_map_that_is_given_up_leaves_the_executor_to_others(
    pair: ProcessExecutor, gate: Gate
) -> None:
    results = pair.map(tasks.identity, iter(range(10**9)))
    assert next(results) == 0
    del results
    gc.collect()
    assert pair.submit(tasks.identity, 3).result(PATIENCE) == 3


def test_several_maps_at_once_keep_to_their_own_results(pair: ProcessExecutor) -> None:
    maps = [pair.map(tasks.identity, range(n, n + 500), chunksize=7) for n in range(0, 3000, 500)]
    taken: list[list[int]] = [[] for _ in maps]
    for _ in range(500):
        for results, into in zip(maps, taken, strict=True):
            into.append(next(results))
    assert taken == [list(range(n, n + 500)) for n in range(0, 3000, 500)]


def test_a_map_behind_the_work_of_others_waits_in_line_and_does_not_spin() -> None:
    with Gate() as gate, ProcessExecutor(1) as executor:
        for _ in range(4):
            executor.submit(tasks.hold_at, gate.path, 0, 0)
        gate.arrived(1)
        assert executor.room() == 0
        values = executor.map(abs, range(5))
        assert any(isinstance(stretch.work, BatchWork) for stretch in executor._engine.pending)
        gate.open()
        assert list(values) == [0, 1, 2, 3, 4]
