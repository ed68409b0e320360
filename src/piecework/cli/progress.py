"""How far the run is, on standard error: a bar, lines, or objects for programs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from piecework.cli import text

if TYPE_CHECKING:
    from piecework.cli.output import Output
    from piecework.summary import Progress

LINE_SECONDS = 5.0  # between plain lines: a log of an hour stays readable
FIRST_LINE_SECONDS = 1.0
OBJECT_SECONDS = 1.0


class Display(Protocol):
    """Shows the latest snapshot; called ten times a second from one thread."""

    def show(self, progress: Progress) -> None:
        """Draw it, or leave it for a later call."""

    def curtain(self) -> AbstractContextManager[object]:
        """Nothing of the display is on the screen inside the `with`."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Silent:
    """`--progress off`."""

    def show(self, progress: Progress) -> None:
        """Say nothing."""

    def curtain(self) -> AbstractContextManager[object]:
        """Nothing to take away."""
        return nullcontext()

    def close(self) -> None:
        """Nothing to leave."""


class Lines(Silent):
    """A line every few seconds; a run that is over within one says only its summary."""

    def __init__(self) -> None:
        self._next = FIRST_LINE_SECONDS

    def show(self, progress: Progress) -> None:
        """Say it when it is time."""
        if progress.seconds >= self._next:
            self._next = progress.seconds + LINE_SECONDS
            text.say(f"piecework: {text.counts(progress)} · {text.state(progress)}")


class Objects(Silent):
    """One JSON object a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        """Write it when it is time."""
        from piecework.cli import values

        if progress.seconds >= self._next:
            self._next = progress.seconds + OBJECT_SECONDS
            text.say(values.encode({"progress": text.as_dict(progress)}).decode())


class Bar:
    """The bar of rich, which is imported only here."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._lock = threading.Lock()
        self._progress = Progress(
            TextColumn("{task.fields[counts]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,  # what a worker prints goes above the bar, not through it
        )
        self._task = self._progress.add_task("", total=None, counts="starting", state="")
        self._progress.start()

    def show(self, progress: Progress) -> None:
        """Redraw."""
        with self._lock:
            self._progress.update(
                self._task,
                total=progress.total,
                completed=progress.settled,
                counts=text.counts(progress),
                state=text.state(progress),
                refresh=True,
            )

    @contextmanager
    def curtain(self) -> Iterator[None]:
        """Take the bar away while results are written to the same screen."""
        with self._lock:
            self._progress.stop()
            try:
                yield
            finally:
                self._progress.start()

    def close(self) -> None:
        """Erase the bar: the summary says all that it said."""
        with self._lock:
            self._progress.stop()


def display(mode: str, output: Output) -> Display:
    """The display for `--progress MODE`; `auto` is a bar where somebody can see it."""
    if mode == "auto":
        seen = (
            sys.stderr is not None
            and sys.stderr.isatty()
            and os.environ.get("TERM", "dumb") != "dumb"
        )
        mode = "bar" if seen else "plain"
    kinds: dict[str, Callable[[], Display]]
    kinds = {"bar": Bar, "plain": Lines, "json": Objects, "off": Silent}
    shown = kinds[mode]()
    if output.on_terminal:
        output.curtain = shown.curtain
    return shown
