"""A pytest plugin that runs joblib's own tests with "piecework" in the place of "loky".

    python -m pytest -p joblib_runner --pyargs joblib.test.test_parallel

"loky" is also what joblib takes where no backend is named. It is replaced in this process, in
workers, and in the scripts that tests start. Only cases that run ours are kept, and EXCLUDED names
those of them that cannot pass, with the reason.
"""

from __future__ import annotations

import os
import re
from typing import Any

import joblib
import joblib._parallel_backends
import joblib.parallel
import joblib.testing
import pytest

from piecework import joblib_backend, joblib_worker

# Beginning of a test's name -> why it is not run.
EXCLUDED = {
    "test_nested_parallel_warnings": (
        "asks that loky warns and runs one job below threads and below loky; ours nests, with as "
        "many workers as the task's share of the cores allows"
    ),
    "test_parallel_pickling": "asks for loky's wording; ours is CannotPickle, a PicklingError, too",
    "test_auto_memmap_on_arrays_from_generator": "asks that arrays arrive as np.memmap",
    "test_memmapping_leaks": "asks that arrays arrive as np.memmap, from files in temp_folder",
    "test_parallel_with_interactively_defined_bound_method_loky": (
        "asks for LokyProcess in the log"
    ),
    "test_multiple_generator_call_separated_gc": (
        "asks that a call fails while the generator of an earlier one is collected; with ours, "
        "where no two calls share workers, it succeeds (tests/dropin/test_joblib.py)"
    ),
    "test_loky_reuse_workers": (
        "looks at loky's own executor; tests/dropin/test_joblib.py has one of ours"
    ),
    "test_globals_update_at_each_parallel_call": (
        "sets a global of an imported module between calls; workers of ours import that module, "
        "and send by value the globals of __main__ only"
    ),
    "test_nested_parallelism_limit": 'asks for the class name "LokyBackend"',
}
Backend = joblib_backend.PieceworkBackend
_set_up_worker = joblib_worker.set_up_worker
_check_subprocess_call = joblib.testing.check_subprocess_call


def put_in_place() -> None:
    joblib.parallel.BACKENDS["loky"] = Backend
    joblib._parallel_backends.LokyBackend = Backend


def set_up_worker(*args: Any) -> None:
    _set_up_worker(*args)
    put_in_place()


def check_subprocess_call(command: list[str], **options: Any) -> Any:
    """The script runs ours, too."""
    first = "import joblib_runner; joblib_runner.put_in_place()\n"
    *words, last = command
    if os.path.isfile(last):
        with open(last) as file:
            text = file.read()
        with open(last, "w") as file:
            file.write(first + text)
    else:
        last = first + last
    return _check_subprocess_call([*words, last], **options)


joblib_backend.set_up_worker = set_up_worker
joblib.testing.check_subprocess_call = check_subprocess_call
put_in_place()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    kept = []
    for item in items:
        name = item.name.partition("[")[0]
        if name in EXCLUDED:
            print(f"excluded: {item.name}: {EXCLUDED[name]}")
        elif _runs_ours(item):
            kept.append(item)
    items[:] = kept


def _runs_ours(item: Any) -> bool:
    """Whether it names no backend, so that the default one is taken, or names ours."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    named = [value for key, value in params.items() if re.search("backend|^error$", key)]
    if not named:
        return True
    return any(value is None or value == "loky" or isinstance(value, Backend) for value in named)
