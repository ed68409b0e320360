"""What a command's end means: its result, and the failure where it is one."""

from __future__ import annotations

import os

from piecework import commands
from piecework.commands import CommandResult
from piecework.executors import cgroup
from piecework.executors.command_child import Child
from piecework.lean import signal
from piecework.sizes import size_text
from piecework.task import Failure

_UNKNOWN = 255
_JUST_STARTED = 0.05  # seconds


def result_of(child: Child) -> CommandResult:
    """What came of a command that has ended."""
    command = child.work.call.command
    return CommandResult(
        tuple(child.words),
        _UNKNOWN if child.status is None else child.status,
        child.out.end(),
        child.err.end(),
        child.seconds,
        child.cpu_seconds,
        child.peak_memory,
        child.started,
        child.slot,
        command.encoding,
        command.errors,
    )


def hit_with_us(child: Child) -> bool:
    """Whether it was hit by a signal for all of our process group, as Ctrl-C is: a command has a
    group of its own only some microseconds after it was started."""
    if child.why or child.status is None or child.seconds > _JUST_STARTED:
        return False
    return -child.status in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)


class Verdicts:
    """Says which ends are failures; knows how many processes the kernel has killed for memory."""

    def __init__(self) -> None:
        self._kills = cgroup.oom_kills(cgroup.read_file)

    def failure_of(self, child: Child, result: CommandResult) -> Failure | None:
        """None where it did what it should."""
        name = os.path.basename(result.args[0])
        if child.why == "timeout":
            text = f"{name} passed its time limit of {child.limit:g} s and was ended"
            return commands.failure_of(result, "timeout", text)
        if child.why == "memory":
            held, limit = map(size_text, child.over_memory)
            text = f"{name} was ended: it held {held}, and max_memory is {limit}"
            return commands.failure_of(result, "memory", text)
        if child.why == "cancelled":
            return commands.failure_of(
                result, "cancelled", f"{name} was ended: the run was stopped"
            )
        if child.trouble:
            return commands.failure_of(result, "exception", f"{name}: {child.trouble}")
        if child.status is None:
            text = f"{name} ended, and its exit code went to another part of this program: "
            text += "SIGCHLD is ignored here, or somebody waits for every child"
            return commands.failure_of(result, "exception", text)
        if result.returncode in child.work.call.command.ok:
            return None
        if result.signal == signal.SIGKILL and self._out_of_memory():
            text = f"{name} was killed because memory ran out"
            return commands.failure_of(result, "memory", text)
        return commands.failure_of(result)

    def _out_of_memory(self) -> bool:
        before, self._kills = self._kills, cgroup.oom_kills(cgroup.read_file)
        return self._kills > before
