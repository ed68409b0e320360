"""ProcessExecutor where it differs from the others; test_contract.py has what they share."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import pytest

import piecework
from piecework import TaskTimeout, UsageError, WorkerLost
from piecework.executors.process import ProcessExecutor
from piecework.task import Batch, Failure, Report
from tests.executors import process_tasks as tasks
from tests.executors.gate import Gate

PATIENCE = 20.0
METHODS = ["fork", "forkserver", "spawn"]
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def pair() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


@pytest.fixture
def one() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(1) as executor:
        yield executor


class Outcome:
    """Collects the reports of one batch, and checks that each position comes once."""

    def __init__(self, size: int) -> None:
        self.values: dict[int, Any] = {}
        self.failures: dict[int, Failure] = {}
        self.repeats = 0
        self._left = size
        self._all = threading.Event()

    def report(self, report: Report) -> None:
        for position, value in enumerate(report.values, report.offset):
            assert position not in self.values
            self.values[position] = value
        self.failures.update(report.failures)
        self.repeats += report.repeats
        self._left -= len(report)
        if not self._left:
            self._all.set()

    def wait(self) -> Outcome:
        assert self._all.wait(PATIENCE), f"{self._left} positions were not reported"
        return self


def submit(
    executor: ProcessExecutor, fn: Callable[..., Any], payloads: list[Any], **options: Any
) -> Outcome:
    outcome = Outcome(len(payloads))
    call = executor.prepare(fn, **options)
    executor.submit_batch(call, Batch(1, range(len(payloads)), payloads), outcome.report)
    return outcome


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    source = Path(piecework.__file__).parents[1]
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{root}"},
    )


# -- time limits ------------------------------------------------------------------------------


def test_a_time_limit_ends_one_task() -> None:
    with ProcessExecutor(2, task_timeout=0.3) as executor:
        futures = [executor.submit(tasks.stuck, x) for x in range(8)]
        with pytest.raises(TaskTimeout, match=r"0\.3 s"):
            futures[3].result(PATIENCE)
        assert [f.result(PATIENCE) for f in futures if f is not futures[3]] == [0, 1, 2, 4, 5, 6, 7]


def test_a_task_that_passed_its_limit_shows_where_it_was() -> None:
    with ProcessExecutor(1, task_timeout=0.1) as executor:
        for _ in range(10):  # a worker has a moment to say it: on a crowded machine it may pass
            error = executor.submit(tasks.stuck, 3).exception(PATIENCE)
            assert isinstance(error, TaskTimeout)
            if error.__cause__ is not None:
                break
        assert "in stuck" in str(error.__cause__)


def test_in_a_batch_the_limit_ends_one_position(one: ProcessExecutor) -> None:
    outcome = submit(one, tasks.stuck, list(range(8)), task_timeout=0.3).wait()
    assert set(outcome.failures) == {3}
    assert outcome.failures[3].cause == "timeout"
    assert [outcome.values[n] for n in range(8)] == [0, 1, 2, None, 4, 5, 6, 7]


def test_loading_a_function_takes_no_tasks_time(one: ProcessExecutor) -> None:
    """Whatever task's number is the id of the function: nobody has started yet."""
    size = one.prepare(tasks.identity).id + 10
    outcome = submit(one, tasks.SlowToLoad(), list(range(size)), task_timeout=0.2).wait()
    assert outcome.failures == {}


# -- deaths -----------------------------------------------------------------------------------


def test_a_result_that_kills_its_sender_while_another_task_runs_is_the_only_one_lost(
    pair: ProcessExecutor, gate: Gate
) -> None:
    fn = functools.partial(tasks.deadly_result, gate.path)
    outcome = submit(pair, fn, list(range(6))).wait()
    assert set(outcome.failures) == {1}
    assert outcome.failures[1].cause == "exit"
    assert [outcome.values[n] for n in (0, 2, 3, 4, 5)] == [0, 2, 3, 4, 5]


def test_a_slot_thread_that_cannot_go_on_ends_its_worker_instead_of_silence(gate: Gate) -> None:
    with ProcessExecutor(1, threads=2) as executor:
        first = executor.submit(tasks.hold_at, gate.path, 1, 1)  # in the main thread
        gate.arrived(1)
        second = executor.submit(tasks.too_large_to_send, 200_000_000)
        gate.open()
        assert isinstance(second.exception(PATIENCE), (WorkerLost, MemoryError))
        assert first.result(PATIENCE) == 1


