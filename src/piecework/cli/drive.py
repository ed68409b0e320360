"""One run on the command line: results written as they come, signals heard, the account printed.

Run.results ──▶ write(result) ──▶ Output ──▶ stdout or -o
Run.progress ─▶ Display ──▶ stderr          ticker thread: flush, redraw
SIGINT, SIGTERM ──▶ first: take nothing new, finish what is in hand; second: now
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from piecework.cli import text
from piecework.cli.output import CannotWrite, Output
from piecework.cli.signals import GRACE_SECONDS, Signals
from piecework.errors import PieceworkError

if TYPE_CHECKING:
    from piecework import Result, Run
    from piecework.display import Watch
    from piecework.extract import Account
    from piecework.summary import Progress, Summary

ALL_DONE, SOME_FAILED, USAGE, HALTED, UNREACHABLE, DEADLINE, OWN_ERROR = 0, 1, 2, 3, 4, 124, 125
PIPE_CLOSED = 128 + 13  # what any program ends with whose reader has gone

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

    def __init__(self, output: Output, display: Watch, stop: Callable[[], None]) -> None:
        self.latest: Progress | None = None
        self._output, self._display, self._stop = output, display, stop
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
            if self._output.broken or self._output.error:
                self._stop()  # nobody takes results any more: the work is for nothing
                return
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
) -> int:
    """Carry a run through and return the exit code; `begin` starts it with a progress callback."""
    run: Run[Any] | None = None
    ticker = Ticker(output, display, lambda: run.cancel(kill=True) if run is not None else None)

    def note(progress: Progress) -> None:
        ticker.latest = progress

    with ticker:
        run = begin(note)
        output.start(getattr(run, "journal", None), anew=ordered)
        with Signals(run.cancel) as signals:
            trouble = _consume(run, ordered, write, output)
        freed = trouble is None or _freed(run)
    output.close()
    if not output.broken:  # whoever closed our output has seen enough
        closing(run.summary)
    if trouble is None and output.error is not None:
        trouble = _caught(output.check)
    code = _exit_code(run.summary, signals.number, trouble, output)
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
    if result.ok or getattr(run, "journal", None) is None:
        return False
    return result.failure is not None and result.failure.cause == "cancelled"


def _freed(run: Run[Any]) -> bool:
    """End what still runs; False where it does not end: a thread cannot be made to."""
    closing = threading.Thread(target=run.close, name="piecework-closing", daemon=True)
    closing.start()
    closing.join(GRACE_SECONDS)
    return not closing.is_alive()


def _caught(check: Callable[[], None]) -> BaseException | None:
    try:
        check()
    except (PieceworkError, BrokenPipeError) as error:
        return error
    return None


def _exit_code(summary: Summary, number: int, trouble: BaseException | None, output: Output) -> int:
    """The first of these that holds: a signal, a lost reader, a stop, a failure."""
    if number:
        return 128 + number
    if output.broken:
        return PIPE_CLOSED
    if isinstance(trouble, CannotWrite):
        text.say(f"piecework: {trouble}")
        return OWN_ERROR
    if isinstance(trouble, KeyboardInterrupt):
        return 128 + signal.SIGINT
    code = _STOPPED.get(summary.stopped, OWN_ERROR)
    if code == ALL_DONE and summary.done != summary.inputs:
        return SOME_FAILED
    return code
