"""`piecework retry RUN`: the inputs that failed once more, as they are in the journal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from piecework.cli.options import again_options

if TYPE_CHECKING:
    from piecework.task import Result


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("run")
@click.option("--failed", is_flag=True, help="Those that failed, not those that are quarantined.")
@click.option(
    "--match",
    metavar="REGEX",
    help="Only those whose failure (TYPE: MESSAGE) or input REGEX is found in.",
)
@click.option("--anyway", is_flag=True, help="Although the function was changed.")
@again_options
def command(
    run: str, failed: bool, match: str | None, anyway: bool, **overriding: Any
) -> int:  # fmt: skip
    """Run the inputs of RUN that failed or are quarantined once more.

    They come from the journal, wherever RUN had them from, and what becomes of them is recorded
    there. Their lines are added to the output file: the last line of an input counts.

    \b
      piecework retry last
      piecework retry last --match 'Timeout|ConnectionError' -j 2
    """
    from piecework.cli.keeping import Again, called, word
    from piecework.cli.stored import carry_out_again, find
    from piecework.cli.text import say
    from piecework.journal.again import Failed
    from piecework.wording import counted

    path = find(run).absolute()
    inputs = Failed(path, _wanted(match), quarantined=not failed)
    if inputs.unkept:
        say(
            f"piecework: {counted(inputs.unkept, 'input')} too large to be kept in the journal "
            f"cannot be tried from there. Use: piecework resume {word(path)} --failed"
        )
    if not len(inputs):
        say(f"{called(path)}: nothing to try again: "
            f"{'no failure matches' if match is not None else 'no input has failed'}.")  # fmt: skip
        return 0
    how = "failed,anyway" if anyway else "failed"
    return carry_out_again(Again(path, how, inputs), overriding)


def _wanted(match: str | None) -> Callable[[Result], bool] | None:
    """Whether a failed result is one of those asked for; None: all are."""
    if match is None:
        return None
    try:
        pattern = re.compile(match)
    except re.error as error:
        raise click.BadParameter(
            f"--match {match!r} is no regular expression: {error}. "
            "Escape what is meant literally with a backslash."
        ) from None

    def wanted(result: Result) -> bool:
        return any(pattern.search(str(part)) for part in (result.failure, result.input))

    return wanted
