"""The values that travel: Batch to a worker, Report back from it, Result to the user.

A batch is cut from the input by the master, leased by a worker, run on the slots of an
executor, and answered by one or more reports. The contract between them is one sentence:
every position of a batch is reported exactly once, in any number of reports.
"""

from __future__ import annotations

from piecework.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from piecework.commands import CommandResult

    Cause = Literal[
        "exception",  # the function raised
        "timeout",  # it passed its time limit and was ended
        "signal",  # its worker was killed by a signal
        "exit",  # its worker left with an exit code
        "memory",  # its worker was killed for want of memory
        "pickle",  # its argument or its result could not be sent
        "cancelled",  # it was never started: the run ended before
    ]
else:
    Cause = str

LOSSES: frozenset[str] = frozenset({"signal", "exit", "memory"})
"""The causes that mean: the worker died under this task."""


@record(frozen=True, slots=True)
class Failure:
    """Why a task failed, as data: it can be stored, sent and grouped without the exception.

    `type` is the exception's qualified name (`builtins` left out), `where` the innermost
    `file:line in function` of the user's code, `traceback` the remote text with its whole chain.
    `bases` are the qualified names of the exception's classes, itself first, as its type
    inherits: `retry_on` is decided from them. `pickled` is what `failures.rebuild` makes the
    exception from, on the consumer's side only. `output` are the last lines that the task printed,
    `result` how a command ended that ran for it.
    """

    type: str
    message: str
    cause: Cause = "exception"
    where: str = ""
    traceback: str = ""
    pickled: bytes = b""
    signal: int | None = None
    exitcode: int | None = None
    peak_memory: int | None = None  # bytes, where the operating system told
    bases: tuple[str, ...] = ()
    output: str = ""
    result: CommandResult | None = None
    HIDDEN = ("pickled", "output", "result")

    @property
    def lost(self) -> bool:
        """True where the worker died under the task: another worker may be tried."""
        return self.cause in LOSSES and self.result is None  # a command's end harms no worker

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@record(frozen=True, slots=True)
class Task:
    """One input to be worked on."""

    index: int
    payload: Any
    attempt: int = 1


@record(slots=True)
class Batch:
    """Tasks that travel together: one lease, one ack.

    `indexes` is a range as drawn from the input, a tuple where tasks are handed out again.
    All tasks of a batch have the same `attempt`. `alone` asks that nothing else runs in the
    same worker process: then a death has one possible culprit.
    """

    id: int
    indexes: Sequence[int]
    payloads: list[Any]
    attempt: int = 1
    alone: bool = False
    nbytes: int = 0  # of the payloads as an executor shipped them; 0 where nothing was copied

    def __len__(self) -> int:
        return len(self.indexes)


@record(slots=True)
class Report:
    """The outcome of a stretch of a batch: `len(values)` tasks from position `offset` on.

    `values` holds None where the task failed; `failures` maps the position **in the batch** to
    the reason. `timings` are stretches of `(tasks, seconds)` that add up to `len(values)`: tiny
    tasks are timed together. `repeats` counts earlier executions that had
    begun, or finished unreported, and were lost with their worker.
    """

    batch: Batch
    offset: int
    values: list[Any]
    failures: dict[int, Failure]
    timings: list[tuple[int, float]]
    worker: str
    repeats: int = 0
    nbytes: int = 0  # of the values as they travelled; 0 where nothing was copied
    cpu: float = 0.0  # CPU seconds that the stretch took in its slot; 0 where not measured

    def __len__(self) -> int:
        return len(self.values)


@record(frozen=True, slots=True)
class Result:
    """The outcome of one task: `value` where `ok`, else `failure`.

    `seconds` is the task's own duration (for tiny tasks the mean of those timed together),
    `attempt` the one that settled it (1 is the first), `worker` where it ran. `recalled`: it was
    not run now, it comes from the journal of an earlier session.
    """

    index: int
    input: Any
    ok: bool
    value: Any = None
    failure: Failure | None = None
    seconds: float = 0.0
    attempt: int = 1
    worker: str = ""
    recalled: bool = False
