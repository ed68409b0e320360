"""A pool on processes and one on threads: what holds for one holds for the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from piecework import Pool
from tests.executors.gate import Gate


@pytest.fixture(params=["processes", "threads"], scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, on=request.param) as pool:
        yield pool
    pool.join()


@pytest.fixture
def processes() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate
