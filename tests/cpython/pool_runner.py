"""Runs CPython's own tests of multiprocessing.Pool on ours; for a 3.13 interpreter with `test`.

    python pool_runner.py [fork | forkserver | spawn | threads | manager]

The tests of `test._test_multiprocessing` come as mixins and are run as CPython runs them: on worker
processes under each start method, on threads, and behind the proxies of a manager. This module puts
piecework.Pool in the place of the standard one; where a test starts a script that imports it, the
script is made to import ours. EXCLUDED names every test that is left out, with the reason.
"""

from __future__ import annotations

import faulthandler
import multiprocessing.managers
import os
import sys
import unittest
from functools import partial
from typing import Any

if __name__ == "__main__":
    # By name, as the tests import their own module: workers must find it there, too.
    import pool_runner

    sys.exit(pool_runner.main())

import piecework
from piecework import failures

SECONDS = 250  # then it says where it hangs
MANAGER = multiprocessing.managers.SyncManager
MANAGER.register("Pool", piecework.Pool, multiprocessing.managers.PoolProxy)

# Class.test -> why it is not run.
EXCLUDED = {
    "_TestPoolWorkerErrors.test_unpickleable_result": (
        "returns a lambda, which ours can; tests/pool/test_pool.py returns a lock"
    ),
    "TestPoolNotLeakOnFailure.test_release_unused_processes": (
        "gives a context whose Process is a mock; ours takes only the start method from it"
    ),
}
TYPES = {"threads": "threads", "manager": "manager"}
WANTED = {
    "_TestPool": "",
    "_TestPoolWorkerErrors": "",
    "_TestPoolWorkerLifetime": "",
    "TestInitializers": "test_pool_initializer",
    "TestPoolNotLeakOnFailure": "",
    "TestStdinBadfiledescriptor": "test_pool_in_process",
    "MiscTestCase": "test_large_pool",
}

from test import _test_multiprocessing as tests  # noqa: E402  # after the manager knows our Pool
from test.support import script_helper  # noqa: E402

multiprocessing.Pool = piecework.Pool  # type: ignore[assignment]
tests.ProcessesMixin.Pool = staticmethod(piecework.Pool)
tests.ThreadsMixin.Pool = staticmethod(partial(piecework.Pool, on="threads"))
# A private class, but the test of the traceback asks for its name, not for what it is.
multiprocessing.pool.RemoteTraceback = failures.RemoteTraceback  # type: ignore[attr-defined]

_standard_run = script_helper.run_python_until_end


def _run(*args: str, **options: Any) -> Any:
    """The script imports our Pool, and finds our package: isolated mode would hide it."""
    made = []
    for arg in args:
        if os.path.isfile(arg):
            with open(arg) as file:
                text = file.read()
            with open(arg, "w") as file:
                file.write(_with_our_pool(text))
        made.append(_with_our_pool(arg))
    return _standard_run(*made, **options, PYTHONPATH=os.environ["PYTHONPATH"])


def _with_our_pool(text: str) -> str:
    text = text.replace("from multiprocessing import Pool", "from piecework import Pool")
    return text.replace("multiprocessing.Pool(", "__import__('piecework').Pool(")


script_helper.run_python_until_end = _run

KIND = sys.argv[1] if len(sys.argv) > 1 else "fork"
METHOD = KIND if KIND not in TYPES else "fork"
tests.install_tests_in_module_dict(globals(), METHOD)


def build() -> unittest.TestSuite:
    suite = unittest.TestSuite()
    loader = unittest.TestLoader()
    prefix = "With" + TYPES.get(KIND, "processes").capitalize()
    for name, only in WANTED.items():
        plain = not name.startswith("_")
        cls = globals().get(name if plain else prefix + name[1:])
        if cls is None or (plain and KIND in TYPES):
            continue
        for test in loader.getTestCaseNames(cls):
            reason = EXCLUDED.get(f"{name}.{test}", "")
            if reason:
                print(f"excluded: {name}.{test}: {reason}", file=sys.stderr)
            elif not only or test == only:
                suite.addTest(cls(test))
    return suite


def main() -> bool:
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    result = unittest.TextTestRunner(verbosity=2).run(build())
    return not result.wasSuccessful()
