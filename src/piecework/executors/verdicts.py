"""The failures that the engine itself writes: deaths, time limits, cancelled, broken."""

from __future__ import annotations

from piecework.executors import cgroup
from piecework.executors.worker_process import WorkerProcess
from piecework.lean import signal
from piecework.sizes import size_text
from piecework.task import Cause, Failure

_EXIT_KILLED = 128 + signal.SIGKILL  # what a shell, and so many a program, leaves with


def oom_kills() -> int:
    """How many processes of this control group the kernel has killed for memory; 0 if unknown."""
    return cgroup.oom_kills(cgroup.read_file)


def lost_failure(worker: WorkerProcess, *, memory: bool) -> Failure:
    """The worker died under the task: by which signal or with which exit code."""
    number = code = None
    cause: Cause = "exit"
    if worker.doomed == "terminated":
        said = "was ended on request"
        cause = "signal"
    elif worker.status is None:
        said = "disappeared"
    elif worker.status < 0:
        number = -worker.status
        said = f"was killed by {_signal_name(number)}"
        cause = "signal"
        if number == signal.SIGKILL and memory:
            cause = "memory"
            said += " because memory ran out"
    else:
        code = worker.status
        said = f"left with exit code {code}"
        if code == _EXIT_KILLED and memory:
            cause = "memory"
            said += " because a process of its was killed as memory ran out"
    peak = f" (peak memory {size_text(worker.peak)})" if cause == "memory" else ""
    return Failure(
        type="piecework.WorkerLost",
        message=f"the worker {said} while it ran this task{peak}",
        cause=cause,
        signal=number,
        exitcode=code,
        peak_memory=worker.peak or None,
    )


def _signal_name(number: int) -> str:
    from signal import Signals  # enums, for this one text

    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def timeout_failure(worker: WorkerProcess, limit: float) -> Failure:
    return Failure(
        type="piecework.TaskTimeout",
        message=f"the task passed its time limit of {limit:g} s and was ended",
        cause="timeout",
        traceback=worker.stacks,
    )


def memory_failure(worker: WorkerProcess) -> Failure:
    """It passed `max_memory` and was killed for that."""
    held, limit = worker.over_memory
    return Failure(
        type="piecework.WorkerLost",
        message=f"the worker was ended: it held {size_text(held)} while it ran this task, and "
        f"max_memory is {size_text(limit)}",
        cause="memory",
        signal=signal.SIGKILL,
        peak_memory=held,
    )


def cancelled_failure() -> Failure:
    return Failure(
        type="concurrent.futures.CancelledError",
        message="the task was given up before it had finished",
        cause="cancelled",
    )


def broken_failure(reason: str, cause: Failure | None) -> Failure:
    """No worker can be started: with the failure of the initializer where there is one."""
    message = f"no worker process can be started: {reason}"
    if cause is not None:
        message += f" {cause}"
    return Failure(
        type="piecework.ExecutorBroken",
        message=message,
        traceback=cause.traceback if cause is not None else "",
    )
