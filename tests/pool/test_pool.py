"""Pool: what multiprocessing.Pool promises, and what ours promises beyond it."""

from __future__ import annotations

import inspect
import itertools
import multiprocessing
import multiprocessing.pool
import os
import pickle
import queue
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from piecework import ExecutorBroken, Pool, UsageError, WorkerLost
from tests.executors.gate import Gate
from tests.pool import tasks

PATIENCE = 60.0
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_every_method_takes_what_the_standard_one_takes() -> None:
    for name, standard in vars(multiprocessing.pool.Pool).items():
        if inspect.isfunction(standard) and not name.startswith("_") and name != "Process":
            expected = list(inspect.signature(standard).parameters)
            assert list(inspect.signature(getattr(Pool, name)).parameters) == expected, name
    made = list(inspect.signature(Pool).parameters)
    assert made[:5] == list(inspect.signature(multiprocessing.pool.Pool).parameters)


# -- one call ----------------------------------------------------------------------------------


def test_apply_gives_the_value_or_raises(pool: Pool) -> None:
    assert pool.apply(tasks.add, (1,), {"b": 2}) == 3
    with pytest.raises(KeyError, match="7"):
        pool.apply(tasks.fail, (7,))


def test_a_result_tells_whether_it_is_ready_and_successful(pool: Pool, gate: Gate) -> None:
    result = pool.apply_async(tasks.hold, (gate.path, 5))
    gate.arrived(1)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    gate.open()
    assert result.get(PATIENCE) == 5
    assert result.ready()
    assert result.successful()
    assert not _settled(pool.apply_async(tasks.fail, (1,))).successful()


def test_callbacks_are_called_before_the_result_is_ready(pool: Pool) -> None:
    got: list[Any] = []
    pool.apply_async(tasks.square, (3,), callback=got.append, error_callback=got.append).wait()
    assert got == [9]
    pool.map_async(tasks.fail, [4], callback=got.append, error_callback=got.append).wait()
    assert repr(got[1]) == "KeyError(4)"


def test_a_callback_may_use_the_pool(pool: Pool) -> None:
    got: list[Any] = []
    pool.apply_async(
        tasks.square, (3,), callback=lambda x: got.append(pool.apply(tasks.square, (x,)))
    ).wait(PATIENCE)
    assert got == [81]


def test_a_callback_that_raises_is_told_and_holds_up_nobody(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(value: Any) -> None:
        raise ZeroDivisionError

    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda args: told.put(args.exc_type))
    assert pool.map_async(tasks.square, [3], callback=broken).get(PATIENCE) == [9]
    assert told.get(timeout=PATIENCE) is ZeroDivisionError
    assert pool.apply(tasks.square, (2,)) == 4


# -- maps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [None, 1, 7])
@pytest.mark.parametrize("inputs", [range(100), list(range(100)), tuple(range(3)), []])
def test_maps_keep_the_order(pool: Pool, inputs: Sequence[int], chunksize: int | None) -> None:
    expected = [x * x for x in inputs]
    assert pool.map(tasks.square, inputs, chunksize) == expected
    assert pool.map(tasks.square, iter(inputs), chunksize) == expected
    assert pool.starmap(tasks.add, [(x, 1) for x in inputs], chunksize) == [x + 1 for x in inputs]
    assert list(pool.imap(tasks.square, inputs, chunksize)) == expected
    assert sorted(pool.imap_unordered(tasks.square, iter(inputs), chunksize)) == expected


def test_a_map_runs_everything_and_raises_the_first_failure_of_its_inputs(processes: Pool) -> None:
    result = processes.map_async(tasks.fail, range(20))
    with pytest.raises(KeyError) as raised:
        result.get(PATIENCE)
    assert raised.value.args == (0,)
    assert "task 0, input 0" in raised.value.__notes__[0]
    assert "raise KeyError(x)" in str(raised.value.__cause__)


def test_an_imap_goes_on_after_a_failure(pool: Pool) -> None:
    values = pool.imap(tasks.fail_at_three, range(6))
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(values)
    assert list(values) == [4, 5]


