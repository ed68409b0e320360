"""A child command as a task: what to run for an input, and what came of it.

Command ── words(input) ──▶ ["gzip", "-k", "a b.txt"] ── executor ──▶ CommandResult
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

from piecework import templates
from piecework.captured import KEEP_BYTES, Output
from piecework.errors import CommandFailed, UsageError
from piecework.packing import type_name
from piecework.record import record
from piecework.task import Failure
from piecework.templates import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.task import Cause

STDERR_LINES = 50
OUTPUT_MAX = 1 << 32
GRACE_SECONDS = 2.0
_TAIL = 1 << 15  # bytes that the last lines of stderr are looked for in


@record(frozen=True, slots=True)
class CommandResult:
    """How a command ended, and what it printed.

    `returncode` is its exit code, or -N where signal N ended it (then `signal` is N, too).
    `peak_memory` is in bytes, of the largest of its processes. Where this process has ever been
    larger, the system tells ours instead: then it is what was seen while the command ran, which may
    be less than the peak, or None where it was too short for a look. `out` and `err` are the
    outputs as they came: `out.chunks()` reads one that memory should not hold. `started` is seconds
    since 1970.
    """

    args: tuple[str, ...]
    returncode: int
    out: Output
    err: Output
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int | None = None
    started: float = 0.0
    slot: int = 1
    encoding: str | None = None
    errors: str = "replace"

    @property
    def signal(self) -> int | None:
        """The signal that ended it, if one did."""
        return -self.returncode if self.returncode < 0 else None

    @property
    def stdout(self) -> Any:
        """What it printed: bytes, or text where the command has an `encoding`."""
        return self._decoded(self.out.read())

    @property
    def stderr(self) -> Any:
        """What it printed on standard error: bytes, or text where there is an `encoding`."""
        return self._decoded(self.err.read())

    def _decoded(self, data: bytes) -> Any:
        return data if self.encoding is None else data.decode(self.encoding, self.errors)

    @property
    def last_lines(self) -> str:
        """The last 50 lines of standard error."""
        lines = self.err.tail(_TAIL).decode(self.encoding or "utf-8", "replace").splitlines()
        return "\n".join(lines[-STDERR_LINES:])


@record(frozen=True, slots=True)
class Command:
    """A command to be run for each input; `piecework.command` makes it.

    Given to `piecework.map` it runs as child processes. Called, it runs here and now, once.
    """

    template: Template
    input: bytes | str | None = None
    encoding: str | None = None
    errors: str = "replace"
    cwd: str | None = None
    env: tuple[tuple[str, str | None], ...] = ()
    ok: tuple[int, ...] = (0,)
    grace_seconds: float = GRACE_SECONDS
    keep_bytes: int = KEEP_BYTES
    output_max: int = OUTPUT_MAX

    def words(self, payload: Any, sequence: int = 1, slot: int = 1) -> list[str]:
        """What is run for this input; UsageError where it cannot be filled in."""
        words = self.template.render(self._columns(payload), sequence, slot)
        for word in words:
            if "\0" in word:
                raise UsageError(
                    f"the input has a NUL byte in it, which no argument can hold: {word[:60]!r}. "
                    'Feed it on standard input instead: command(..., input="task").'
                )
        if not words or not words[0]:
            raise UsageError("the input leaves no program to run: the first word is empty.")
        return words

    def text(self, payload: Any, sequence: int = 1, slot: int = 1) -> str:
        """The same as one line to be shown, as a shell would read it."""
        return self.template.text(self._columns(payload), sequence, slot)

    def _columns(self, payload: Any) -> tuple[str, ...]:
        if self.input == "task" and isinstance(payload, (bytes, bytearray)):
            return ()  # its standard input, and no argument
        return templates.columns_of(payload)

    def check(self, payloads: Sequence[Any]) -> None:
        """UsageError where a placeholder names a part that none of these inputs has."""
        most = 0
        for payload in payloads:
            try:
                most = max(most, len(self._columns(payload)))
            except UsageError:  # that costs this input, when its turn comes
                continue
        if most:
            self.template.check(most)

    def stdin(self, payload: Any) -> bytes | None:
        """What it is fed; None: nothing."""
        fed = payload if self.input == "task" else self.input
        if isinstance(fed, str):
            return fed.encode(self.encoding or "utf-8", "surrogateescape")
        if fed is None or isinstance(fed, bytes):
            return fed
        try:
            return bytes(memoryview(fed))
        except TypeError:
            raise UsageError(
                f'input="task" feeds each input to its command, and one is {type(fed).__name__} '
                f"{repr(fed)[:60]}. Give text or bytes."
            ) from None

    def environment(self) -> dict[str, str]:
        """This process's environment with the changes of `env`."""
        environment = dict(os.environ)
        for name, value in self.env:
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        return environment

    @property
    def identity(self) -> str:
        """A stable text of all that decides what is run: equal commands have equal ones."""
        parts = (self.template, self.input, self.cwd, self.env, self.ok, self.encoding, self.errors)
        return repr(parts)

    @property
    def __name__(self) -> str:
        program = self.template.program or "command"
        if self.template.shell:
            first = self.template.words[0][0]
            words = first.split() if isinstance(first, str) else []
            program = words[0] if words else program
        return os.path.basename(program)

    def __call__(self, payload: Any) -> CommandResult:
        """Run it here and wait; CommandFailed where its exit code is not one of `ok`."""
        import subprocess
        import time

        words, started, clock = self.words(payload), time.time(), time.perf_counter()
        fed = self.stdin(payload)
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL if fed is None else None,
            input=fed,
            capture_output=True,
            cwd=self.cwd,
            env=self.environment(),
        )
        result = CommandResult(
            tuple(words),
            done.returncode,
            Output(done.stdout, keep_bytes=self.keep_bytes),
            Output(done.stderr, keep_bytes=self.keep_bytes),
            time.perf_counter() - clock,
            started=started,
            encoding=self.encoding,
            errors=self.errors,
        )
        if done.returncode not in self.ok:
            raise CommandFailed(message_of(result), result)
        return result


