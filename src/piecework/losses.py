"""The two errors that are a `BrokenExecutor`, too; see the tree in errors.py.

`concurrent.futures` takes 10 ms to import, for it logs. A map whose workers live does without it.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from piecework.errors import PieceworkError


class WorkerLost(PieceworkError, BrokenExecutor):
    """The worker died while it ran this task; the executor goes on with another worker.

    `signal` is the number that killed it, `exitcode` what it left with (one of both is None),
    `out_of_memory` whether the kernel's counters say that memory was the reason.
    """

    def __init__(
        self,
        message: str,
        signal: int | None = None,
        exitcode: int | None = None,
        out_of_memory: bool = False,
    ) -> None:
        super().__init__(message)
        self.signal = signal
        self.exitcode = exitcode
        self.out_of_memory = out_of_memory


class ExecutorBroken(PieceworkError, BrokenExecutor):
    """No worker can be started any more (its initializer fails): every task is refused."""