def test_many_workers_may_end_while_one_still_works(gate: Gate) -> None:
    """Those that end because they were told to are no sign of trouble."""
    executor = ProcessExecutor(24, "fork")
    with Gate() as other:
        futures = [executor.submit(tasks.hold_at, gate.path, x, x) for x in range(23)]
        last = executor.submit(tasks.hold_at, other.path, 23, 23)
        gate.arrived(23)
        other.arrived(1)
        executor.shutdown(wait=False)
        gate.open()
        assert [future.result(PATIENCE) for future in futures] == list(range(23))
        workers = executor._engine.roster.workers
        assert executor.loop.drive(lambda: len(workers) == 1, PATIENCE)
        assert not last.done()
    assert last.result(PATIENCE) == 23
    executor.shutdown()
    assert executor.loop.closed


def test_a_cancelled_call_ends_no_call_of_a_neighbour(gate: Gate) -> None:
    with ProcessExecutor(1, threads=2) as executor:
        neighbour = executor.submit(tasks.hold_at, gate.path, 1, 1)
        outcome = Outcome(1)
        call = executor.prepare(functools.partial(tasks.hold_at, gate.path, 2))
        executor.submit_batch(call, Batch(1, range(1), [2]), outcome.report)
        gate.arrived(2)
        executor.cancel(call, kill=True)
        assert outcome.wait().failures[0].cause == "cancelled"
        gate.open()
        assert neighbour.result(PATIENCE) == 1


def test_a_suspect_that_is_given_up_leaves_its_worker_to_others(
    one: ProcessExecutor, gate: Gate
) -> None:
    busy = one.submit(tasks.hold_at, gate.path, 1, 1)
    gate.arrived(1)
    outcome = Outcome(1)
    call = one.prepare(tasks.identity)
    one.submit_batch(call, Batch(1, range(1), [2], alone=True), outcome.report)
    one.cancel(call)
    assert outcome.wait().failures[0].cause == "cancelled"
    gate.open()
    assert busy.result(PATIENCE) == 1
    assert one.submit(tasks.identity, 5).result(PATIENCE) == 5


# -- sharing out ------------------------------------------------------------------------------


def test_calls_behind_a_long_one_are_run_by_whoever_is_idle(
    pair: ProcessExecutor, gate: Gate
) -> None:
    wait([pair.submit(tasks.identity, x) for x in range(200)])  # now calls travel together
    futures = [pair.submit(tasks.hold_at, gate.path, 0, x) for x in range(60)]
    assert not wait(futures[1:], PATIENCE).not_done
    assert not futures[0].done()
    gate.open()
    assert futures[0].result(PATIENCE) == 0


def test_results_before_a_long_task_do_not_wait_for_it(one: ProcessExecutor, gate: Gate) -> None:
    fn = functools.partial(tasks.hold_at, gate.path, 500)
    iterator = one.map(fn, range(1000), chunksize=1000, timeout=PATIENCE)
    assert [next(iterator) for _ in range(500)] == list(range(500))
    gate.open()
    assert list(iterator) == list(range(500, 1000))


def test_threads_in_a_process_run_at_once_and_in_it(gate: Gate) -> None:
    with ProcessExecutor(1, threads=3) as executor:
        futures = [executor.submit(tasks.meet, gate.path, x) for x in range(3)]
        gate.arrived(3)
        gate.open()
        processes, threads = zip(*(future.result(PATIENCE) for future in futures), strict=True)
    assert len(set(processes)) == 1
    assert len(set(threads)) == 3


@pytest.mark.parametrize(
    "threads",
    [
        1,
        2,
    ],
)
def test_workers_are_replaced_after_their_share_whatever_the_batch(threads: int) -> None:
    with ProcessExecutor(2, "fork", max_tasks_per_child=5, threads=threads) as executor:
        pids = list(executor.map(tasks.pid, range(40), chunksize=16))
    assert max(pids.count(pid) for pid in set(pids)) <= 5
    assert len(pids) == 40


# -- large values -----------------------------------------------------------------------------


