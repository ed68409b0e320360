"""`piecework cancel RUN`: end a run that is under way in another terminal."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

_LOOK_SECONDS = 0.05
_UNHEARD_SECONDS = 10.0  # the run looks four times a second
_HEARD = "seen"


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("run")
@click.option("--now", is_flag=True, help="End what runs too, instead of letting it finish.")
@click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
              help="What happened as one JSON object.")  # fmt: skip
def command(run: str, now: bool, as_json: bool) -> int:
    """Have RUN take nothing new; --now ends what runs, too.

    Works from anywhere on the machine, on the runs of programs too. Returns when the run has ended,
    or has heard and finishes what it has in hand. What is left to do, piecework resume does.

    \b
      piecework cancel last
      piecework cancel area-20261123-165400-ab12 --now
    """
    from piecework.cli import values
    from piecework.cli.keeping import called, word
    from piecework.cli.stored import find
    from piecework.cli.text import say
    from piecework.errors import UsageError
    from piecework.journal import directory

    path = find(run)
    name, holder = called(path), directory.holder(path)
    if holder is None or not directory.request_cancel(path, kill=now):
        raise UsageError(f"the run {name} is not under way: nothing to cancel. {_stands(path)}")
    state = _wait(path)
    if as_json:
        click.echo(values.encode({"name": name, "state": state, "pid": holder.pid}))
    elif state == "ended":
        say(f"{name} has ended. {_stands(path)}\nGo on with it: piecework resume {word(path)}")
    elif state == _HEARD:
        say(f"{name} takes nothing new and finishes what it has in hand (process {holder.pid}).\n"
            f"End that too: piecework cancel {word(path)} --now")  # fmt: skip
    else:
        say(f"{name} has not heard for {_UNHEARD_SECONDS:.0f} s; it will when it can "
            f"(process {holder.pid}). Is it stopped? Then: kill {holder.pid}")  # fmt: skip
    return 0 if state != "unheard" else 1


def _wait(path: Path) -> str:
    """Until the run has seen the request: `ended`, `seen`, or `unheard` after a while."""
    from piecework.journal import directory

    begin = time.monotonic()
    seen_at = None
    while directory.holder(path) is not None:
        now = time.monotonic()
        if seen_at is None and not os.path.exists(f"{path}.cancel"):
            seen_at = now
        if seen_at is not None and now - seen_at > 1.0:
            return _HEARD  # and not over within a second: it has work in hand
        if seen_at is None and now - begin > _UNHEARD_SECONDS:
            return "unheard"
        time.sleep(_LOOK_SECONDS)  # another process: nothing to wait on
    return "ended"


def _stands(path: Path) -> str:
    """The account in a sentence."""
    from piecework.cli.runs import left, state
    from piecework.errors import JournalError
    from piecework.journal.reader import Reader
    from piecework.wording import counted

    try:
        with Reader(path) as reader:
            counts, stands = reader.counts(), state(reader, reader.sessions())
    except JournalError as error:
        return str(error)
    rest = left(counts, stands)
    to_do = f", {rest:,} to do" if rest else ""
    bad = counts.failed + counts.quarantined
    return f"It is {stands}: {counted(counts.done, 'input')} done, {bad:,} failed{to_do}."
