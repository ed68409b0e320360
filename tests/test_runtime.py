"""piecework.map and Run, on every way to run that can express the case."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

import piecework
from piecework import Result, Run, UsageError, WorkerLost

WAYS = ["inline", "threads", "processes"]


@pytest.fixture(params=WAYS)
def on(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def square(x: int) -> int:
    return x * x


def picky(x: int) -> int:
    if x % 10 == 3:
        raise ValueError(f"no {x}")
    return x


def kills_at_13(x: int) -> int:
    if x == 13:
        os.kill(os.getpid(), 9)
    return x


async def slowly(x: int) -> int:
    await asyncio.sleep(0.001)
    if x == 13:
        raise ValueError("no 13")
    return x


def all_of(run: Run[Any]) -> list[Any]:
    """Values and exceptions, in the order they come."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(run))
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)


# -- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [range(3000), [*range(3000)], (i for i in range(3000))])
def test_values_come_in_input_order(on: str, inputs: Any) -> None:
    inputs = inputs if on == "inline" or not isinstance(inputs, Iterator) else iter(range(3000))
    run = piecework.map(square, inputs, on=on)
    assert list(run) == [x * x for x in range(3000)]
    assert run.summary.ok
    assert run.summary.inputs == 3000


def test_no_inputs_give_no_values(on: str) -> None:
    assert list(piecework.map(square, [], on=on)) == []
    assert list(piecework.map(square, iter([]), on=on)) == []


def test_a_failure_raises_at_its_place_and_reading_goes_on_after_it(on: str) -> None:
    run = piecework.map(picky, range(20), on=on)
    found = all_of(run)
    assert [x if isinstance(x, int) else type(x) for x in found] == [
        ValueError if x % 10 == 3 else x for x in range(20)
    ]
    assert str(found[3]) == "no 3"
    assert (run.summary.done, run.summary.failed) == (18, 2)


def test_an_iterator_goes_on_after_what_it_raised(on: str) -> None:
    values = iter(piecework.map(picky, range(6), on=on))
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no 3"):
        next(values)
    assert list(values) == [4, 5]


def test_a_new_loop_goes_on_where_the_last_one_left(on: str) -> None:
    run = piecework.map(square, range(100), on=on)
    first = []
    for value in run:
        first.append(value)
        if len(first) == 7:
            break
    assert next(run) == 49
    assert [*first, 49, *run] == [x * x for x in range(100)]


def test_an_exception_of_a_process_keeps_its_type_and_tells_where() -> None:
    run = piecework.map(picky, [3], on="processes")
    with pytest.raises(ValueError, match="no 3") as caught:
        next(run)
    assert "picky" in str(caught.value.__cause__)
    assert "input" in "".join(caught.value.__notes__)


def test_inline_an_exception_has_its_own_traceback() -> None:
    run = piecework.map(picky, [3], on="inline")
    with pytest.raises(ValueError, match="no 3") as caught:
        next(run)
    assert caught.traceback[-1].name == "picky"


def test_values_are_freed_as_they_are_read() -> None:
    class Value:
        pass

    run = piecework.map(lambda _: Value(), range(50), on="threads", batch_size=50)
    values = iter(run)
    first = weakref.ref(next(values))
    second = next(values)
    gc.collect()
    assert first() is None
    assert isinstance(second, Value)
    run.close()


# -- results ----------------------------------------------------------------------------------


def test_results_tell_all_of_every_input(on: str) -> None:
    results = sorted(piecework.map(picky, range(20), on=on).results(), key=lambda r: r.index)
    assert [r.index for r in results] == [*range(20)]
    assert [r.input for r in results] == [*range(20)]
    assert [r.ok for r in results] == [x % 10 != 3 for x in range(20)]
    assert [r.value for r in results] == [None if x % 10 == 3 else x for x in range(20)]
    assert all(r.worker and r.attempt == 1 and r.seconds >= 0 for r in results)
    failure = results[3].failure
    assert failure is not None
    assert (failure.type, failure.message) == ("ValueError", "no 3")


def test_results_in_order_come_in_order(on: str) -> None:
    run = piecework.map(picky, range(500), on=on)
    assert [r.index for r in run.results(ordered=True)] == [*range(500)]


def test_results_come_as_they_are_done() -> None:
    gate = threading.Event()

    def wait_at_0(x: int) -> int:
        return x if x else (gate.wait(30), 0)[1]

    results = piecework.map(wait_at_0, range(5), on="threads", workers=2, batch_size=1).results()
    assert sorted(next(results).index for _ in range(4)) == [1, 2, 3, 4]
    gate.set()
    assert next(results).index == 0


