"""Threads of native libraries: by their variables, and by a call where they are loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from piecework.executors import blas
from tests.executors.processes import environment

TELL = """
import json
import numpy
from piecework.executors import blas

before = [pool.ask() for pool in blas.pools()]
blas.limit_loaded({set_now})
names = [pool.name for pool in blas.pools()]
print(json.dumps([names, before, [pool.ask() for pool in blas.pools()]]))
"""


def told(set_now: dict[str, str], **environ: str) -> list[list[int]]:
    """The threads of each library before and after."""
    names, before, after = json.loads(
        subprocess.run(
            [sys.executable, "-c", TELL.format(set_now=set_now)],
            env=environment(**environ),
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
    )
    if not names:
        pytest.skip("this NumPy has a BLAS that cannot be told")
    return [before, after]


def test_every_variable_is_set_where_none_is() -> None:
    assert blas.limits({"PATH": "/bin"}, 3) == dict.fromkeys(blas.VARIABLES, "3")


def test_a_variable_that_is_set_stays() -> None:
    found = blas.limits({"MKL_NUM_THREADS": "8"}, 1)
    assert "MKL_NUM_THREADS" not in found
    assert len(found) == len(blas.VARIABLES) - 1


def test_who_obeys_omp_is_not_set_against_it() -> None:
    found = blas.limits({"OMP_NUM_THREADS": "8"}, 1)
    assert found.keys().isdisjoint({"OMP_NUM_THREADS", *blas.OBEY_OMP})
    assert "RAYON_NUM_THREADS" in found


@pytest.mark.skipif(sys.platform != "linux", reason="loaded libraries are found on Linux only")
def test_a_loaded_library_is_told() -> None:
    before, after = told(blas.limits({}, 1), OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2")
    assert set(before) <= {1, 2}
    assert set(after) == {1}


@pytest.mark.skipif(sys.platform != "linux", reason="loaded libraries are found on Linux only")
def test_a_loaded_library_whose_variable_the_user_has_set_is_left_alone() -> None:
    before, after = told({"VECLIB_MAXIMUM_THREADS": "1"}, OPENBLAS_NUM_THREADS="2")
    assert before == after


def test_nothing_to_set_is_nothing_to_do() -> None:
    blas.limit_loaded({})