class Lazy:
    """A sequence that is not builtin, and may raise."""

    def __init__(self, length: int, broken_at: int = -1) -> None:
        self.length, self.broken_at = length, broken_at

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        for number in range(self.length):
            if number == self.broken_at:
                raise LookupError(number)
            yield number


@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered"])
def test_what_the_inputs_raise_is_raised(pool: Pool, call: str) -> None:
    assert len(list(getattr(pool, call)(tasks.square, Lazy(50)))) == 50
    with pytest.raises(LookupError) as raised:
        list(getattr(pool, call)(tasks.square, Lazy(50, broken_at=30)))
    assert raised.value.__cause__ is None
    assert pool.apply(tasks.square, (2,)) == 4


def test_values_come_before_what_the_inputs_raise(pool: Pool) -> None:
    values = pool.imap(tasks.square, Lazy(50, broken_at=3))
    assert [next(values) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(LookupError):
        next(values)
    with pytest.raises(StopIteration):
        next(values)


def test_inputs_may_depend_on_results(pool: Pool) -> None:
    todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    todo.put(2)
    seen = []
    for value in pool.imap(tasks.square, iter(todo.get, None)):
        seen.append(value)
        todo.put(value if value < 1000 else None)
    assert seen == [4, 16, 256, 65536]


def test_an_endless_input_is_drawn_only_a_bounded_way_ahead(pool: Pool) -> None:
    drawn = itertools.count(1)
    values = pool.imap(tasks.square, (number for number in drawn))
    assert [next(values) for _ in range(5)] == [1, 4, 9, 16, 25]
    assert pool.map(tasks.square, range(5000)) == [x * x for x in range(5000)]
    assert next(drawn) < 200_000
    del values


def test_several_calls_share_the_workers(processes: Pool, gate: Gate) -> None:
    held = [processes.apply_async(tasks.hold, (gate.path,)) for _ in range(2)]
    gate.arrived(2)
    mapped = processes.map_async(tasks.square, range(100))
    values = processes.imap(tasks.square, range(100))
    gate.open()
    assert mapped.get(PATIENCE) == [x * x for x in range(100)]
    assert sum(values) == sum(x * x for x in range(100))
    assert [one.get(PATIENCE) for one in held] == [None, None]


def test_an_imap_can_be_waited_for_a_while(pool: Pool, gate: Gate) -> None:
    values = pool.imap(tasks.hold, [gate.path])
    with pytest.raises(multiprocessing.TimeoutError):
        values.next(timeout=0.01)
    gate.open()
    assert values.next(PATIENCE) is None


def test_two_threads_may_take_from_one_imap(pool: Pool) -> None:
    values = pool.imap_unordered(tasks.square, range(2000))
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(values)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(taken) == [x * x for x in range(2000)]


# -- what cannot be sent -----------------------------------------------------------------------


def test_an_input_that_cannot_be_sent_raises_what_pickle_raised(processes: Pool) -> None:
    with pytest.raises(RuntimeError, match="not this one") as raised:
        processes.map(tasks.square, [tasks.Unpicklable()])
    assert "cannot send" in raised.value.__notes__[0]
    with pytest.raises(RuntimeError, match="not this one"):
        processes.apply(tasks.square, (tasks.Unpicklable(),))
    with pytest.raises(TypeError):
        processes.map(threading.Lock().acquire, [1])


def test_a_result_that_cannot_be_sent_is_the_error_of_multiprocessing(processes: Pool) -> None:
    encoding_error = multiprocessing.pool.MaybeEncodingError  # type: ignore[attr-defined]
    for _ in range(5):
        with pytest.raises(encoding_error, match="lock"):
            processes.apply(tasks.lock, (1,))
    with pytest.raises(encoding_error, match="lock"):
        processes.map(tasks.lock, [1])


# -- making one --------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [0, -1])
def test_at_least_one_process(processes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pool(processes)


@pytest.mark.parametrize("number", [0, -1, 0.5, "12"])
def test_maxtasksperchild_is_a_positive_number(number: Any) -> None:
    with pytest.raises(ValueError, match="maxtasksperchild"):
        Pool(1, maxtasksperchild=number)


def test_what_threads_do_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="threads have no"):
        Pool(1, on="threads", maxtasksperchild=1)
    with pytest.raises(UsageError, match="Choose one of: processes, threads"):
        Pool(1, on="fibers")


def test_an_initializer_has_to_be_callable(pool: Pool) -> None:
    with pytest.raises(TypeError, match="callable"):
        Pool(1, initializer=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn", None])
def test_every_start_method_runs_the_initializer(context: str | None) -> None:
    made = multiprocessing.get_context(context) if context else None
    with Pool(1, tasks.set_greeting, ("good day",), context=made) as pool:
        assert pool.apply(tasks.greet, ("Anna",)) == "good day Anna"


def test_an_initializer_that_raises_is_the_failure_of_every_call() -> None:
    with Pool(2, tasks.fail, (1,)) as pool:
        with pytest.raises(ExecutorBroken, match="KeyError"):
            pool.map(tasks.square, range(1000))
        with pytest.raises(ExecutorBroken):
            pool.apply(tasks.square, (1,))


def test_a_worker_is_replaced_after_so_many_chunks() -> None:
    with Pool(2, maxtasksperchild=2) as pool:
        ran = Counter(pool.map(tasks.process, range(120), chunksize=10))
        assert len(ran) >= 6
        assert max(ran.values()) <= 20
        assert len(pool.map(tasks.process, range(1000))) == 1000


def test_the_workers_are_there_before_the_work() -> None:
    with Pool(2) as pool:
        assert len({worker.pid for worker in pool._pool}) == 2
        assert all(worker.is_alive() for worker in pool._pool)


# -- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["processes", "threads"])
def test_close_takes_nothing_new_and_join_waits_for_everything(on: str) -> None:
    pool = Pool(2, on=on)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    mapped = pool.map_async(tasks.square, range(1000))
    values = pool.imap(tasks.square, (x for x in range(5000)))
    single = pool.apply_async(tasks.square, (3,))
    pool.close()
    for call in (pool.apply, pool.apply_async):
        with pytest.raises(ValueError, match="Pool not running"):
            call(tasks.square, (1,))
    for call in (pool.map, pool.imap, pool.imap_unordered, pool.map_async, pool.starmap):
        with pytest.raises(ValueError, match="Pool not running"):
            call(tasks.square, [1])
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass
    pool.join()
    assert mapped.ready()
    assert single.ready()
    assert len(list(values)) == 5000
    pool.join()


@pytest.mark.parametrize("on", ["processes", "threads"])
def test_a_dropped_imap_that_nobody_began_runs_all_the_same(on: str, gate: Gate) -> None:
    gate.open()
    pool = Pool(2, on=on)
    pool.imap_unordered(tasks.hold, (gate.path for _ in range(30)))
    pool.close()
    pool.join()
    assert len(gate.names) == 30


def test_a_pool_cannot_be_sent_and_says_how_it_is(pool: Pool) -> None:
    assert repr(pool) == "<piecework.pool.Pool state=RUN pool_size=2>"
    with pytest.raises(NotImplementedError, match="cannot be passed"):
        pickle.dumps(pool)


def test_a_forked_child_is_told_that_the_pool_is_not_its_own(processes: Pool) -> None:
    assert processes.apply(tasks.square, (2,)) == 4
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            processes.apply(tasks.square, (2,))
        except ValueError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"forked from" in os.read(read, 1000)
    os.close(read)
    os.close(write)
    assert processes.apply(tasks.square, (3,)) == 9


def test_a_worker_that_died_does_not_cost_the_pool(processes: Pool) -> None:
    with pytest.raises(WorkerLost, match="SIGKILL"):
        processes.apply(tasks.die)
    assert processes.map(tasks.square, range(10)) == [x * x for x in range(10)]


def _settled(result: Any) -> Any:
    result.wait(PATIENCE)
    return result
