"""What a run of commands leaves behind: their output, JSON lines, the job log, result folders.

result ──▶ Show.write ─┬─▶ their stdout on ours, their stderr on ours, each at once
                       ├─▶ or one JSON object
                       ├─▶ --joblog: a line
                       └─▶ --results: a folder
lines as they come (--line-buffer) ──▶ Show.output ──▶ the same places
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator

from piecework.errors import PieceworkError
from piecework.screen import STDERR
from piecework.templates import parse, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework import Failure, Result
    from piecework.cli.exec.joblog import Joblog
    from piecework.cli.exec.limits import Usual
    from piecework.cli.exec.plan import Plan
    from piecework.cli.output import Output
    from piecework.commands import Command, CommandResult

TEXT_BYTES_MAX = 1 << 24  # of an output in a JSON object: the end of it, beyond that


class Show:
    """Writes each result. `write` is for the consumer, the others for the control loop."""

    def __init__(
        self,
        plan: Plan,
        options: dict[str, Any],
        out: Output,
        joblog: Joblog | None,
        index_of: Callable[[int], int] | None = None,
    ) -> None:
        self._index_of = index_of  # of a retried task: its index in the run
        self._plan = plan
        self._out = out
        self._joblog = joblog
        self._folder: str | None = options["results"]
        self._json = bool(options["json"] or options["output"])
        self._grouped = options["grouping"] == "group" and not self._json
        self._verbose = bool(options["verbose"]) and not self._json
        tag = options["tagstring"] or ("{}" if options["tag"] else None)
        self._tag = None if tag is None else parse([tag])
        self._plain = not (self._json or joblog or self._folder or self._verbose or tag)

    def write(self, result: Result) -> None:
        """A task is settled: what it printed, and what is noted of it."""
        ended = command_result(result)
        if self._plain:
            if self._grouped and ended is not None and not result.recalled:
                self._print(ended, b"")
            return
        if not result.recalled:
            self._note(result, ended)
        if self._json:
            index = result.index if self._index_of is None else self._index_of(result.index)
            self._out.write(line(result, index), result.index)
        elif not result.recalled:
            if self._verbose:
                self._out.write(os.fsencode(self._text(result, ended)) + b"\n")
            if self._grouped and ended is not None:
                self._print(ended, self._tag_of(result.input, result.index, ended.slot))

    def _print(self, ended: CommandResult, tag: bytes) -> None:
        """Standard output to ours, then standard error to ours, nothing in between."""
        if ended.out.size:
            self._out.write_parts(tagged(ended.out.chunks(), tag))
        if ended.err.size:
            self._out.flush()  # in this order on a terminal that shows both
            to_stderr(tagged(ended.err.chunks(), tag), ended=ended.err.tail(1) == b"\n")

    def _tag_of(self, given: Any, index: int, slot: int) -> bytes:
        if self._tag is None:
            return b""
        columns = self._columns(given, index)
        try:
            words = self._tag.render(columns, index + 1, slot)
        except PieceworkError:  # a line with fewer columns than the tag asks for
            words = list(columns)
        return os.fsencode(" ".join(words)) + b"\t"

    def _columns(self, given: Any, index: int) -> tuple[str, ...]:
        if isinstance(given, bytes):
            return (str(index + 1),)  # a block of standard input has no name but its number
        return (given,) if isinstance(given, str) else tuple(given)

    def close(self) -> None:
        """Nothing more will come."""
        if self._joblog is not None:
            self._joblog.close()

    # -- while commands run -------------------------------------------------------------------

    def lines(self, given: Any, index: int, slot: int, stream: int, data: bytes) -> None:
        """Whole lines that a running command has printed; what is cut off gets its end."""
        if not data.endswith(b"\n"):
            data += b"\n"
        tag = self._tag_of(given, index, slot)
        if stream == 2:
            to_stderr(tagged([data], tag))
            return
        try:
            self._out.write(b"".join(tagged([data], tag)))
        except (BrokenPipeError, PieceworkError):
            pass  # the ticker sees it as well, and stops the run

    # -- what is noted ------------------------------------------------------------------------

    def _note(self, result: Result, ended: CommandResult | None) -> None:
        failure = result.failure
        if failure is not None and failure.cause == "cancelled":
            return
        if self._joblog is not None:
            self._log(self._joblog, result, ended)
        if self._folder is not None and ended is not None:
            self._keep(self._folder, result, ended)

    def _log(self, joblog: Joblog, result: Result, ended: CommandResult | None) -> None:
        text = self._text(result, ended)
        sent = len(result.input) if isinstance(result.input, bytes) else 0
        if ended is None:  # it could not even be started, as a shell says
            from time import time

            joblog.add(result.index + 1, time(), 0.0, 0, 0, 127, 0, text)
            return
        exitcode = max(0, ended.returncode)
        if result.failure is not None and result.failure.cause == "timeout":
            exitcode = -1
        received = ended.out.size
        joblog.add(
            result.index + 1, ended.started, ended.seconds, sent, received,
            exitcode, ended.signal or 0, text,
        )  # fmt: skip

    def _text(self, result: Result, ended: CommandResult | None) -> str:
        """The command as one line."""
        slot = 1 if ended is None else ended.slot
        try:
            return self._plan.command.text(result.input, result.index + 1, slot)
        except PieceworkError:
            return " ".join(map(quoted, self._columns(result.input, result.index)))

    def _keep(self, folder: str, result: Result, ended: CommandResult) -> None:
        from piecework.cli.exec import folders

        columns = self._columns(result.input, result.index)
        path = os.path.join(folder, folders.folder_of(columns, self._plan.names))
        folders.keep(path, result.index + 1, ended.out.chunks, ended.err.chunks)


class Watcher:
    """Told by the executor, in its control loop, what happens to commands."""

    def __init__(
        self,
        command: Command,
        *,
        trace: bool = False,
        usual: Usual | None = None,
        lines: Callable[[Any, int, int, int, bytes], None] | None = None,
    ) -> None:
        self._command = command
        self._trace = trace
        self._usual = usual
        self._lines = lines
        self._running: dict[int, tuple[Any, int]] = {}  # by index: input and slot
        if lines is not None:
            self.output = self._output  # only then is the executor to pass lines on

    def started(
        self, index: int, attempt: int, slot: int, pid: int, argv: Any, at: float, given: Any = None
    ) -> None:
        """`-t`: say it."""
        if self._lines is not None:
            self._running[index] = given, slot
        if self._trace:
            to_stderr([os.fsencode(self._command.text(given, index + 1, slot)) + b"\n"])

    def _output(self, index: int, stream: int, data: bytes) -> None:
        assert self._lines is not None
        given, slot = self._running[index]
        self._lines(given, index, slot, stream, data)

    def finished(
        self, index: int, attempt: int, ended: CommandResult | None, failure: Failure | None
    ) -> None:
        """How long commands take that end by themselves."""
        self._running.pop(index, None)
        cause = None if failure is None else failure.cause
        if self._usual is not None and ended is not None and cause in (None, "exit"):
            self._usual.add(ended.seconds)


def command_result(result: Result) -> CommandResult | None:
    """How the command of this result ended; None where it was never started."""
    if result.ok:
        return result.value  # type: ignore[no-any-return]  # a value is Any
    return None if result.failure is None else getattr(result.failure, "result", None)


def tagged(chunks: Iterable[bytes], tag: bytes) -> Iterator[bytes]:
    """The same with `tag` at the beginning of each line."""
    if not tag:
        yield from chunks
        return
    begins = True
    between = b"\n" + tag
    for chunk in filter(None, chunks):
        ends = chunk.endswith(b"\n")
        body = chunk[:-1] if ends else chunk
        text = body.replace(b"\n", between)
        yield b"".join((tag if begins else b"", text, b"\n" if ends else b""))
        begins = ends


def to_stderr(parts: Iterable[bytes], *, ended: bool = True) -> None:
    """As it is, above any bar; that nobody listens is no reason to stop.

    Not `ended`: its last line has no end, and a bar waits for it.
    """
    if sys.stderr is None:  # closed from the beginning: descriptor 2 is something else by now
        return
    with STDERR.passing(ended=ended):
        for part in parts:
            rest = memoryview(part)
            while rest:
                try:
                    rest = rest[os.write(2, rest) :]
                except BlockingIOError:
                    select.select([], [2], [], 1.0)
                except OSError:
                    return


def line(result: Result, index: int | None = None) -> bytes:
    """One result as a line of JSON; `index` is the task's, if not as the result has it."""
    from piecework.cli import values

    index = result.index if index is None else index
    entry: dict[str, Any] = {"index": index, "input": _shown(result), "ok": result.ok}
    ended = command_result(result)
    if result.ok:
        entry["value"] = _ended(ended)
    else:
        from piecework.cli.map import failure

        entry["failure"] = {**failure(result), **_ended(ended)}
        if ended is not None:
            entry["failure"].pop("output", None)  # the last lines of stderr
    return values.encode(entry) + b"\n"


def _shown(result: Result) -> Any:
    if isinstance(result.input, bytes):
        return {"block": result.index + 1, "bytes": len(result.input)}
    return result.input


def _ended(ended: CommandResult | None) -> dict[str, Any]:
    """How a command ended, as an object."""
    if ended is None:
        return {}
    entry: dict[str, Any] = {"exitcode": ended.returncode} if ended.returncode >= 0 else {}
    if ended.signal is not None:
        entry["signal"] = ended.signal
    for name, output in (("stdout", ended.out), ("stderr", ended.err)):
        data = output.tail(TEXT_BYTES_MAX)
        entry[name] = data.decode(ended.encoding or "utf-8", "replace")
        if len(data) < output.size:
            entry[f"{name}_bytes"] = output.size  # only the end of it is here
    entry["seconds"] = round(ended.seconds, 6)
    entry["cpu_seconds"] = round(ended.cpu_seconds, 6)
    if ended.peak_memory is not None:
        entry["peak_memory"] = ended.peak_memory
    return entry
