"""`piecework runs`: which runs there are, and how they stand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from piecework.journal.reader import Counts, Reader, Session

_HEAD = ("NAME", "STATE", "STARTED", "DONE", "FAILED", "TO DO", "SIZE")
_ENDED = {"cancelled": "interrupted", "journal": "disk full", "input": "bad input"}


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
              help="One JSON object a run.")  # fmt: skip
def command(as_json: bool) -> int:
    """List the runs on this machine, the newest first.

    STATE is running; done (every input); failed (some did); killed; interrupted; or why it ended:
    halted, deadline, bad input, disk full, broken.

    \b
      piecework runs
      piecework runs --json | jq -r 'select(.state == "killed").name' | xargs -n1 piecework resume
    """
    from piecework.cli import table, values
    from piecework.cli.text import say
    from piecework.journal import directory

    standings = [_standing(path) for path in directory.journals()]
    standings.sort(key=lambda standing: standing.started, reverse=True)
    if as_json:
        for standing in standings:
            click.echo(values.encode(standing.as_dict()))
    elif standings:
        rows = [_HEAD, *(standing.cells() for standing in standings)]
        for line in table.table(rows, table.terminal_width(), right={3, 4, 5, 6}, shorten=[0]):
            click.echo(line.encode(errors="backslashreplace"))
    else:
        say("no runs yet: piecework map and piecework exec begin one.")
    return 0


class Standing(NamedTuple):
    """How a run stands, in a line; `trouble` where its journal cannot be read."""

    path: Path
    name: str
    state: str
    started: float
    size: int
    counts: Counts | None = None
    trouble: str = ""

    def cells(self) -> tuple[str, ...]:
        """For people."""
        from piecework.cli import table
        from piecework.wording import about

        ago = f"{about(time.time() - self.started)} ago"
        if self.counts is None:
            return (self.name, self.state, ago, "", "", "", table.size(self.size))
        done, bad, left = self.counts.done, self.counts.failed + self.counts.quarantined, self.left
        to_do = "?" if left is None else f"{left:,}"
        return (self.name, self.state, ago, f"{done:,}", f"{bad:,}", to_do, table.size(self.size))

    @property
    def left(self) -> int | None:
        """Inputs that are not worked off; None where nobody knows how many there are."""
        return None if self.counts is None else left(self.counts, self.state)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        entry: dict[str, Any] = {"name": self.name, "state": self.state, "started": self.started}
        if self.counts is not None:
            counts = self.counts
            entry |= {"done": counts.done, "failed": counts.failed}
            entry |= {"quarantined": counts.quarantined, "open": self.left}
            entry |= {"total": counts.total, "sessions": counts.sessions}
        if self.trouble:
            entry["error"] = self.trouble
        return {**entry, "size": self.size, "path": str(self.path)}


def left(counts: Counts, state: str) -> int | None:
    """Inputs that are not worked off; None where nobody knows how many there are."""
    if counts.total is None and state in ("done", "failed"):
        return 0
    return counts.open


def state(reader: Reader, sessions: list[Session]) -> str:
    """In a word: running, done, failed, or why the last session ended before its inputs did."""
    if reader.live:
        return "running"
    if reader.complete:
        return "done"
    if not sessions:
        return "killed"  # before it began
    why = sessions[-1].why
    return _ENDED.get(why, why) or "failed"


def _standing(path: Path) -> Standing:
    from piecework.errors import JournalError
    from piecework.journal import directory
    from piecework.journal.reader import Reader

    name, size = directory.name_of(path), directory.size_of(path)
    try:
        with Reader(path) as reader:
            sessions = reader.sessions()
            started = sessions[0].started if sessions else path.stat().st_mtime
            return Standing(path, name, state(reader, sessions), started, size, reader.counts())
    except (JournalError, OSError) as error:
        began = path.stat().st_mtime if path.exists() else 0.0
        return Standing(path, name, "unreadable", began, size, trouble=str(error))
