"""What is to be run: a command that batches are submitted of, and what of each batch is open."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from piecework.commands import Command
from piecework.task import Batch, Failure, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NEVER_STARTED = Failure(
    type="concurrent.futures.CancelledError", message="never started", cause="cancelled"
)


class Call:
    """A command, ready to be run: its program found, its environment made."""

    __slots__ = (
        "command",
        "env",
        "memory",
        "pipe_bytes",
        "prints_much",
        "program",
        "time_limit",
        "token",
        "works",
    )

    def __init__(
        self,
        command: Command,
        program: str | None,
        env: dict[bytes, bytes],
        time_limit: float | None,
        token: str,
        memory: int | None = None,
    ) -> None:
        self.command = command
        self.program = program
        self.env = env
        self.time_limit = time_limit
        self.memory = memory  # bytes
        self.token = token  # its commands have it in their environment
        self.pipe_bytes = 0  # of a pipe for one that prints much
        self.prints_much: set[int] = set()  # streams, 1 or 2, on which one of them did
        self.works: set[Work] = set()


class Work:
    """A batch: its positions wait, run, and are reported one by one."""

    __slots__ = ("_report", "batch", "call", "given_up", "left", "repeats", "waiting")

    def __init__(self, call: Call, batch: Batch, report: Callable[[Report], None]) -> None:
        self.call = call
        self.batch = batch
        self.waiting = deque(range(len(batch)))
        self.given_up = False  # what has not started will not
        self.left = len(batch)  # not reported yet
        self.repeats: dict[int, int] = {}  # executions that were taken back, by position
        self._report = report

    def tell(
        self,
        position: int,
        value: Any,
        failure: Failure | None,
        worker: str,
        seconds: float = 0.0,
        *,
        nbytes: int = 0,
        cpu: float = 0.0,
    ) -> None:
        """Report how one task ended."""
        failures = {} if failure is None else {position: failure}
        self.left -= 1
        repeats = self.repeats.pop(position, 0)
        report = Report(
            self.batch,
            position,
            [value],
            failures,
            [(1, seconds)],
            worker,
            repeats=repeats,
            nbytes=nbytes,
            cpu=cpu,
        )
        self._report(report)

    def give_up(self) -> None:
        """What has not started is cancelled."""
        self.given_up = True
        while self.waiting:
            self.tell(self.waiting.popleft(), None, NEVER_STARTED, "")
