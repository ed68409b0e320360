"""`piecework map MODULE:FUNC`: a Python function over lines of text, results as JSON lines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from piecework.cli.options import (
    Resumable,
    journal_options,
    keeping,
    map_options,
    reporting,
    running,
    words_of,
)

if TYPE_CHECKING:
    from piecework import Result, Run
    from piecework.summary import Progress, Summary


@click.command(
    cls=Resumable,
    context_settings={"auto_envvar_prefix": "PIECEWORK", "show_default": False},
)
@click.argument("target", metavar="MODULE:FUNC")
@click.argument("given", nargs=-1, metavar="[INPUT]...")
@click.option("-a", "--arg-file", metavar="FILE", help="Read inputs from FILE, one a line.")
@click.option("-0", "--null", is_flag=True, help="Inputs end with NUL, as find -print0 writes.")
@click.option(
    "--inputs",
    "kind",
    type=click.Choice(["text", "json"]),
    envvar="PIECEWORK_INPUTS",
    default="text",
    show_default=True,
    help="What FUNC is called with: the text, or its value as JSON.",
)
@running
@click.option("-k", "--keep-order", is_flag=True, help="Results in the order of the inputs.")
@keeping
@reporting
def command(
    target: str, given: tuple[str, ...], arg_file: str | None, null: bool,
    kind: str, keep_order: bool, output: str | None, progress: str, as_json: bool, **options: Any,
) -> int:  # fmt: skip
    """Call FUNC of MODULE (or FILE.py:FUNC) once for every INPUT.

    Inputs are the arguments, or the lines of -a FILE, or of standard input. For each one line is
    written: {"index", "input", "ok": true, "value"} or {"index", "input", "ok": false, "failure"}.

    \b
      ls *.jpg | piecework map thumbs:make
      piecework map os.path:getsize *.py -o sizes.jsonl
      piecework map os.path:getsize *.py -o sizes.jsonl --resume    (what is done is not done again)
    """
    import piecework
    from piecework.cli import drive, values
    from piecework.cli.inputs import inputs
    from piecework.cli.keeping import Again, keep
    from piecework.cli.output import Output
    from piecework.cli.progress import display
    from piecework.cli.target import resolve

    parse = kind == "json"
    fn = resolve(target)
    context = click.get_current_context()
    again = context.find_object(Again)
    drawn: Iterable[Any]
    if again is not None and again.inputs is not None:
        drawn = again.inputs
    else:
        drawn = inputs(given, arg_file, null=null, again=again.name if again else "")
    kept = keep(
        words=words_of(context), label=_label(target), again=again, **journal_options(options)
    )
    out = Output(output, [arg_file], adding=again is not None and again.inputs is not None)
    wrapped: Callable[[str], Any] = partial(
        values.call_async if _is_coroutine(fn) else values.call, fn, parse
    )

    def begin(note: Callable[[Progress], None]) -> Run[bytes]:
        start = partial(piecework.map, wrapped, drawn, progress=note, **map_options(options))
        return kept.begin(start)

    def closing(summary: Summary) -> None:
        drive.account(summary, as_json)

    def write(result: Result) -> None:
        index = result.index if again is None else again.index_of(result.index)
        out.write(line(result, parse, index), result.index)

    return drive.drive(
        begin, write, out, display(progress, out), closing,
        ordered=keep_order, grace=options["grace"], deadline=options["deadline"], as_json=as_json,
    )  # fmt: skip


def _is_coroutine(fn: Any) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004  # its type is asked, not whether it exists
    )


def _label(target: str) -> str:
    """What a made-up name of the run begins with: the function's name."""
    return target.rpartition(":")[2]


def line(result: Result, parse: bool = False, index: int | None = None) -> bytes:
    """One result as a line of JSON; the value was made JSON by the worker."""
    from piecework.cli import values

    given = result.input
    shown = given.encode() if parse and _is_json(given) else values.encode(given)
    head = b'{"index":%d,"input":%s,"ok":' % (result.index if index is None else index, shown)
    if result.ok:
        return b'%strue,"value":%s}\n' % (head, result.value)
    return b'%sfalse,"failure":%s}\n' % (head, values.encode(failure(result)))


def _is_json(given: str) -> bool:
    from piecework.cli import values

    try:
        values.decode(given)
    except ValueError:
        return False
    return True


def failure(result: Result) -> dict[str, Any]:
    """The reason as an object; what does not apply is left out."""
    why = result.failure
    if why is None:
        return {}
    names = "type message cause where traceback output signal exitcode peak_memory"
    entry = {name: getattr(why, name) for name in names.split()}
    entry |= {"attempt": result.attempt, "worker": result.worker}
    return {name: value for name, value in entry.items() if value not in ("", None)}