def test_arrays_arrive_whole_both_ways_however_many_are_kept(pair: ProcessExecutor) -> None:
    """More than there are blocks in the shared memory: the rest travels on the channel."""
    pytest.importorskip("numpy")
    kept = list(pair.map(tasks.filled, range(160)))
    for value, array in enumerate(kept):
        assert array.min() == array.max() == value
        array += 1  # they are the user's own
    assert list(pair.map(tasks.total, kept)) == [(n + 1) << 17 for n in range(160)]
    assert kept[7].max() == 8


def test_an_array_that_is_kept_is_never_overwritten(one: ProcessExecutor) -> None:
    pytest.importorskip("numpy")
    kept = one.submit(tasks.filled, 1).result()[100:200]
    for value in range(2, 12):
        assert one.submit(tasks.filled, value).result().max() == value
        gc.collect()
    assert kept.min() == kept.max() == 1


def test_an_argument_that_a_task_keeps_is_never_overwritten(one: ProcessExecutor) -> None:
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(1 << 17, value) for value in range(90)]
    list(one.map(tasks.keep, arrays, chunksize=3))
    list(one.map(tasks.total, [numpy.full(1 << 17, 1000)] * 20, chunksize=1))
    assert one.submit(tasks.sums_of_kept).result() == [value << 17 for value in range(90)]


def test_an_array_outlives_the_executor_and_its_workers() -> None:
    pytest.importorskip("numpy")
    with ProcessExecutor(1) as executor:
        array = executor.submit(tasks.filled, 4).result()
    gc.collect()
    assert array.sum() == 4 << 17


def test_a_fork_of_the_users_process_frees_no_array_of_its_parent(one: ProcessExecutor) -> None:
    pytest.importorskip("numpy")
    array = one.submit(tasks.filled, 1).result()
    child = os.fork()
    if child == 0:
        del array
        gc.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert one.submit(tasks.filled, 2).result().max() == 2
    assert array.max() == 1


# -- start ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_locks_and_queues_of_multiprocessing_come_through_the_initializer(method: str) -> None:
    context = multiprocessing.get_context(method)
    counter = context.Value("i", 0)
    with ProcessExecutor(2, context, tasks.borrow, (counter,)) as executor:
        list(executor.map(tasks.count_up, range(50)))
    assert counter.value == 50
    queue = context.Queue()
    with ProcessExecutor(2, context, tasks.borrow, (queue,)) as executor:
        list(executor.map(tasks.put, range(50)))
    assert sorted(queue.get(timeout=PATIENCE) for _ in range(50)) == list(range(50))
    queue.close()
    queue.join_thread()


def test_an_absurd_number_of_threads_is_refused_and_leaves_nothing_to_wait_for() -> None:
    with pytest.raises(UsageError, match="max_workers"):
        ProcessExecutor(1, threads=300)


def test_without_descriptors_calls_fail_and_nobody_waits() -> None:
    script = """
import resource
from piecework.executors.process import ProcessExecutor
executor = ProcessExecutor(8, threads=8)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard))
futures = []
try:
    futures = [executor.submit(abs, -x) for x in range(100)]
except Exception as error:
    print(type(error).__name__)
for future in futures:
    future.exception()
executor.shutdown()
print("closed")
"""
    ended = run_script(script)
    assert ended.stdout.endswith("closed\n"), ended.stderr


# -- signals ----------------------------------------------------------------------------------


def test_ctrl_c_while_waiting_for_a_result_raises_there_and_ends_all() -> None:
    script = """
import os, signal, sys, threading
from piecework.executors.process import ProcessExecutor
from tests.executors import process_tasks as tasks
from tests.executors.gate import Gate
with Gate() as gate:
    executor = ProcessExecutor(2)
    def interrupt():
        gate.arrived(1)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt).start()
    try:
        with executor:
            executor.submit(tasks.hold_at, gate.path, 1, 1).result()
    except KeyboardInterrupt:
        print("interrupted")
"""
    ended = run_script(script)
    assert ended.stdout == "interrupted\n", ended.stderr
    assert ended.stderr == ""


