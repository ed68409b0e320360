"""One run on the command line: results written as they come, signals heard, the account printed.

Run.results ──▶ write(result) ──▶ Output ──▶ stdout or -o
Run.progress ─▶ Display ──▶ stderr          ticker thread: flush, redraw
SIGINT, SIGTERM, SIGHUP ─▶ Signals: in good order within the grace, the second time at once
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from piecework.cli import text
from piecework.cli.ending import DEADLINE, GRACE_SECONDS, KILL_SECONDS, PIPE_CLOSED
from piecework.cli.output import CannotWrite, Output
from piecework.cli.signals import Signals
from piecework.errors import PieceworkError, UsageError
from piecework.lean import signal  # without enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework import Result, Run
    from piecework.display import Watch
    from piecework.extract import Account
    from piecework.summary import Progress, Summary

ALL_DONE, SOME_FAILED, USAGE, HALTED, UNREACHABLE, OWN_ERROR = 0, 1, 2, 3, 4, 125

TICK_SECONDS = 0.1

_STOPPED = {
    "": ALL_DONE,
    "halted": HALTED,
    "deadline": DEADLINE,
    "input": SOME_FAILED,
    "cancelled": SOME_FAILED,
    "interrupted": 128 + signal.SIGINT,
    "broken": OWN_ERROR,
}


class Ticker:
    """Flushes results and redraws, ten times a second, whatever the main thread waits for."""

    def __init__(self, output: Output, display: Watch) -> None:
        self.latest: Progress | None = None
        self.lost: Callable[[], None] | None = None  # told when nobody takes results any more
        self._output, self._display = output, display
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="piecework-ticker", daemon=True)

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._display.close(self.latest)

    def _tick(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self._output.flush()
            self._output.commit()
            if self.lost is not None and (self._output.broken or self._output.error):
                self.lost()
                self.lost = None
            if self.latest is not None:
                self._display.show(self.latest)


def drive(
    begin: Callable[[Callable[[Progress], None]], Run[Any]],
    write: Callable[[Result], None],
    output: Output,
    display: Watch,
    closing: Callable[[Summary], None],
    *,
    ordered: bool,
    grace: float = GRACE_SECONDS,
    deadline: float | None = None,
    as_json: bool = False,
) -> int:
    """Carry a run through and return the exit code; `begin` starts it with a progress callback."""
    ticker = Ticker(output, display)

    def note(progress: Progress) -> None:
        ticker.latest = progress

    with ticker:
        run = begin(note)
        output.start(run.journal, anew=ordered)
        with Signals(run, grace, deadline) as signals:
            ticker.lost = signals.lost
            trouble = _consume(run, ordered, write, output)
        freed = trouble is None or _freed(run)
    output.close(refused=isinstance(trouble, UsageError))
    if not output.broken:  # whoever closed our output has seen enough
        short = bool(run.summary.stopped) or output.error is not None
        if short and as_json:  # what programs read ends with the summary
            _say_how_to_go_on(run, as_json)
        closing(run.summary)
        if short and not as_json:
            _say_how_to_go_on(run, as_json)
    if output.error is not None:  # it says more than the interrupt it has led to
        trouble = _caught(output.check)
    code = _exit_code(run.summary, signals.ending.code, trouble, output)
    if not freed:
        os._exit(code)  # a thread is still in a task: the interpreter would wait for it
    return code


def account(summary: Summary, as_json: bool, lines: Account | None = None) -> None:
    """Print the closing account; `lines` is the account of the lines that a run extracted."""
    if not as_json:
        text.say(str(summary) if lines is None else f"{summary}\n{lines}")
        return
    from piecework.cli import values

    entry = text.summary_dict(summary)
    if lines is not None:
        entry["lines"] = lines.total
        entry["files"] = list(lines.files.values())
    text.say(values.encode({"summary": entry}).decode())


def _consume(
    run: Run[Any], ordered: bool, write: Callable[[Result], None], output: Output
) -> BaseException | None:
    """Write every result and free the run; what came in between is returned, not raised."""
    try:
        for result in run.results(ordered=ordered):
            if not (result.recalled and output.has(result.index)) and not _put_off(run, result):
                write(result)
        output.flush()
        output.commit(now=True)  # while the journal is open
        run.close()
    except (PieceworkError, BrokenPipeError, KeyboardInterrupt) as error:
        output.flush()
        output.commit(now=True)
        return error
    return None


def _put_off(run: Run[Any], result: Result) -> bool:
    """Whether a resumed run will do this task, and write its one line then."""
    if result.ok or run.journal is None:
        return False
    cancelled = result.failure is not None and result.failure.cause == "cancelled"
    return cancelled or run.journal.is_open(result.index)


def _say_how_to_go_on(run: Run[Any], as_json: bool) -> None:
    """Where the run has a journal: nothing that is done is done again."""
    if run.journal is not None:
        from piecework.cli.keeping import word

        command = f"piecework resume {word(run.journal.path)}"
        if as_json:
            from piecework.cli import values

            text.say(values.encode({"go_on": command}).decode())
        else:
            text.say(f"piecework: go on with: {command}")


def _freed(run: Run[Any]) -> bool:
    """End what still runs; False where it does not end: a thread cannot be made to."""
    closing = threading.Thread(target=run.close, name="piecework-closing", daemon=True)
    closing.start()
    closing.join(KILL_SECONDS)
    return not closing.is_alive()


def _caught(check: Callable[[], None]) -> BaseException | None:
    try:
        check()
    except (PieceworkError, BrokenPipeError) as error:
        return error
    return None


def _exit_code(summary: Summary, ended: int, trouble: BaseException | None, output: Output) -> int:
    """The first of these that holds: a signal, a lost reader, a stop, a failure."""
    if ended > 128 and ended != PIPE_CLOSED:
        return ended
    if output.broken:
        return PIPE_CLOSED
    if isinstance(trouble, CannotWrite):
        text.say(f"piecework: {trouble}")
        return OWN_ERROR
    if isinstance(trouble, UsageError):  # known only when the inputs were drawn
        return USAGE
    if isinstance(trouble, KeyboardInterrupt):
        return ended or 128 + signal.SIGINT
    code = _STOPPED.get(summary.stopped, OWN_ERROR)
    if code == ALL_DONE and summary.done != summary.inputs:
        return SOME_FAILED
    return code
