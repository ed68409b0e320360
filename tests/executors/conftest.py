"""The modes that every executor test runs in: one parameter is one implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from piecework.executors.coroutine import CoroutineExecutor
from piecework.executors.process import ProcessExecutor
from piecework.executors.thread import ThreadExecutor
from tests.executors import async_tasks, tasks
from tests.executors.gate import Gate


@dataclass(frozen=True)
class Mode:
    name: str
    make: Callable[..., Any]
    tasks: ModuleType  # plain functions or coroutine functions
    processes: bool
    source: str  # what makes it, for a script

    def __str__(self) -> str:
        return self.name


def _mode(cls: type, module: ModuleType, **options: Any) -> Mode:
    name = "-".join([cls.__name__.removesuffix("Executor").lower(), *map(str, options.values())])
    arguments = "".join(f", {key}={value!r}" for key, value in options.items())

    def make(max_workers: int | None = 2, **more: Any) -> Any:
        return cls(max_workers, **{**options, **more})

    source = f"from {cls.__module__} import {cls.__name__}\nex = {cls.__name__}(2{arguments})\n"
    return Mode(name, make, module, cls is ProcessExecutor or "processes" in options, source)


MODES = [
    _mode(ThreadExecutor, tasks),
    _mode(CoroutineExecutor, async_tasks),
    _mode(CoroutineExecutor, async_tasks, processes=2),
    _mode(ProcessExecutor, tasks),
    _mode(ProcessExecutor, tasks, mp_context="fork"),
    _mode(ProcessExecutor, tasks, mp_context="forkserver"),
    _mode(ProcessExecutor, tasks, mp_context="spawn"),
    _mode(ProcessExecutor, tasks, threads=2),
]


@pytest.fixture(scope="module", params=MODES, ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


@pytest.fixture(scope="module")
def shared(mode: Mode) -> Iterator[Any]:
    """An executor that the tests of a module share: for those that leave it as it was."""
    with mode.make() as executor:
        yield executor


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate
