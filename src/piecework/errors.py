"""Every error piecework raises, in one tree.

    PieceworkError
    ├── UsageError(ValueError)               the caller must change the call
    │   └── CannotPickle(pickle.PicklingError)   a value cannot be sent to another process
    ├── InputError                           drawing an input raised; `.index` names it
    ├── TaskTimeout(TimeoutError)            a task passed its time limit and was ended
    ├── WorkerLost(BrokenExecutor)           the worker died while it ran the task
    ├── CommandFailed                        a child command ended badly; `.result` says how
    ├── ExecutorBroken(BrokenExecutor)       no worker can be started any more
    ├── RemoteError                          the task raised what cannot be rebuilt here
    ├── JournalError                         the journal cannot be kept: its directory, its disk
    │   ├── JournalLocked                    a live run writes to it
    │   ├── JournalInvalid                   the file is no journal, damaged, or of a newer version
    │   └── JournalChanged(UsageError)       it is there already, or of another function or inputs
    ├── RunHalted                            the run was stopped before its inputs ended
    │   └── DeadlineExceeded(TimeoutError)   ... because its deadline passed
    ├── DeadlockError                        acquiring would close a cycle of waits
    ├── AuthError                            the key was refused
    └── QueueUnreachable(ConnectionError)    no queue answers at the address

WorkerLost and ExecutorBroken are defined in losses.py, and imported only where a worker was lost:
their base takes longer to import than all the rest of a map.

An error of the user's own function is never wrapped where its type can be rebuilt:
it is raised as itself, with notes that carry input, attempt and worker.
"""

from __future__ import annotations

from piecework.lean import pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from piecework.commands import CommandResult


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


class CommandFailed(PieceworkError):
    """A child command ended with an exit code that does not mean success, or by a signal.

    `result` is its CommandResult; None where it could not be started.
    """

    def __init__(self, message: str, result: CommandResult | None = None) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[str, CommandResult | None]]:
        return type(self), (str(self), self.result)


class RemoteError(PieceworkError):
    """The task raised an exception that cannot be rebuilt in this process; its text is here."""


class RunHalted(PieceworkError):
    """The run was stopped before its inputs ended; what was finished is kept."""


class DeadlineExceeded(RunHalted, TimeoutError):
    """The run's deadline passed; what was finished is kept."""


class JournalError(PieceworkError):
    """The journal cannot be kept or read; what it holds is left as it is."""


class JournalLocked(JournalError):
    """A live run writes to this journal; two would run the same tasks twice."""


class JournalInvalid(JournalError):
    """The file is no journal, is damaged, or is of a newer version; it was not touched."""


class JournalChanged(JournalError, UsageError):
    """What is there does not go with this call: the name is taken, or the function or the inputs
    are others. The message names what, and how to go on all the same."""


class DeadlockError(PieceworkError):
    """Acquiring would close a cycle of waits: nobody in it could ever go on."""


class AuthError(PieceworkError):
    """The key was refused."""


class QueueUnreachable(PieceworkError, ConnectionError):
    """No queue answers at the address."""
