"""`piecework show RUN`: how a run stands, what failed and why, what took long, what ran twice."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from piecework.groups import FailureGroup
    from piecework.journal.reader import Counts, Reader, Session
    from piecework.task import Result

_SESSIONS_SHOWN = 10


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("run")
@click.option(
    "--slowest",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="How many of the inputs that took longest to name.",
)
@click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
              help="All of it as one JSON object.")  # fmt: skip
def command(run: str, slowest: int, as_json: bool) -> int:
    """Show how RUN stands, what failed and why, what took long.

    The account is that of all its sessions together. RUN may be under way.

    \b
      piecework show last
      piecework show last --json | jq .groups
    """
    from piecework.cli import values
    from piecework.cli.stored import find
    from piecework.journal.reader import Reader

    with Reader(find(run)) as reader:
        found = Account(reader, slowest)
    if as_json:
        click.echo(values.encode(found.as_dict()))
    else:
        click.echo("\n".join(found.lines()).encode(errors="backslashreplace"))
    return 0


class Account:
    """What the journal of a run says."""

    def __init__(self, reader: Reader, slowest: int) -> None:
        from piecework.cli.keeping import Stored, called
        from piecework.cli.runs import left, state

        self.name = called(reader.path)
        self.path = str(reader.path.absolute())
        self.size = reader.size
        self.function = reader.function
        self.holder = reader.holder
        self.sessions: list[Session] = reader.sessions()
        self.state = state(reader, self.sessions)
        self.counts: Counts = reader.counts()
        self.left = left(self.counts, self.state)
        self.percentiles: dict[str, float] = reader.timings().percentiles()
        self.groups: list[FailureGroup] = reader.groups()
        self.slowest: list[Result] = reader.slowest(slowest) if slowest else []
        self.stored = Stored.of(self.sessions)

    @property
    def seconds(self) -> float:
        """How long all sessions took together."""
        return sum(_seconds(session) for session in self.sessions)

    @property
    def rate(self) -> float:
        """Tasks a second, over the time that the run was under way."""
        fresh = sum(s.done + s.failed + s.quarantined - s.recalled for s in self.sessions)
        return fresh / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        from piecework.cli.results import plain

        counts = self.counts
        return {
            "name": self.name,
            "state": self.state,
            "pid": self.holder.pid if self.holder else None,
            "function": self.function,
            "command": list(self.stored.words) if self.stored else None,
            "cwd": self.sessions[0].cwd if self.sessions else None,
            "total": counts.total,
            "done": counts.done,
            "failed": counts.failed,
            "quarantined": counts.quarantined,
            "open": self.left,
            "executions": counts.executions,
            "retries": counts.retries,
            "repeats": counts.repeats,
            "losses": counts.losses,
            "in_flight_at_kills": counts.in_flight,
            "values_not_kept": counts.unkept,
            "seconds": self.seconds,
            "rate": self.rate,
            "percentiles": self.percentiles,
            "groups": [
                {**group._asdict(), "examples": [plain(input) for input in group.examples]}
                for group in self.groups
            ],
            "slowest": [
                {"index": r.index, "input": plain(r.input), "seconds": r.seconds, "ok": r.ok}
                for r in self.slowest
            ],
            "sessions": [_session_dict(session) for session in self.sessions],
            "size": self.size,
            "path": self.path,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        from piecework.cli.table import size
        from piecework.summary import group_lines

        yield f"{self.name}: {self.state}{f' in process {self.holder.pid}' if self.holder else ''}"
        if self.stored is not None:
            yield f"  piecework {shlex.join(self.stored.words)}"
        else:
            yield f"  {self.function}, from Python"
        yield f"  {self.path}, {size(self.size)}"
        yield from self._account()
        if self.groups:
            yield "failed:"
            yield from group_lines(self.groups)
        if self.slowest:
            yield "slowest:"
            yield from self._slow()
        yield "sessions:"
        yield from self._sessions()
        yield from self._way_on()

    def _account(self) -> Iterator[str]:
        from piecework.wording import counted, exact

        counts, left = self.counts, "?" if self.left is None else f"{self.left:,}"
        known = counts.done + counts.failed + counts.quarantined
        of = counted(known + self.left, "input") if self.left is not None else "inputs"
        yield (
            f"{of} = {counts.done:,} done + {counts.failed:,} failed + "
            f"{counts.quarantined:,} quarantined + {left} to do"
        )
        took = f"{exact(self.seconds)} in all, {self.rate:,.0f}/s"
        if self.percentiles["max"]:
            steps = ", ".join(f"{name} {exact(took)}" for name, took in self.percentiles.items())
            took += f"; a task took {steps}"
        yield f"  {took}"
        told = [
            (counts.executions, "executions"),
            (counts.retries, "tried again"),
            (counts.losses, "lost with their worker"),
            (counts.repeats, "run again because their worker died"),
            (counts.in_flight, "in flight when the run was killed, which may have run twice"),
        ]
        yield "  " + ", ".join(f"{number:,} {what}" for number, what in told if number)
        if counts.unkept:
            yield f"  {counts.unkept:,} values could not be kept: resuming does those again"

    def _slow(self) -> Iterator[str]:
        from piecework.wording import exact, shown

        for result in self.slowest:
            failed = "" if result.ok else "  (failed)"
            yield f"  {exact(result.seconds):>10}  {result.index}: {shown(result.input)}{failed}"

    def _sessions(self) -> Iterator[str]:
        from piecework.cli.table import table, terminal_width
        from piecework.wording import exact

        rows = [("#", "STARTED", "TOOK", "DONE", "FAILED", "BEFORE", "ENDED")]
        for session in self.sessions[-_SESSIONS_SHOWN:]:
            began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(session.started))
            bad = session.failed + session.quarantined
            rows.append((
                str(session.id), began, exact(_seconds(session)), f"{session.done:,}",
                f"{bad:,}", f"{session.recalled:,}", _end(session, self.state),
            ))  # fmt: skip
        if len(self.sessions) > _SESSIONS_SHOWN:
            yield f"  the last {_SESSIONS_SHOWN} of {len(self.sessions)}"
        for line in table(rows, terminal_width() - 2, right={0, 2, 3, 4, 5}, shorten=[6]):
            yield f"  {line}"

    def _way_on(self) -> Iterator[str]:
        from pathlib import Path

        from piecework.cli.keeping import word
        from piecework.cli.stored import python_way

        if self.state in ("running", "done"):
            return
        if self.stored is None:
            yield f"go on: {python_way(Path(self.path))}"
        elif self.left != 0:
            yield f"go on: piecework resume {word(Path(self.path))}"
        else:
            yield f"try what failed again: piecework retry {word(Path(self.path))}"


def _seconds(session: Session) -> float:
    """How long it took; of one that was killed, as far as that is known."""
    if session.ended is not None:
        return max(0.0, session.ended - session.started)
    return session.seconds


def _end(session: Session, state: str) -> str:
    if session.ended is None and state == "running":
        return "running"
    if session.why == "killed" and session.again:
        return f"killed, {session.again:,} in flight"
    return session.why or "all inputs worked off"


def _session_dict(session: Session) -> dict[str, Any]:
    names = (
        "id started ended why pid host argv cwd python on inputs seconds drawn fresh done failed"
        " quarantined cancelled recalled executions retries repeats losses again"
    )
    return {name: getattr(session, name) for name in names.split()}