def test_results_go_on_after_values(on: str) -> None:
    run = piecework.map(picky, range(30), on=on, batch_size=10)
    assert [next(run), next(run)] == [0, 1]
    results = list(run.results())
    assert sorted(r.index for r in results) == [*range(2, 30)]
    assert all(r.input == r.index for r in results)


def test_values_after_unordered_results_are_refused(on: str) -> None:
    run = piecework.map(square, range(30), on=on)
    next(run.results())
    with pytest.raises(UsageError, match="input order is lost"):
        next(iter(run))
    run.close()


# -- the account ------------------------------------------------------------------------------


def test_wait_returns_the_account_and_raises_nothing(on: str) -> None:
    summary = piecework.map(picky, range(1000), on=on, name="squares").wait()
    assert (summary.inputs, summary.total, summary.done, summary.failed) == (1000, 1000, 900, 100)
    assert not summary.ok
    (group,) = summary.groups
    assert group[:2] == (100, "ValueError")
    assert group.message.startswith("no ")
    assert "picky" in group.where
    assert len(group.examples) == 3
    text = str(summary)
    assert text.startswith("squares: 900 done in ")
    assert "100 × ValueError: no " in text
    assert text.endswith("1,000 inputs = 900 done + 100 failed + 0 quarantined + 0 cancelled")


def test_failures_are_known_by_index_and_in_groups(on: str) -> None:
    run = piecework.map(picky, range(40), on=on)
    run.wait()
    assert sorted(run.failures.indexes) == [3, 13, 23, 33]
    assert len(run.failures) == 4
    assert sorted(result.input for result in run.failures) == [3, 13, 23, 33]
    assert [group.count for group in run.failures.groups()] == [4]


def test_progress_is_told_with_the_final_counts_at_the_end(on: str) -> None:
    told: list[piecework.Progress] = []
    run = piecework.map(picky, range(100), on=on, progress=told.append)
    run.wait()
    run.close()
    assert (told[-1].done, told[-1].failed, told[-1].settled, told[-1].share) == (90, 10, 100, 1)


def test_a_progress_function_that_raises_is_not_called_again(on: str) -> None:
    calls: list[int] = []

    def broken(progress: piecework.Progress) -> None:
        calls.append(1)
        raise OSError("no terminal")

    run = piecework.map(square, range(100), on=on, progress=broken)
    with pytest.warns(RuntimeWarning, match="progress raised OSError: no terminal"):  # noqa: PT031  # told at either
        run.wait()
        run.close()
    assert len(calls) == 1


# -- retries and losses -----------------------------------------------------------------------


def test_failed_tasks_are_tried_again(on: str, tmp_path: Any) -> None:
    def flaky(x: int) -> int:
        mark = tmp_path / str(x)
        if x % 5 == 0 and not mark.exists():
            mark.touch()
            raise OSError("not yet")
        return x

    run = piecework.map(flaky, range(20), on=on, retries=2, retry_on=OSError)
    assert list(run) == [*range(20)]
    assert (run.summary.retries, run.summary.executions) == (4, 24)


def test_what_retry_on_does_not_name_is_not_tried_again(on: str) -> None:
    summary = piecework.map(picky, range(10), on=on, retries=5, retry_on=OSError).wait()
    assert (summary.failed, summary.retries) == (1, 0)


def test_a_waiting_retry_holds_up_nobody() -> None:
    def picky_once(x: int, seen: list[int] = []) -> int:  # noqa: B006  # shared on purpose
        if x == 0 and not seen:
            seen.append(x)
            raise OSError
        return x

    backoff = piecework.Backoff(0.05, jitter=0)
    run = piecework.map(picky_once, range(200), on="threads", retries=1, backoff=backoff)
    results = list(run.results())
    assert (results[-1].index, results[-1].attempt) == (0, 2)
    assert len(results) == 200


def test_one_task_that_kills_its_worker_costs_one_task() -> None:
    run = piecework.map(kills_at_13, range(60), on="processes")
    found = all_of(run)
    assert [x for x in found if isinstance(x, int)] == [x for x in range(60) if x != 13]
    assert isinstance(found[13], WorkerLost)
    assert found[13].signal == 9
    assert (run.summary.done, run.summary.failed, run.summary.losses) == (59, 1, 1)


def test_a_task_that_kills_two_workers_is_quarantined() -> None:
    run = piecework.map(kills_at_13, range(60), on="processes", retries=5)
    summary = run.wait()
    assert (summary.done, summary.quarantined, summary.failed, summary.losses) == (59, 1, 0, 2)
    assert list(run.failures.indexes) == [13]


