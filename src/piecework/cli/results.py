"""`piecework results RUN`: what a run has recorded, as the command that began it writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from piecework.cli.keeping import Stored
    from piecework.task import Result


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("run")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=True),
    metavar="FILE",
    help="Write them here. [default: standard output]",
)
@click.option("--failed", is_flag=True, help="Only those that failed.")
@click.option("--done", is_flag=True, help="Only those that are done.")
@click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
              help="The closing count as one JSON object.")  # fmt: skip
def command(run: str, output: str | None, failed: bool, done: bool, as_json: bool) -> int:
    """Write the results of RUN again, as JSON lines.

    They are the lines that map and exec write, in the order of the inputs. Works while the run is
    under way, too: with what it has recorded so far. Inputs longer than a kilobyte are not kept in
    a journal: null.

    \b
      piecework results last --failed | jq -r .input > again.txt
      piecework results last -o all.jsonl
    """
    from piecework.cli import values
    from piecework.cli.keeping import Stored
    from piecework.cli.output import Output
    from piecework.cli.stored import find
    from piecework.cli.text import say
    from piecework.journal.reader import Reader
    from piecework.wording import counted

    count = bad = 0
    with Reader(find(run)) as reader:
        line = _line(Stored.of(reader.sessions()))
        out = Output(output, [str(reader.path)])
        out.start()
        for result in reader.results(failed=None if failed == done else failed):
            out.write(line(result))
            count += 1
            bad += not result.ok
        out.close()
        out.check()
    if as_json:
        say(values.encode({"results": count, "failed": bad}).decode())
    elif output is not None:
        say(f"{counted(count, 'result')}, {bad:,} of them failed, written to {output}")
    return 0


def _line(stored: Stored | None) -> Callable[[Result], bytes]:
    """How the command writes a result; for a run of a program its values are turned into JSON."""
    if stored is None:
        return line_of_python
    if stored.words[0] == "exec":
        from piecework.cli import exec as executing

        return executing.line
    from piecework.cli import map as mapping
    from piecework.cli.stored import options_of

    parse = options_of(stored)["kind"] == "json"
    return lambda result: mapping.line(_of_map(result), parse)


def line_of_python(result: Result) -> bytes:
    """A result of a run that a program began; what JSON has no word for is given as its repr."""
    from piecework.cli import map as mapping
    from piecework.cli import values

    value = values.encode(plain(result.value)) if result.ok else None
    return mapping.line(_with(result, plain(result.input), value))


def _of_map(result: Result) -> Result:
    """A result of `map`, whose value is JSON already; null for what the journal does not have."""
    from piecework.journal.rows import NOT_KEPT

    if type(result.value) is bytes and result.input is not NOT_KEPT:
        return result
    value = result.value if isinstance(result.value, bytes) else b"null"
    return _with(result, None if result.input is NOT_KEPT else result.input, value)


def _with(result: Result, input: Any, value: Any) -> Result:
    from piecework.task import Result

    r = result
    return Result(r.index, input, r.ok, value, r.failure, r.seconds, r.attempt, r.worker)


def plain(value: Any) -> Any:
    """The value where JSON can say it, else its repr; None for what the journal does not have."""
    from piecework.cli import values
    from piecework.journal.rows import NOT_KEPT
    from piecework.wording import shown

    if value is NOT_KEPT:
        return None
    try:
        values.encode(value)
    except values.NotJson:
        return shown(value)
    return value
