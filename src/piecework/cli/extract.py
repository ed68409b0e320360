"""`piecework extract PATTERN FILES…`: named groups of every line as JSON lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from piecework.cli.options import map_options, reporting, running

if TYPE_CHECKING:
    from piecework import Result, Run
    from piecework.extract import Block
    from piecework.summary import Progress, Summary


_NAME = "extract, pieces of 1 MiB"  # what the summary counts


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("pattern")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@running
@reporting
def command(
    pattern: str, files: tuple[str, ...], output: str | None, progress: str, as_json: bool,
    **options: Any,
) -> int:  # fmt: skip
    """Write one JSON object for every line of the FILEs that PATTERN matches, in their order.

    PATTERN is a Python regular expression; its named groups, (?P<name>…), are the fields. It may
    match anywhere in a line: begin it with ^ and end it with $ to take whole lines. Lines that do
    not match are counted, and the first of them shown.

    Lines end with \\n or \\r\\n. Bytes that are not UTF-8 are written as \\xNN.

    \b
      piecework extract '^(?P<ip>\\S+) .* "(?P<request>[^"]*)" (?P<status>\\d+)' *.log -o rows.jsonl
    """
    from piecework import extract
    from piecework.cli import drive
    from piecework.cli.output import Output
    from piecework.cli.progress import display

    extract.checked(pattern)
    plan = extract.Plan(files)
    account = extract.Account.of(plan)
    out = Output(output, files)

    def begin(note: Callable[[Progress], None]) -> Run[Block]:
        return extract.begin(
            pattern, plan, progress=note, name=_NAME, journal=False, **map_options(options)
        )

    def write(result: Result) -> None:
        out.write(account.take(result))

    def closing(summary: Summary) -> None:
        drive.account(summary, as_json, account)

    return drive.drive(
        begin, write, out, display(progress, out), closing,
        ordered=True, grace=options["grace"], deadline=options["deadline"], as_json=as_json,
    )  # fmt: skip
