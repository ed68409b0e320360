"""The contract of `concurrent.futures.Executor`, for every executor and every start method."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, BrokenExecutor, CancelledError
from pathlib import Path
from typing import Any

import pytest

from tests.executors.conftest import Mode
from tests.executors.gate import PATIENCE, Gate

# -- submit ----------------------------------------------------------------------------------


def test_a_call_returns_its_result(mode: Mode, shared: Any) -> None:
    future = shared.submit(mode.tasks.square, 7)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) == 49
    assert future.done()
    assert not future.cancelled()
    assert future.exception() is None


def test_any_keyword_reaches_the_function(mode: Mode, shared: Any) -> None:
    future = shared.submit(mode.tasks.capture, 1, self=2, fn=3, timeout=4, future=5)
    assert future.result(PATIENCE) == ((1,), {"self": 2, "fn": 3, "timeout": 4, "future": 5})
    with pytest.raises(TypeError):
        shared.submit(fn=mode.tasks.capture)


def test_an_exception_keeps_its_type_and_its_traceback(mode: Mode, shared: Any) -> None:
    future = shared.submit(mode.tasks.fail, 5)
    error = future.exception(PATIENCE)
    assert type(error) is mode.tasks.OwnError
    assert (error.code, error.detail) == (5, "on purpose")
    text = "".join(traceback.format_exception(error))
    assert "in fail_deeply" in text
    assert "on purpose" in text
    with pytest.raises(mode.tasks.OwnError, match="on purpose"):
        future.result(PATIENCE)


def test_wrong_arguments_are_the_calls_own_failure(mode: Mode, shared: Any) -> None:
    assert isinstance(shared.submit(mode.tasks.square).exception(PATIENCE), TypeError)
    assert shared.submit(mode.tasks.square, 2).result(PATIENCE) == 4


@pytest.mark.parametrize(
    ("name", "kind"), [("leave", SystemExit), ("interrupt", KeyboardInterrupt)]
)
def test_leaving_costs_that_task_only(mode: Mode, shared: Any, name: str, kind: type) -> None:
    bad = shared.submit(getattr(mode.tasks, name))
    good = [shared.submit(mode.tasks.square, n) for n in range(20)]
    assert type(bad.exception(PATIENCE)) is kind
    assert [future.result(PATIENCE) for future in good] == [n * n for n in range(20)]


def test_waiting_for_a_result_may_time_out(mode: Mode, shared: Any, gate: Gate) -> None:
    future = shared.submit(mode.tasks.hold, gate.path, "x")
    with pytest.raises(TimeoutError):
        future.result(timeout=0.02)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    gate.arrived(1)
    assert future.running()
    gate.open()
    assert future.result(PATIENCE) == "x"


def test_what_has_not_started_can_be_cancelled(mode: Mode, gate: Gate) -> None:
    with mode.make(1) as executor:
        running = executor.submit(mode.tasks.hold, gate.path, "running")
        gate.arrived(1)
        waiting = [executor.submit(mode.tasks.square, n) for n in range(600)]
        last = waiting[-1]
        assert last.cancel()
        assert last.cancelled()
        assert not running.cancel()
        with pytest.raises(CancelledError):
            last.result(PATIENCE)
        gate.open()
        assert running.result(PATIENCE) == "running"
        assert waiting[0].result(PATIENCE) == 0
    assert concurrent.futures.wait(waiting, timeout=0).not_done == set()


def test_callbacks_are_called_with_the_future(mode: Mode, shared: Any) -> None:
    called: list[Any] = []
    happened = threading.Event()

    def note(future: Any) -> None:
        called.append(future)
        happened.set()

    future = shared.submit(mode.tasks.square, 2)
    future.add_done_callback(note)
    assert happened.wait(PATIENCE)
    assert called == [future]


def test_a_callback_may_submit_and_wait_for_what_is_done(mode: Mode, shared: Any) -> None:
    results: list[int] = []
    finished = threading.Event()

    def go_on(future: Any) -> None:
        results.append(future.result())
        if len(results) < 5:
            shared.submit(mode.tasks.add, results[-1], 1).add_done_callback(go_on)
        else:
            finished.set()

    shared.submit(mode.tasks.add, 1).add_done_callback(go_on)
    assert finished.wait(PATIENCE)
    assert results == [1, 2, 3, 4, 5]


def test_a_callback_that_raises_is_logged_and_harms_nobody(
    mode: Mode, shared: Any, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()

    def bad(future: Any) -> None:
        called.set()
        raise ValueError("from the callback")

    shared.submit(mode.tasks.square, 2).add_done_callback(bad)
    assert called.wait(PATIENCE)
    assert shared.submit(mode.tasks.square, 3).result(PATIENCE) == 9


# -- wait, as_completed, threads -------------------------------------------------------------


def test_wait_returns_with_the_first_and_with_all(mode: Mode, shared: Any, gate: Gate) -> None:
    slow = shared.submit(mode.tasks.hold, gate.path, "slow")
    fast = shared.submit(mode.tasks.square, 3)
    done, not_done = concurrent.futures.wait(
        [slow, fast], timeout=PATIENCE, return_when=FIRST_COMPLETED
    )
    assert (done, not_done) == ({fast}, {slow})
    assert concurrent.futures.wait([slow], timeout=0.01).not_done == {slow}
    gate.open()
    assert concurrent.futures.wait([slow, fast], PATIENCE, ALL_COMPLETED).not_done == set()


def test_as_completed_yields_them_as_they_end(mode: Mode, shared: Any, gate: Gate) -> None:
    slow = shared.submit(mode.tasks.hold, gate.path, "slow")
    fast = [shared.submit(mode.tasks.square, n) for n in range(5)]
    completed = concurrent.futures.as_completed([slow, *fast], timeout=PATIENCE)
    assert {next(completed) for _ in fast} == set(fast)
    gate.open()
    assert list(completed) == [slow]


def test_many_threads_may_submit_at_once(mode: Mode, shared: Any) -> None:
    results: dict[int, list[int]] = {}

    def work(number: int) -> None:
        futures = [shared.submit(mode.tasks.add, number * 1000, n) for n in range(50)]
        results[number] = [future.result(PATIENCE) for future in futures]

    _in_threads(work, 8)
    assert results == {n: [n * 1000 + m for m in range(50)] for n in range(8)}


def test_many_threads_may_wait_for_one_result(mode: Mode, shared: Any, gate: Gate) -> None:
    future = shared.submit(mode.tasks.hold, gate.path, "one")
    results: dict[int, str] = {}

    def work(number: int) -> None:
        if number == 7:
            gate.arrived(1)
            gate.open()
        results[number] = future.result(PATIENCE)

    _in_threads(work, 8)
    assert results == dict.fromkeys(range(8), "one")


def test_many_threads_may_map_at_once(mode: Mode, shared: Any) -> None:
    results: dict[int, list[int]] = {}

    def work(number: int) -> None:
        results[number] = list(shared.map(mode.tasks.square, range(number * 100)))

    _in_threads(work, 4)
    assert results == {n: [m * m for m in range(n * 100)] for n in range(4)}


def _in_threads(work: Any, count: int) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_task_may_have_an_executor_of_its_own(mode: Mode, shared: Any, kind: str) -> None:
    futures = [shared.submit(mode.tasks.nested, kind, count) for count in (3, 4)]
    results = [future.result(PATIENCE) for future in futures]
    assert results == [[0, 1, 4], [0, 1, 4, 9]]


# -- map -------------------------------------------------------------------------------------


class Inputs:
    """Counts what was drawn of it."""

    def __init__(self, source: Any) -> None:
        self._source = iter(source)
        self.drawn = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        value = next(self._source)
        self.drawn += 1
        return value


def test_map_keeps_the_order_of_the_inputs(mode: Mode, shared: Any) -> None:
    assert list(shared.map(mode.tasks.square, range(500))) == [n * n for n in range(500)]
    assert list(shared.map(mode.tasks.square, iter(range(50)))) == [n * n for n in range(50)]
    assert list(shared.map(mode.tasks.square, [])) == []


def test_map_takes_several_iterables_and_stops_with_the_shortest(mode: Mode, shared: Any) -> None:
    assert list(shared.map(mode.tasks.add, range(10), itertools.count(100))) == [
        100 + 2 * n for n in range(10)
    ]


@pytest.mark.parametrize("chunksize", [1, 3, 1000])
def test_chunksize_changes_no_result(mode: Mode, shared: Any, chunksize: int) -> None:
    results = shared.map(mode.tasks.square, range(100), chunksize=chunksize)
    assert list(results) == [n * n for n in range(100)]


def test_an_endless_input_is_drawn_boundedly(mode: Mode, shared: Any) -> None:
    inputs = Inputs(itertools.count())
    results = shared.map(mode.tasks.square, inputs)
    assert [next(results) for _ in range(100)] == [n * n for n in range(100)]
    assert inputs.drawn < 100_000  # in flight: some milliseconds of work a slot
    results.close()


@pytest.mark.parametrize("buffersize", [1, 2, 7])
def test_a_buffer_bounds_what_is_drawn_ahead(mode: Mode, shared: Any, buffersize: int) -> None:
    inputs = Inputs(itertools.count())
    results = shared.map(mode.tasks.square, inputs, buffersize=buffersize)
    assert inputs.drawn <= buffersize
    for taken in range(1, 30):
        assert next(results) == (taken - 1) ** 2
        assert inputs.drawn <= taken + buffersize
    results.close()


def test_a_consumer_that_stops_stops_the_drawing(mode: Mode, shared: Any) -> None:
    inputs = Inputs(itertools.count())
    results = shared.map(mode.tasks.square, inputs, buffersize=10)
    next(results)
    results.close()
    drawn = inputs.drawn
    assert shared.submit(mode.tasks.square, 3).result(PATIENCE) == 9
    assert inputs.drawn == drawn <= 12
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("wrong", ["3", 1.5])
def test_a_buffersize_is_an_integer(mode: Mode, shared: Any, wrong: Any) -> None:
    with pytest.raises(TypeError):
        shared.map(mode.tasks.square, [1], buffersize=wrong)


@pytest.mark.parametrize("wrong", [{"buffersize": 0}, {"buffersize": -1}, {"chunksize": 0}])
def test_a_size_is_at_least_one(mode: Mode, shared: Any, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        shared.map(mode.tasks.square, [1], **wrong)


def test_map_raises_at_the_place_of_the_failure(mode: Mode, shared: Any) -> None:
    results = shared.map(mode.tasks.invert, [1, 2, 0, 4])
    assert next(results) == 1
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_an_input_that_raises_comes_after_what_was_drawn_before(mode: Mode, shared: Any) -> None:
    def inputs() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no sixth")

    results = shared.map(mode.tasks.square, inputs())
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(LookupError, match="no sixth"):
        next(results)


def test_map_times_out_from_the_call(mode: Mode, gate: Gate) -> None:
    with mode.make() as executor:
        list(executor.map(mode.tasks.square, range(4)))  # the workers are there
        results = executor.map(
            mode.tasks.hold_at_zero, itertools.repeat(gate.path), [1, 2, 0, 3], timeout=1.0
        )
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(TimeoutError):
            next(results)
        gate.open()


def test_map_runs_although_nobody_takes_its_results(mode: Mode, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with mode.make() as executor:
        executor.map(mode.tasks.mark, [str(marks)] * 10)
    assert marks.read_bytes() == b"." * 10


def test_a_map_over_a_list_goes_on_although_its_results_were_dropped(
    mode: Mode, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    with mode.make() as executor:
        executor.map(mode.tasks.mark, [str(marks)] * 3000)
    assert len(marks.read_bytes()) == 3000


def test_results_can_be_taken_after_shutdown(mode: Mode) -> None:
    with mode.make() as executor:
        results = executor.map(mode.tasks.square, range(3000))
    assert list(results) == [n * n for n in range(3000)]


def test_a_result_is_freed_when_it_was_handed_over(mode: Mode, shared: Any) -> None:
    for thing in shared.map(mode.tasks.make_thing, range(10)):
        reference = weakref.ref(thing)
        del thing
        gc.collect()
        assert reference() is None


def test_an_argument_is_freed_when_the_call_has_ended(mode: Mode, shared: Any) -> None:
    freed = threading.Event()
    thing = mode.tasks.Thing()
    reference = weakref.ref(thing, lambda _: freed.set())
    shared.submit(mode.tasks.take_thing, thing)
    del thing
    assert freed.wait(PATIENCE)
    assert reference() is None


# -- initializer -----------------------------------------------------------------------------


def test_the_initializer_runs_before_the_first_task(mode: Mode) -> None:
    with mode.make(2, initializer=mode.tasks.initialize, initargs=("ready",)) as executor:
        futures = [executor.submit(mode.tasks.get_initialized) for _ in range(10)]
        assert {future.result(PATIENCE) for future in futures} == {"ready"}
        assert set(executor.map(mode.tasks.get_initialized, range(10))) == {"ready"}


def test_an_initializer_that_fails_breaks_the_executor(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    with mode.make(2, initializer=mode.tasks.fail_to_initialize) as executor:
        try:
            futures = [executor.submit(mode.tasks.square, n) for n in range(3)]
        except BrokenExecutor:
            futures = []
        for future in futures:
            assert isinstance(future.exception(PATIENCE), BrokenExecutor)
        with pytest.raises(BrokenExecutor):
            _until_refused(executor, mode)


def _until_refused(executor: Any, mode: Mode) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        executor.submit(mode.tasks.square, 1).exception(PATIENCE)


def test_a_map_is_told_that_the_initializer_failed(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        mode.make(2, initializer=mode.tasks.fail_to_initialize) as executor,
        pytest.raises(BrokenExecutor),
    ):
        list(executor.map(mode.tasks.square, range(10)))


# -- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, -1])
def test_at_least_one_worker(mode: Mode, workers: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        mode.make(workers)


def test_an_initializer_is_callable(mode: Mode) -> None:
    with pytest.raises(TypeError):
        mode.make(1, initializer="no")


def test_workers_default(mode: Mode) -> None:
    with mode.make(None) as executor:
        assert executor.slots >= 1
        assert executor.submit(mode.tasks.square, 2).result(PATIENCE) == 4


# -- shutdown --------------------------------------------------------------------------------


def test_leaving_the_with_block_waits_for_all_work(mode: Mode) -> None:
    with mode.make() as executor:
        futures = [executor.submit(mode.tasks.square, n) for n in range(100)]
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [n * n for n in range(100)]


def test_an_executor_that_was_never_used_shuts_down(mode: Mode) -> None:
    with mode.make():
        pass
    mode.make().shutdown(wait=False, cancel_futures=True)


def test_nothing_is_taken_after_shutdown(mode: Mode) -> None:
    executor = mode.make()
    assert executor.submit(mode.tasks.square, 2).result(PATIENCE) == 4
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(mode.tasks.square, 2)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(executor.map(mode.tasks.square, [1]))


def test_shutdown_cancels_what_has_not_started(mode: Mode, gate: Gate) -> None:
    executor = mode.make(1)
    running = [executor.submit(mode.tasks.hold, gate.path, n) for n in range(executor.slots)]
    gate.arrived(executor.slots)
    waiting = [executor.submit(mode.tasks.square, n) for n in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown(wait=True)
    assert [future.result(PATIENCE) for future in running] == list(range(executor.slots))
    assert sum(future.cancelled() for future in waiting) > 40
    assert all(future.done() for future in waiting)


def test_shutdown_cancels_what_a_map_has_not_started(mode: Mode, gate: Gate) -> None:
    executor = mode.make(1)
    results = executor.map(
        mode.tasks.hold_at_zero, itertools.repeat(gate.path), [0, *range(1, 300)], chunksize=1
    )
    gate.arrived(1)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    with pytest.raises(CancelledError):
        list(results)
    executor.shutdown()


def test_shutdown_without_waiting_lets_the_work_end(mode: Mode, gate: Gate) -> None:
    executor = mode.make()
    futures = [executor.submit(mode.tasks.hold, gate.path, n) for n in range(4)]
    gate.arrived(1)
    executor.shutdown(wait=False)
    assert not any(future.done() for future in futures)
    gate.open()
    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2, 3]


def test_several_threads_may_shut_down_at_once(mode: Mode) -> None:
    executor = mode.make()
    futures = [executor.submit(mode.tasks.square, n) for n in range(20)]
    _in_threads(lambda _: executor.shutdown(), 4)
    assert all(future.done() for future in futures)


def test_a_dropped_executor_does_what_it_was_given(mode: Mode, gate: Gate) -> None:
    executor = mode.make()
    futures = [executor.submit(mode.tasks.hold, gate.path, n) for n in range(4)]
    reference = weakref.ref(executor)
    gate.arrived(1)
    del executor
    gc.collect()
    assert reference() is None
    gate.open()
    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2, 3]


def test_a_map_outlives_a_dropped_executor(mode: Mode) -> None:
    results = mode.make().map(mode.tasks.square, range(10))
    gc.collect()
    assert list(results) == [n * n for n in range(10)]


def test_a_cancelled_call_does_not_hold_up_the_end(mode: Mode) -> None:
    executor = mode.make(1)
    executor.submit(mode.tasks.square, 1).result(PATIENCE)
    executor.submit(mode.tasks.square, 1).cancel()
    executor.shutdown(wait=True)