def command(
    template: str | Sequence[str],
    *,
    shell: bool | str = False,
    input: bytes | str | None = None,
    encoding: str | None = None,
    errors: str = "replace",
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str | None] | None = None,
    ok: Collection[int] = (0,),
    grace_seconds: float = GRACE_SECONDS,
    keep_bytes: int = KEEP_BYTES,
    output_max: int = OUTPUT_MAX,
    append: bool | None = None,
    marks: Mapping[str, str] | None = None,
    context: bool = False,
) -> Command:
    """A command to be run for each input: `piecework.map(piecework.command("gzip -k {}"), files)`.

    The text is split into words once, as a shell would; no shell runs unless `shell=True` (or the
    path of one). Placeholders are those of GNU parallel; without any, the input is the last word
    (`append=False`: it is not). Standard input is empty; `input` feeds bytes or text, and
    `input="task"` the task's own input. `env` changes the environment it inherits (None takes a
    name out), `ok` are the exit codes that mean success.

    Its value is a CommandResult. Any other exit code is a failure with the last lines of standard
    error in it. At the end of its time a command gets SIGTERM, and after `grace_seconds` SIGKILL,
    with all that it started. Output beyond 256 KB goes to a temporary file; more than `output_max`
    bytes end the command. `keep_bytes` of each stream are kept where a result is pickled.
    """
    parsed = templates.parse(template, shell=shell, marks=marks, context=context)
    if append or (append is None and input != "task" and not parsed.has_placeholder):
        parsed = parsed.appended()
    _check_encoding(encoding, errors)
    return Command(
        parsed,
        input,
        encoding,
        errors,
        None if cwd is None else os.fsdecode(cwd),
        _changes(env or {}),
        _codes(ok),
        _at_least("grace_seconds", grace_seconds, 0.0),
        int(_at_least("keep_bytes", keep_bytes, 0)),
        int(_at_least("output_max", output_max, 1)),
    )


def failure_of(result: CommandResult, cause: Cause | None = None, message: str = "") -> Failure:
    """The failure of a task whose command ended so."""
    return Failure(
        type=type_name(CommandFailed),
        message=message or message_of(result),
        cause=cause or ("exit" if result.signal is None else "signal"),
        signal=result.signal,
        exitcode=None if result.signal else result.returncode,
        peak_memory=result.peak_memory,
        bases=_BASES,
        output=result.last_lines,
        result=result,
    )


_BASES = tuple(map(type_name, CommandFailed.__mro__[:-1]))


def message_of(result: CommandResult) -> str:
    """Says how it ended, with the last thing that it said itself."""
    name = os.path.basename(result.args[0])
    if result.signal is None:
        ended = f"{name} left with exit code {result.returncode}"
    else:
        ended = f"{name} was killed by {signal_name(result.signal)}"
    said = next((line for line in reversed(result.last_lines.split("\n")) if line.strip()), "")
    return f"{ended}: {said.strip()[:500]}" if said else ended


def signal_name(number: int) -> str:
    """SIGTERM for 15."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _check_encoding(encoding: str | None, errors: str) -> None:
    if encoding is None:
        return
    try:
        b"".decode(encoding)
        "".encode(encoding)
    except (LookupError, TypeError):
        raise UsageError(
            f'no encoding {encoding!r}. Give one that Python knows, such as "utf-8", or leave it '
            "out for bytes."
        ) from None
    import codecs

    try:
        codecs.lookup_error(errors)
    except (LookupError, TypeError):
        raise UsageError(
            f'no error handler {errors!r}. Give "replace", "backslashreplace" or "strict".'
        ) from None


def _changes(env: Mapping[str, str | None]) -> tuple[tuple[str, str | None], ...]:
    for name, value in env.items():
        well = isinstance(name, str) and name and "=" not in name and "\0" not in name
        if not well or not (value is None or (isinstance(value, str) and "\0" not in value)):
            raise UsageError(
                f"env has {name!r}: {value!r}. Give names without = and text, or None to take a "
                "name out."
            )
    return tuple(sorted(env.items()))


def _codes(ok: Collection[int]) -> tuple[int, ...]:
    codes = (ok,) if isinstance(ok, int) else tuple(ok)
    if codes and all(isinstance(code, int) and -64 <= code <= 255 for code in codes):
        return codes
    raise UsageError(f"ok is {ok!r}. Give the exit codes that mean success: ok=(0, 1).")


def _at_least(name: str, number: float, least: float) -> float:
    if isinstance(number, (int, float)) and not isinstance(number, bool) and number >= least:
        return number
    raise UsageError(f"{name} is {number!r}. Give a number of at least {least:g}.")