def test_a_time_limit_ends_one_task() -> None:
    def hangs_at_3(x: int) -> int:
        if x == 3:
            time.sleep(60)
        return x

    run = piecework.map(hangs_at_3, range(10), on="processes", task_timeout=0.3)
    found = all_of(run)
    assert isinstance(found[3], piecework.TaskTimeout)
    assert [x for x in found if isinstance(x, int)] == [0, 1, 2, 4, 5, 6, 7, 8, 9]


# -- bounded ----------------------------------------------------------------------------------


class Counted:
    """An endless input that says how much of it was drawn."""

    def __init__(self, end: float = float("inf")) -> None:
        self.drawn = 0
        self.end = end

    def __iter__(self) -> Iterator[int]:
        while self.drawn < self.end:
            self.drawn += 1
            yield self.drawn - 1


def settled(quantity: Callable[[], int]) -> int:
    """The quantity once it does not change any more."""
    before = -1
    for _ in range(100):
        now = quantity()
        if now == before:
            return now
        before = now
        threading.Event().wait(0.05)
    raise AssertionError("it never settles")


@pytest.mark.parametrize("buffersize", [1, 10, 500])
def test_no_more_is_drawn_than_the_buffer_holds(on: str, buffersize: int) -> None:
    source = Counted()
    with piecework.map(square, source, on=on, buffersize=buffersize) as run:
        for value in itertools.islice(run, 3 * buffersize):
            assert source.drawn <= value**0.5 + 1 + 2 * buffersize
        assert settled(lambda: source.drawn) <= 4 * buffersize + 1


def test_a_paused_consumer_pauses_the_drawing(on: str) -> None:
    source = Counted()
    with piecework.map(square, source, on=on) as run:
        values = iter(run)
        next(values)
        assert settled(lambda: source.drawn) < 2_000_000
        assert list(itertools.islice(values, 5000)) == [x * x for x in range(1, 5001)]


def test_large_results_are_bounded_in_bytes() -> None:
    source = Counted()
    size = 4 << 20
    with piecework.map(lambda _: b"x" * size, source, on="threads", workers=2) as run:
        next(run)
        assert settled(lambda: source.drawn) * size < 256 << 20


def test_large_inputs_of_results_that_nobody_reads_are_bounded_in_bytes() -> None:
    size, drawn = 4 << 20, 0

    def source() -> Iterator[bytes]:
        nonlocal drawn
        while True:
            drawn += 1
            yield bytes(size)

    with piecework.map(len, source(), on="threads", workers=2) as run:
        next(run)
        assert settled(lambda: drawn) * size < 256 << 20


def test_results_flow_while_the_source_blocks() -> None:
    more = threading.Event()

    def source() -> Iterator[int]:
        yield from range(10)
        more.wait(30)
        yield from range(10, 12)

    run = piecework.map(square, source(), on="threads")
    assert [next(run) for _ in range(10)] == [x * x for x in range(10)]
    more.set()
    assert list(run) == [100, 121]


def test_a_fast_source_that_blocks_in_the_middle_of_a_draw_holds_nothing_back() -> None:
    more = threading.Event()

    def source() -> Iterator[int]:
        yield from range(5003)
        more.wait(30)

    run = piecework.map(square, source(), on="threads")
    assert sum(1 for _ in itertools.islice(run, 5003)) == 5003
    more.set()
    assert list(run) == []


# -- inputs that raise ------------------------------------------------------------------------


def test_an_input_that_raises_is_named_after_all_before_it_were_worked_on(on: str) -> None:
    def source() -> Iterator[int]:
        yield from range(25)
        raise OSError("disk gone")

    run = piecework.map(square, source(), on=on)
    values = iter(run)
    assert list(itertools.islice(values, 25)) == [x * x for x in range(25)]
    with pytest.raises(
        piecework.InputError, match="drawing input 25 raised OSError: disk gone"
    ) as e:
        next(values)
    assert e.value.index == 25
    assert isinstance(e.value.__cause__, OSError)
    assert list(values) == []
    summary = run.summary
    assert (summary.inputs, summary.done, summary.stopped) == (25, 25, "input")


def test_wait_does_not_raise_for_an_input_that_does(on: str) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    summary = piecework.map(square, source(), on=on).wait()
    assert (summary.done, summary.stopped, summary.ok) == (1, "input", False)
    assert isinstance(summary.error, piecework.InputError)
    assert "disk gone" in str(summary)


# -- stopping ---------------------------------------------------------------------------------


