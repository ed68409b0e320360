"""`progress=True`: a run that shows itself, where it is being looked at.

a notebook's kernel ──▶ Cell    one output of the cell, updated in place
a terminal          ──▶ Bar     below everything else on standard error
anything else       ──▶ Lines   now and then, for a log
"""

from __future__ import annotations

import sys
import threading

from piecework import notebook
from piecework.display import Bar, Body, Lines, Watch, counts, failure_line, state
from piecework.screen import STDERR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.notebook import Bundle
    from piecework.summary import Progress, Summary
    from piecework.task import Result

CELL_SECONDS = 0.25  # every update is a message to the browser


class Watcher:
    """Shows one run from its first snapshot to its account; from any thread."""

    def __init__(self, name: str | None) -> None:
        self._body = _body(name or "")
        self._watch = Watch(self._body)
        self._lock = threading.RLock()  # `leave` comes from a finalizer, at any point
        self._ended = False

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            if not self._ended:
                self._watch.show(progress)

    def end(self, progress: Progress, summary: Summary) -> None:
        """The run has ended: its account, in place of what was shown."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._watch.close(progress)
            if isinstance(self._body, Cell):
                self._body.account(summary)
            else:
                STDERR.say(str(summary))

    def leave(self) -> None:
        """Nobody is interested any more."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._watch.close(None)


class Cell:
    """One output of a notebook's cell."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._failures: list[str] = []
        self._handle: Any = None
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        if progress.seconds >= self._next:
            self._next = progress.seconds + CELL_SECONDS
            self._put(going(progress, self._title, self._failures))

    def failed(self, result: Result) -> None:
        self._failures.append(failure_line(result))

    def say(self, text: str) -> None:
        self._failures.append(text)

    def close(self, progress: Progress | None) -> None:
        if progress is not None:
            self._put(going(progress, self._title, self._failures))

    def account(self, summary: Summary) -> None:
        self._put(notebook.account(summary))

    def _put(self, bundle: Bundle) -> None:
        if self._handle is None:
            display = sys.modules["IPython"].display.display
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def going(progress: Progress, title: str, failures: list[str]) -> Bundle:
    """A run under way, for a notebook."""
    line = " · ".join([counts(progress), *state(progress)])
    return notebook.going(title, progress.share, line, failures)


def _body(name: str) -> Body:
    if _in_notebook():
        return Cell(name)
    said = name or "piecework"
    return Bar(said, name) if STDERR.drawable else Lines(said)


def _in_notebook() -> bool:
    """Whether a kernel of IPython runs this: only it has somebody to display things to."""
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return False
    shell = ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
