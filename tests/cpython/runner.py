"""Runs CPython's own executor tests on our classes; for a 3.13 interpreter that has `test`.

    python runner.py [Thread | ProcessFork_ | ProcessForkserver_ | ProcessSpawn_]

The tests of `test.test_concurrent_futures` come as mixins without an executor. This module mixes
them with ThreadExecutor, and with ProcessExecutor under each start method, and runs the result.
Where a test starts a script that imports the executor from `concurrent.futures`, the script is
made to import ours. EXCLUDED names every test that is left out, with the reason.
"""

from __future__ import annotations

import os
import sys
import unittest
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from test.test_concurrent_futures import (
    test_as_completed,
    test_init,
    test_process_pool,
    test_shutdown,
    test_thread_pool,
    test_wait,
    util,
)

from piecework.executors.process import ProcessExecutor
from piecework.executors.thread import ThreadExecutor

# Class.test -> why it is not run. ExecutorShutdownTest.test_hang_gh83386 skips itself for
# processes, ours as CPython's: its script does not import what it uses. test_lifetime.py has it.
# tests/executors and tests/faults have a test of ours for each of these behaviours.
EXCLUDED = {
    "ThreadPoolTest.test_default_workers": "asks for min(32, cores + 4) threads; ours are 32",
    "ProcessPoolExecutorTest.test_killed_child": "asks that one death breaks the whole pool",
    "ProcessPoolExecutorTest.test_traceback": "asks for the private class _RemoteTraceback",
    "ProcessPoolExecutorTest.test_saturation": "reads the private _processes",
    "ProcessPoolExecutorTest.test_idle_process_reuse_one": "reads the private _processes",
    "ProcessPoolExecutorTest.test_idle_process_reuse_multiple": "reads the private _processes",
    "ProcessPoolExecutorTest.test_max_tasks_per_child": (
        "reads the private _processes; asks that fork refuses max_tasks_per_child, ours takes it"
    ),
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": (
        "reads the private _mp_context; our default is not fork in the first place"
    ),
    "ProcessPoolExecutorTest.test_python_finalization_error": (
        "breaks the thread that feeds the standard pool's queue; ours has none"
    ),
}


class Thread_Mixin(util.ExecutorMixin):
    executor_type = ThreadExecutor


class ProcessFork_Mixin(util.ProcessPoolForkMixin):
    executor_type = ProcessExecutor


class ProcessForkserver_Mixin(util.ProcessPoolForkserverMixin):
    executor_type = ProcessExecutor


class ProcessSpawn_Mixin(util.ProcessPoolSpawnMixin):
    executor_type = ProcessExecutor


MIXINS = (Thread_Mixin, ProcessFork_Mixin, ProcessForkserver_Mixin, ProcessSpawn_Mixin)
PROCESSES = MIXINS[1:]

_standard_assert_python_ok = test_shutdown.assert_python_ok


def _assert_python_ok(flag: str, script: str, **options: Any) -> Any:
    """The script imports our executor, and finds our package: isolated mode would hide it."""
    for cls in (ThreadExecutor, ProcessExecutor):
        script = script.replace(
            f"from concurrent.futures import {cls.__name__}\n",
            f"from {cls.__module__} import {cls.__name__}\n",
        )
    return _standard_assert_python_ok(flag, script, PYTHONPATH=os.environ["PYTHONPATH"], **options)


class _Futures:
    """`concurrent.futures` as the tests see it: with our executors under the standard names."""

    ThreadPoolExecutor = ThreadExecutor
    ProcessPoolExecutor = ProcessExecutor

    def __getattr__(self, name: str) -> Any:
        return getattr(futures, name)


for module in (test_shutdown, test_thread_pool):
    module.futures = _Futures()
test_shutdown.assert_python_ok = _assert_python_ok


def _suite(mixin: type, mixins: tuple[type, ...] = MIXINS) -> list[type[unittest.TestCase]]:
    found: dict[str, Any] = {"__name__": __name__}
    util.create_executor_tests(found, mixin, executor_mixins=mixins)
    return [cls for name, cls in found.items() if name != "__name__"]


class ThreadPoolTest(test_thread_pool.ThreadPoolExecutorTest):
    executor_type = ThreadExecutor


class ThreadShutdownTest(test_shutdown.ThreadPoolShutdownTest):
    """The thread pool's own shutdown tests: `_threads` is the standard pool's."""

    executor_type = ThreadExecutor


def classes() -> list[type[unittest.TestCase]]:
    found = _suite(test_process_pool.ProcessPoolExecutorTest, PROCESSES)
    for mixin in (
        test_wait.WaitTests,
        test_as_completed.AsCompletedTests,
        test_init.InitializerMixin,
        test_init.FailingInitializerMixin,
    ):
        found += _suite(mixin)
    found += _suite(test_shutdown.ExecutorShutdownTest, PROCESSES)
    return [*found, ThreadPoolTest, ThreadShutdownTest]


def excluded(cls: type, name: str) -> str:
    """Why the test is left out; empty where it is run."""
    keys = [f"{base.__name__}.{name}" for base in cls.__mro__]
    return next((EXCLUDED[key] for key in keys if key in EXCLUDED), "")


def build(kind: str) -> Iterator[unittest.TestCase]:
    loader = unittest.TestLoader()
    for cls in classes():
        if not cls.__name__.startswith(kind):
            continue
        for name in loader.getTestCaseNames(cls):
            reason = excluded(cls, name)
            if reason:
                print(f"excluded: {cls.__name__}.{name}: {reason}", file=sys.stderr)
            else:
                yield cls(name)


if __name__ == "__main__":
    util.setup_module()
    # By name, as the tests import their own module: workers must find it there, too.
    suite = unittest.TestSuite(build(sys.argv[1] if len(sys.argv) > 1 else ""))
    result = unittest.TextTestRunner(verbosity=2, failfast=False).run(suite)
    unittest.case.doModuleCleanups()
    sys.exit(not result.wasSuccessful())
