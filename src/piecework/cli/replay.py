"""`piecework replay RUN INDEX`: one input of a run once more, here and now."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from piecework.cli.keeping import Stored
    from piecework.task import Result

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("run")
@click.argument("index", type=click.IntRange(min=0))
@click.option("--pdb", is_flag=True, help="Open the debugger where it fails.")
@click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
              help="The result as the JSON line that map writes.")  # fmt: skip
def command(run: str, index: int, pdb: bool, as_json: bool) -> int:
    """Call the function of RUN with input INDEX, in this process.

    Nothing of it is recorded. What the function prints is seen, a breakpoint() in it works, and
    where it fails its traceback is shown; the exit code is then 1.

    \b
      piecework replay last 13
      piecework replay last 13 --pdb
    """
    from piecework.cli.keeping import Stored
    from piecework.cli.stored import find
    from piecework.journal.reader import Reader

    path = find(run)
    with Reader(path) as reader:
        stored = Stored.of(reader.sessions())
        result = _result(reader, index)
        cwd = reader.sessions()[-1].cwd
        function = reader.function
    if stored is not None:
        cwd = stored.cwd
    if os.path.isdir(cwd):
        os.chdir(cwd)
    if stored is not None and stored.words[0] == "exec":
        from piecework.cli import exec as executing

        return int(executing.replay(stored.words[1:], result))
    call = _function(path, stored, function)
    return _call(call, result, pdb, as_json)


def _result(reader: Any, index: int) -> Result:
    from piecework.cli.keeping import called, word
    from piecework.errors import UsageError
    from piecework.journal.rows import NOT_KEPT, Unreadable

    name = called(reader.path)
    result: Result | None = reader.result(index)
    if result is None:
        raise UsageError(
            f"the run {name} has recorded nothing of input {index}. "
            f"What it has: piecework results {word(reader.path)}"
        )
    if result.input is NOT_KEPT:
        raise UsageError(
            f"input {index} of the run {name} was too large to be kept in the journal. "
            "Call the function with it by hand."
        )
    if isinstance(result.input, Unreadable):
        raise UsageError(f"input {index} of the run {name} {result.input.why}")
    return result


def _function(path: Path, stored: Stored | None, function: str) -> Callable[[Any], Any]:
    """The user's function, taking the input as the journal has it."""
    from piecework.cli import values
    from piecework.cli.keeping import called
    from piecework.cli.stored import options_of
    from piecework.cli.target import resolve
    from piecework.errors import UsageError

    if stored is not None:
        options = options_of(stored)
        fn = resolve(options["target"])
        if options["kind"] == "json":
            return lambda text: fn(values.decode(text))
        return fn
    module = function.partition(":")[0]
    if module in ("__main__", "") or "<" in function:
        raise UsageError(
            f"the function of the run {called(path)}, {function}, cannot be imported. "
            "Put it into a module of its own, or call it with that input from its program."
        )
    return resolve(function)


def _call(call: Callable[[Any], Any], result: Result, debug: bool, as_json: bool) -> int:
    from piecework.wording import shown

    try:
        value = call(result.input)
        if inspect.isawaitable(value):
            value = _awaited(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if as_json:
            click.echo(_line(result, None, error))
        error = error.with_traceback(_of_the_user(error.__traceback__))
        traceback.print_exception(error)
        if debug:
            _debug(error)
        return 1
    click.echo(_line(result, value, None) if as_json else shown(value))
    if debug:
        from piecework.cli.text import say

        say("piecework: it did not fail, so there is nothing to debug. Put a breakpoint() into it.")
    return 0


def _awaited(value: Any) -> Any:
    import asyncio

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def _line(result: Result, value: Any, error: BaseException | None) -> bytes:
    from piecework.cli.results import line_of_python
    from piecework.failures import failure_from
    from piecework.task import Result

    failure = None if error is None else failure_from(error)
    return line_of_python(
        Result(result.index, result.input, error is None, value, failure)
    ).rstrip()


def _of_the_user(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first line on that is not ours."""
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OURS):
        first = first.tb_next
    return first or trace


def _debug(error: BaseException) -> None:
    import pdb

    if sys.stdin is None or not sys.stdin.readable():
        return
    pdb.post_mortem(error.__traceback__)
