"""How often each case is run: once, or PIECEWORK_FAULT_ROUNDS times."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.executors.gate import Gate

ROUNDS = int(os.environ.get("PIECEWORK_FAULT_ROUNDS", "1"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if ROUNDS > 1:
        metafunc.fixturenames.append("fault_round")
        metafunc.parametrize("fault_round", range(ROUNDS))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate
