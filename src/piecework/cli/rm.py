"""`piecework rm RUN...`: take runs away, with what they recorded."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--all-done", is_flag=True, help="Every run whose inputs are all done.")
@click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
              help="One JSON object a run that was removed.")  # fmt: skip
def command(runs: tuple[str, ...], all_done: bool, as_json: bool) -> int:
    """Remove the journals of RUNs; their output files stay.

    Nothing is asked. A run that is under way is refused, and then none is removed.

    \b
      piecework rm area-20261123-165400-ab12
      piecework rm --all-done
    """
    from piecework.cli import values
    from piecework.cli.keeping import called, word
    from piecework.cli.stored import find
    from piecework.cli.text import say
    from piecework.errors import UsageError
    from piecework.journal import directory

    if not runs and not all_done:
        raise UsageError(
            "no run named. Name it, or give --all-done. Which there are: piecework runs"
        )
    paths = dict.fromkeys(find(run) for run in runs)
    for path in paths:
        if directory.holder(path) is not None:
            name = called(path)
            raise UsageError(
                f"the run {name} is under way. End it first: piecework cancel {word(path)}"
            )
    if all_done:
        paths |= dict.fromkeys(_all_done())
    for path in paths:
        name, size = called(path), directory.size_of(path)
        directory.remove(path)
        if as_json:
            click.echo(values.encode({"name": name, "size": size, "removed": True}))
    if not as_json:
        say(f"{len(paths)} removed." if paths else "nothing to remove: no run is all done.")
    return 0


def _all_done() -> list[Path]:
    from piecework.errors import JournalError
    from piecework.journal import directory
    from piecework.journal.reader import Reader

    found = []
    for path in directory.journals():
        try:
            with Reader(path) as reader:
                if reader.complete and not reader.live:
                    found.append(path)
        except JournalError:  # whatever that is, it is not known to be done
            continue
    return found
