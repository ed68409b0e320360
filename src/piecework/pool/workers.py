"""The executor that a Pool works with, and its workers as `pool._pool` shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from piecework.errors import UsageError
from piecework.executors.process import ProcessExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from typing import Any

MODES = ("processes", "threads")


def executor_for(
    on: str,
    processes: int,
    initializer: Callable[..., Any] | None,
    initargs: Iterable[Any],
    maxtasksperchild: int | None,
    context: BaseContext | str | None,
) -> Any:
    """The executor, or what multiprocessing raises for such arguments."""
    if on not in MODES:
        raise UsageError(f"no pool on {on!r}. Choose one of: {', '.join(MODES)}")
    if processes < 1:
        raise ValueError("Number of processes must be at least 1")
    if maxtasksperchild is not None and not (
        isinstance(maxtasksperchild, int) and maxtasksperchild > 0
    ):
        raise ValueError("maxtasksperchild must be a positive int or None")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if on == "processes":
        return ProcessExecutor(
            processes,
            context or _method_that_was_set(),
            initializer,
            tuple(initargs),
            max_tasks_per_child=maxtasksperchild,
        )
    if maxtasksperchild is not None or context is not None:
        raise UsageError("threads have no maxtasksperchild and no context: leave them out")
    from piecework.executors.thread import ThreadExecutor

    return ThreadExecutor(processes, "", initializer, tuple(initargs))


def _method_that_was_set() -> str | None:
    """The start method that the program has chosen for multiprocessing; None where it has not."""
    context = sys.modules.get("multiprocessing.context")
    if context is None:
        return None
    method: str | None = context._default_context.get_start_method(allow_none=True)
    return method


class PoolWorker:
    """What many read of the standard pool's private list of workers."""

    def __init__(self, pid: int, name: str, alive: Callable[[int], bool]) -> None:
        self.pid = pid
        self.name = name
        self._alive = alive

    def is_alive(self) -> bool:
        """Whether it may still get calls."""
        return self._alive(self.pid)
