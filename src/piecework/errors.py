"""Every error piecework raises, in one tree.

    PieceworkError
    ├── UsageError(ValueError)               the caller must change the call
    │   └── CannotPickle(pickle.PicklingError)   a value cannot be sent to another process
    ├── InputError                           drawing an input raised; `.index` names it
    ├── TaskTimeout(TimeoutError)            a task passed its time limit and was ended
    ├── WorkerLost(BrokenExecutor)           the worker died while it ran the task
    ├── ExecutorBroken(BrokenExecutor)       no worker can be started any more
    ├── RemoteError                          the task raised what cannot be rebuilt here
    ├── RunHalted                            the run was stopped before its inputs ended
    │   └── DeadlineExceeded(TimeoutError)   ... because its deadline passed
    ├── DeadlockError                        acquiring would close a cycle of waits
    ├── AuthError                            the key was refused
    └── QueueUnreachable(ConnectionError)    no queue answers at the address

An error of the user's own function is never wrapped where its type can be rebuilt:
it is raised as itself, with notes that carry input, attempt and worker.
"""

from __future__ import annotations

import pickle
from concurrent.futures import BrokenExecutor


class PieceworkError(Exception):
    """The root: catching it catches everything that piecework itself raises."""


class UsageError(PieceworkError, ValueError):
    """The call cannot be carried out as given; the message ends with the way out."""


class CannotPickle(UsageError, pickle.PicklingError):
    """A value cannot be sent to another process; the message names the attribute path."""


class InputError(PieceworkError):
    """Drawing an input raised: nothing after it can be drawn.

    What was drawn before is finished and counted first. `index` is the place of the input
    that could not be drawn; `__cause__` is the exception of the iterable.
    """

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


class TaskTimeout(PieceworkError, TimeoutError):
    """The task passed its time limit and was ended; nothing else was harmed."""


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


class RemoteError(PieceworkError):
    """The task raised an exception that cannot be rebuilt in this process; its text is here."""


class RunHalted(PieceworkError):
    """The run was stopped before its inputs ended; what was finished is kept."""


class DeadlineExceeded(RunHalted, TimeoutError):
    """The run's deadline passed; what was finished is kept."""


class DeadlockError(PieceworkError):
    """Acquiring would close a cycle of waits: nobody in it could ever go on."""


class AuthError(PieceworkError):
    """The key was refused."""


class QueueUnreachable(PieceworkError, ConnectionError):
    """No queue answers at the address."""