def test_halt_stops_a_run_that_fails_too_often(on: str) -> None:
    run = piecework.map(picky, Counted(), on=on, halt=5)
    results: list[Result] = []
    with pytest.raises(piecework.RunHalted, match="finished tasks failed"):
        results.extend(_collect(run.results(), results))
    summary = run.summary
    assert summary.stopped == "halted"
    assert summary.failed >= 5
    assert summary.inputs == summary.done + summary.failed + summary.cancelled
    assert len(results) == summary.inputs


def _collect(results: Iterator[Result], into: list[Result]) -> list[Result]:
    for result in results:
        into.append(result)
    return []


def test_a_deadline_ends_an_endless_run() -> None:
    run = piecework.map(square, Counted(), on="threads", deadline=0.2)
    with pytest.raises(piecework.DeadlineExceeded, match=r"deadline of 0\.2 s"):
        for _ in run:
            pass
    assert run.summary.stopped == "deadline"


def test_a_cancelled_run_ends_with_what_has_finished() -> None:
    run = piecework.map(square, Counted(), on="threads")
    results = run.results()
    next(results)
    run.cancel()
    rest = list(results)
    summary = run.summary
    assert summary.stopped == "cancelled"
    assert len(rest) + 1 == summary.inputs == summary.done + summary.cancelled


def test_reading_values_of_a_cancelled_run_raises_once() -> None:
    gate = threading.Event()
    run = piecework.map(lambda x: gate.wait(30), range(100), on="threads", workers=1, batch_size=1)
    run.cancel()
    gate.set()
    found = all_of(run)
    assert sum(isinstance(x, CancelledError) for x in found) <= 1
    assert run.summary.done + run.summary.cancelled == run.summary.inputs


def test_kill_ends_what_runs() -> None:
    run = piecework.map(time.sleep, [60, 60], on="processes", workers=2)
    threading.Timer(0.3, lambda: run.cancel(kill=True)).start()
    started = time.monotonic()
    summary = run.wait()
    assert time.monotonic() - started < 20
    assert summary.stopped == "cancelled"
    assert summary.done == 0
    run.close()


def test_leaving_the_block_ends_the_run() -> None:
    with piecework.map(time.sleep, [0, 60, 60], on="processes", workers=2, batch_size=1) as run:
        next(run)
    assert run.summary.stopped == "cancelled"
    assert "ended" in repr(run)


def test_a_dropped_run_stops_drawing_and_is_collected(on: str) -> None:
    source = Counted()
    run = piecework.map(square, source, on=on)
    next(run)
    ref = weakref.ref(run)
    del run
    assert ref() is None
    drawn = settled(lambda: source.drawn)
    assert drawn < 2_000_000


def test_a_dropped_run_leaves_no_threads() -> None:
    before = threading.active_count()
    run = piecework.map(square, Counted(), on="threads")
    next(run)
    assert threading.active_count() > before
    del run
    assert settled(threading.active_count) <= before


def test_a_finished_run_leaves_no_threads_and_no_files(on: str) -> None:
    def one() -> None:
        with piecework.map(square, (x for x in range(10)), on=on) as run:
            assert len(list(run)) == 10

    def left() -> int:
        gc.collect()
        return threading.active_count() + len(os.listdir("/proc/self/fd"))

    one()
    before = settled(left)
    for _ in range(3):
        one()
    assert settled(left) <= before


# -- coroutines, asyncio ----------------------------------------------------------------------


def test_coroutines_run_by_the_thousand() -> None:
    run = piecework.map(slowly, range(2000), on="coroutines")
    found = all_of(run)
    assert [x for x in found if isinstance(x, int)] == [x for x in range(2000) if x != 13]
    assert isinstance(found[13], ValueError)


def test_a_run_is_read_without_blocking_the_event_loop(on: str) -> None:
    async def main() -> list[int]:
        return [value async for value in piecework.map(square, range(100), on=on)]

    assert asyncio.run(main()) == [x * x for x in range(100)]


def test_async_reading_goes_on_after_a_failure(on: str) -> None:
    async def main() -> list[Any]:
        run = piecework.map(picky, range(6), on=on)
        found: list[Any] = []
        while True:
            try:
                found.append(await anext(run))
            except StopAsyncIteration:
                return found
            except ValueError as error:
                found.append(str(error))

    assert asyncio.run(main()) == [0, 1, 2, "no 3", 4, 5]


def test_a_run_can_be_awaited(on: str) -> None:
    async def main() -> piecework.Summary:
        return await piecework.map(picky, range(20), on=on)

    summary = asyncio.run(main())
    assert (summary.done, summary.failed) == (18, 2)


def test_the_event_loop_goes_on_while_a_run_is_awaited() -> None:
    async def main() -> int:
        gate = threading.Event()
        run = piecework.map(lambda _: gate.wait(30), [1], on="threads")
        waiting = asyncio.ensure_future(run._finish())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        gate.set()
        return (await waiting).done

    assert asyncio.run(main()) == 1