def test_a_handler_that_raises_leaves_the_wait_and_the_executor_whole(
    pair: ProcessExecutor, gate: Gate
) -> None:
    class Stop(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stop

    future = pair.submit(tasks.hold_at, gate.path, 1, 1)
    gate.arrived(1)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Stop):
            future.result(PATIENCE)
    finally:
        signal.signal(signal.SIGTERM, before)
    gate.open()
    assert future.result(PATIENCE) == 1
    assert pair.submit(tasks.identity, 2).result(PATIENCE) == 2


# -- callbacks --------------------------------------------------------------------------------


def test_callbacks_of_cancelled_calls_may_use_the_executor_from_another_thread(
    gate: Gate,
) -> None:
    used: Future[bool] = Future()
    executor = ProcessExecutor(1)

    def callback(_: Future[Any]) -> None:
        thread = threading.Thread(target=executor.room)
        thread.start()
        thread.join(5)
        used.set_result(not thread.is_alive())

    executor.submit(tasks.hold_at, gate.path, 1, 1)
    gate.arrived(1)
    last = [executor.submit(tasks.hold_at, gate.path, 1, 1) for _ in range(4)][-1]
    last.add_done_callback(callback)
    gate_thread = threading.Thread(target=gate.open)
    gate_thread.start()
    executor.shutdown(cancel_futures=True)
    gate_thread.join()
    if last.cancelled():
        assert used.result(PATIENCE)
        with pytest.raises(CancelledError):
            last.result()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_leaves_harms_nobody_else(pair: ProcessExecutor) -> None:
    future = pair.submit(tasks.identity, 1)
    future.add_done_callback(lambda _: sys.exit())
    wait([future], PATIENCE)
    assert not wait([pair.submit(tasks.identity, 2)], PATIENCE).not_done


# -- forks, descriptors, memory ---------------------------------------------------------------


def test_a_fork_of_the_users_process_can_neither_use_nor_harm_the_executor(
    pair: ProcessExecutor,
) -> None:
    pair.submit(tasks.identity, 1).result(PATIENCE)
    child = os.fork()
    if child == 0:
        try:
            pair.submit(tasks.identity, 2)
        except RuntimeError:
            pair.shutdown()
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(pair.map(tasks.identity, range(100))) == list(range(100))


def test_fifty_executors_leave_no_descriptor_and_no_thread() -> None:
    gc.collect()
    before, threads = tasks.descriptors(), threading.active_count()
    for number in range(50):
        executor = ProcessExecutor(1, "fork")
        if number % 2:
            assert executor.submit(tasks.identity, number).result(PATIENCE) == number
        if number % 3:
            executor.shutdown()
        else:
            del executor
    gc.collect()
    until = [thread for thread in threading.enumerate() if thread.name.startswith("piecework")]
    for thread in until:
        if thread is not threading.main_thread() and "processes" in thread.name:
            thread.join(0.2)
    gc.collect()
    assert tasks.descriptors() <= before + 1
    assert threading.active_count() <= threads + 1


def test_replaced_workers_leave_no_descriptor_and_no_memory() -> None:
    with ProcessExecutor(1, "fork", max_tasks_per_child=1) as executor:
        for _ in range(5):
            executor.submit(tasks.identity, 1).result(PATIENCE)
        gc.collect()
        before, memory = tasks.descriptors(), tasks.memory_used()
        gc.disable()  # or the number would depend on when the cycle collector comes
        try:
            list(executor.map(tasks.identity, range(60)))
            # Some workers may be on their way out; 60 that stay would have 120 descriptors.
            assert tasks.descriptors() <= before + 40
        finally:
            gc.enable()
        assert tasks.memory_used() - memory < 20 << 20


def test_many_calls_and_maps_do_not_pile_up(one: ProcessExecutor) -> None:
    for _ in range(2000):
        one.submit(tasks.identity, 1)
    one.submit(tasks.identity, 1).result(PATIENCE)
    gc.collect()
    here, there = tasks.memory_used(), one.submit(tasks.memory_used).result()
    for number in range(60):
        fn = functools.partial(tasks.with_data, bytes([number]) * 1_000_000)
        assert list(one.map(fn, range(2))) == [1_000_000, 1_000_001]
    for _ in range(20_000):
        one.submit(tasks.identity, 1)
    one.submit(tasks.identity, 1).result(PATIENCE)
    gc.collect()
    assert one.submit(tasks.memory_used).result() - there < 30 << 20
    assert tasks.memory_used() - here < 40 << 20
