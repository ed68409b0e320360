"""Who is told what happens to commands: what a watcher may have, and telling only what it has."""

from __future__ import annotations

from collections.abc import Callable

from piecework.commands import CommandResult
from piecework.executors.command_child import Child
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Watcher:
    """What a watcher may have: told what happens, in the control loop, so it must not wait."""

    def started(
        self,
        index: int,
        attempt: int,
        slot: int,
        pid: int,
        words: list[str],
        at: float,
        payload: Any,
    ) -> object:
        """A command was started for this input, at these seconds since 1970."""

    def output(self, index: int, stream: int, data: bytes) -> object:
        """It printed whole lines on stream 1 or 2 (one longer than 1 MB comes in parts)."""

    def finished(
        self, index: int, attempt: int, result: CommandResult | None, failure: Failure | None
    ) -> object:
        """It ended; without a result where it could not be started."""


class Told:
    """Tells a watcher, or nobody."""

    def __init__(self, watcher: Any) -> None:
        self._started = getattr(watcher, "started", None)
        self._finished = getattr(watcher, "finished", None)
        self.output: Callable[[int, int, bytes], object] | None = getattr(watcher, "output", None)

    def started(self, child: Child) -> None:
        if self._started is not None:
            batch = child.work.batch
            self._started(
                child.index,
                batch.attempt,
                child.slot,
                child.pid,
                child.words,
                child.started,
                batch.payloads[child.position],
            )

    def finished(self, child: Child, result: CommandResult | None, failure: Failure | None) -> None:
        if self._finished is not None:
            self._finished(child.index, child.work.batch.attempt, result, failure)