def test_async_with_ends_the_run() -> None:
    async def main() -> Run[int]:
        async with piecework.map(square, Counted(), on="threads") as run:
            assert await anext(run) == 0
        return run

    assert asyncio.run(main()).summary.stopped == "cancelled"


# -- executors of the caller ------------------------------------------------------------------


def test_a_given_executor_is_used_and_left_open() -> None:
    with piecework.ThreadExecutor(2) as executor:
        assert list(piecework.map(square, range(100), on=executor)) == [x * x for x in range(100)]
        assert executor.submit(square, 3).result() == 9
        assert list(piecework.map(square, [2], on=executor)) == [4]


def test_two_runs_share_an_executor() -> None:
    with piecework.ThreadExecutor(2) as executor:
        one = piecework.map(square, range(2000), on=executor, batch_size=1)
        two = piecework.map(square, range(2000), on=executor, batch_size=1)
        assert list(two) == list(one) == [x * x for x in range(2000)]


def test_an_executor_that_was_shut_down_breaks_the_run() -> None:
    executor = piecework.ThreadExecutor(2)
    executor.shutdown()
    run = piecework.map(square, range(10), on=executor)
    summary = run.wait()
    assert summary.stopped == "broken"
    assert summary.inputs == summary.cancelled


def refuses() -> None:
    raise OSError("no database")


@pytest.mark.parametrize("kind", [piecework.ThreadExecutor, piecework.ProcessExecutor])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_executor_whose_initializer_fails_breaks_the_run(kind: Any) -> None:
    with kind(2, initializer=refuses) as executor:
        run = piecework.map(square, Counted(), on=executor)
        with pytest.raises(piecework.ExecutorBroken):
            list(run.results())
        summary = run.summary
        assert (summary.stopped, summary.done, summary.failed) == ("broken", 0, 0)
        assert summary.inputs == summary.cancelled


@pytest.mark.parametrize("inner", WAYS)
def test_runs_nest(on: str, inner: str) -> None:
    def sum_of_squares(n: int) -> int:
        return sum(piecework.map(square, range(n), on=inner))

    run = piecework.map(sum_of_squares, [3, 4, 5], on=on, batch_size=1)
    assert list(run) == [5, 14, 30]


# -- bad arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on": "fiber"}, 'no executor "fiber". Choose one of: threads, processes, coroutines'),
        ({"on": "nats://host"}, "the network queue is not in this version"),
        ({"on": 3}, "no executor 3. Choose one of"),
        ({"workers": 0}, "workers is 0. Give a whole number of at least 1"),
        ({"workers": -1}, "workers is -1"),
        ({"workers": True}, "workers is True"),
        ({"workers": 10**7, "on": "processes"}, "more than any machine runs well"),
        ({"threads": 0, "on": "processes"}, "threads is 0"),
        ({"threads": 2, "on": "threads"}, "Use workers=2"),
        ({"task_timeout": 1, "on": "threads"}, "on=\"processes\", or on=\"coroutines\""),
        ({"task_timeout": 1, "on": "inline"}, "on=\"processes\", or on=\"coroutines\""),
        ({"task_timeout": 0, "on": "processes"}, "task_timeout is 0"),
        ({"deadline": -1}, "deadline is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"buffersize": 0}, "buffersize is 0"),
        ({"halt": "5"}, "halt is '5'. Give how many may fail"),
        ({"halt": "200%"}, "halt is '200%'"),
        ({"halt": 0}, "halt is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"journal": 3}, "journal is 3. Give True, or the path"),
        ({"resume": True}, "resume= needs a journal. Give name="),
        ({"progress": 3}, "progress is 3"),
        ({"on": "coroutines"}, "square is a plain function"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_with_the_way_out(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        piecework.map(square, range(3), **arguments)
    assert message in str(caught.value)


def test_what_cannot_be_called_or_iterated_is_refused() -> None:
    with pytest.raises(UsageError, match="3 is not callable"):
        piecework.map(3, [1])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be iterated over"):
        piecework.map(square, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS)
def test_a_coroutine_function_is_refused_where_nobody_awaits(way: str) -> None:
    with pytest.raises(UsageError, match='Use on="coroutines"'):
        piecework.map(slowly, range(3), on=way)


def test_what_cannot_be_pickled_is_refused_before_anything_runs() -> None:
    lock = threading.Lock()
    with pytest.raises(piecework.CannotPickle, match="lock"):
        piecework.map(lambda x: lock, range(3), on="processes")
