"""register_joblib: joblib runs on our workers, and what that is good for."""

from __future__ import annotations

import builtins
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import piecework
from tests.dropin import joblib_tasks as tasks
from tests.executors.gate import Gate

joblib = pytest.importorskip("joblib", "1.4", reason="pip install joblib")
delayed = joblib.delayed
with_options = pytest.mark.skipif(
    joblib.__version__.startswith("1.4"), reason="joblib 1.4 hands no options to a backend"
)

from piecework import joblib_backend  # noqa: E402  # it imports joblib


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    piecework.register_joblib()
    with joblib.parallel_config(backend="piecework", n_jobs=2):
        yield
    # The workers of one test are not for the next one.
    for waiting in joblib_backend._idle._waiting:
        waiting.executor.shutdown()
    joblib_backend._idle._waiting.clear()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


def parallel(*args: Any, **more: Any) -> Any:
    return joblib.Parallel(*args, **more)


def processes() -> set[int]:
    """The workers, seen twice each so that both were asked."""
    return set(parallel(batch_size=1)(delayed(tasks.process)(i) for i in range(50)))


def test_results_come_in_order_and_from_other_processes() -> None:
    assert parallel()(delayed(tasks.square)(i) for i in range(100)) == [i * i for i in range(100)]
    assert os.getpid() not in processes()


def test_the_older_way_to_choose_a_backend_works_too() -> None:
    with joblib.parallel_backend("piecework", n_jobs=2):
        assert parallel()(delayed(tasks.square)(i) for i in range(10)) == [i * i for i in range(10)]


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_results_can_be_had_as_they_come(return_as: str) -> None:
    values = parallel(return_as=return_as)(delayed(tasks.square)(i) for i in range(100))
    assert sorted(values) == [i * i for i in range(100)]


def test_lambdas_and_closures_are_sent() -> None:
    base = 10
    assert parallel()(delayed(lambda x: x + base)(i) for i in range(3)) == [10, 11, 12]


def test_what_a_call_raises_is_raised() -> None:
    with pytest.raises(KeyError) as raised:
        parallel()(delayed(tasks.fail)(i) for i in range(5))
    assert "raise KeyError(x)" in str(raised.value.__cause__)


def test_the_death_of_a_worker_names_the_call() -> None:
    with pytest.raises(piecework.WorkerLost, match="SIGKILL") as raised:
        parallel(batch_size=10)(delayed(tasks.die_at)(13, x) for x in range(100))
    assert any("die_at(13, 13)" in note for note in raised.value.__notes__)
    assert parallel()(delayed(tasks.square)(i) for i in range(3)) == [0, 1, 4]


def test_a_death_inside_a_batch_is_blamed_on_one_call(gate: Gate) -> None:
    calls = [delayed(tasks.hold)(gate.path, i) for i in range(4)]
    values = parallel(batch_size=2, return_as="generator")(calls)
    pid, _ = gate.arrived(2)
    os.kill(int(pid), signal.SIGKILL)
    gate.open()
    with pytest.raises(piecework.WorkerLost) as raised:
        list(values)
    assert any("hold('" in note for note in raised.value.__notes__)


def test_a_time_limit_ends_the_call_and_the_workers() -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        parallel(timeout=0.1)(delayed(tasks.sleep_at_zero)(i) for i in range(3))
    assert parallel()(delayed(tasks.square)(i) for i in range(3)) == [0, 1, 4]


def test_workers_wait_for_the_next_call() -> None:
    first = processes()
    assert first & processes()
    with pytest.raises(KeyError):
        parallel()(delayed(tasks.fail)(i) for i in range(5))
    assert not first & processes()  # those that ran what was given up are gone


@with_options
def test_workers_that_wait_too_long_end() -> None:
    with joblib.parallel_config(backend="piecework", n_jobs=2, idle_worker_timeout=0.1):
        parallel()(delayed(tasks.square)(i) for i in range(3))
        waiting = joblib_backend._idle._waiting
        executor = waiting[-1].executor if waiting else None
    if executor is not None:  # else they have ended already
        executor._engine.wait_closed()


def test_a_collected_generator_does_not_disturb_the_next_call(gate: Gate) -> None:
    values = parallel(return_as="generator")(delayed(tasks.hold)(gate.path) for _ in range(4))
    gate.arrived(2)
    with pytest.warns(UserWarning, match="have been cancelled"):
        del values
    assert parallel()(delayed(tasks.square)(i) for i in range(3)) == [0, 1, 4]


@with_options
def test_an_initializer_runs_in_every_worker() -> None:
    options = {"initializer": tasks.initialize, "initargs": ("Berta",)}
    names = parallel(**options)(delayed(tasks.name)(i) for i in range(10))
    assert set(names) == {"Berta"}
    assert set(parallel()(delayed(tasks.name)(i) for i in range(10))) == {None}


def test_native_libraries_get_their_share_of_the_threads() -> None:
    with joblib.parallel_config(backend="piecework", n_jobs=2, inner_max_num_threads=3):
        found = parallel()(delayed(tasks.threads_of)("OMP_NUM_THREADS") for _ in range(4))
    assert set(found) == {"3"}


def test_what_is_nested_runs_in_threads_of_the_worker() -> None:
    for found in parallel()(delayed(tasks.nested)(3) for _ in range(4)):
        assert len(set(found)) == 1


def test_ours_may_be_nested_in_ours() -> None:
    for found in parallel()(delayed(tasks.nested_on_ours)(3) for _ in range(4)):
        assert found == [0, 1, 4]


def test_large_arrays_arrive_whole_and_may_be_changed() -> None:
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(200_000, i, dtype=float) for i in range(6)]
    found = parallel(max_nbytes=1)(delayed(tasks.total)(array) for array in arrays)
    assert found == [(200_000.0 * i, True) for i in range(6)]


def test_no_workers_make_no_sense() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        parallel(n_jobs=0)(delayed(tasks.square)(i) for i in range(3))
    assert joblib.effective_n_jobs(-1) >= 1
    assert joblib.effective_n_jobs(None) == 2


def test_without_joblib_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    standard = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name == "joblib":
            raise ImportError(name)
        return standard(name, *args)

    monkeypatch.delitem(sys.modules, "joblib")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(piecework.UsageError, match="pip install joblib"):
        piecework.register_joblib()


def test_a_joblib_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "__version__", "1.2.0")
    with pytest.raises(piecework.UsageError, match="too old"):
        piecework.register_joblib()
