"""piecework: one huge, accountable map. Every input is accounted for, by name.

The names below are all of the public API. They are loaded when first used: a worker process
imports this package too, and pays only for what it needs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.commands import CommandResult, command
    from piecework.errors import (
        AuthError,
        CannotPickle,
        CommandFailed,
        DeadlineExceeded,
        DeadlockError,
        InputError,
        JournalChanged,
        JournalError,
        JournalInvalid,
        JournalLocked,
        PieceworkError,
        QueueUnreachable,
        RemoteError,
        RunHalted,
        TaskTimeout,
        UsageError,
    )
    from piecework.executors.coroutine import CoroutineExecutor
    from piecework.executors.process import ProcessExecutor
    from piecework.executors.thread import ThreadExecutor
    from piecework.handle import Run
    from piecework.joblib_register import register_joblib
    from piecework.losses import ExecutorBroken, WorkerLost
    from piecework.pool import Pool
    from piecework.retry import Backoff
    from piecework.runtime import map
    from piecework.summary import Progress, Summary
    from piecework.task import Failure, Result

__all__ = [
    "AuthError",
    "Backoff",
    "CannotPickle",
    "CommandFailed",
    "CommandResult",
    "CoroutineExecutor",
    "DeadlineExceeded",
    "DeadlockError",
    "ExecutorBroken",
    "Failure",
    "InputError",
    "JournalChanged",
    "JournalError",
    "JournalInvalid",
    "JournalLocked",
    "PieceworkError",
    "Pool",
    "ProcessExecutor",
    "Progress",
    "QueueUnreachable",
    "RemoteError",
    "Result",
    "Run",
    "RunHalted",
    "Summary",
    "TaskTimeout",
    "ThreadExecutor",
    "UsageError",
    "WorkerLost",
    "command",
    "map",
    "register_joblib",
]

__version__ = "0.1.0"

_HOMES = {
    "Backoff": "retry",
    "CommandResult": "commands",
    "CoroutineExecutor": "executors.coroutine",
    "ExecutorBroken": "losses",
    "Failure": "task",
    "Pool": "pool",
    "ProcessExecutor": "executors.process",
    "Progress": "summary",
    "Result": "task",
    "Run": "handle",
    "Summary": "summary",
    "ThreadExecutor": "executors.thread",
    "WorkerLost": "losses",
    "command": "commands",
    "map": "runtime",
    "register_joblib": "joblib_register",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'piecework' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"piecework.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
