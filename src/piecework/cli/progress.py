"""How far the run is, on standard error: a bar, lines, or objects for programs."""

from __future__ import annotations

from collections.abc import Callable

from piecework.cli import text
from piecework.display import Bar, Body, Lines, Quiet, Watch
from piecework.screen import STDERR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from piecework import Result
    from piecework.cli.output import Output
    from piecework.summary import Progress

OBJECT_SECONDS = 1.0


class Objects:
    """One JSON object a second, and one for the first failure of each kind."""

    def __init__(self) -> None:
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        """Write it when it is time."""
        if progress.seconds >= self._next:
            self._next = progress.seconds + OBJECT_SECONDS
            _write({"progress": text.as_dict(progress)})

    def failed(self, result: Result) -> None:
        """What failed, and why."""
        why = result.failure
        assert why is not None
        reason = {name: getattr(why, name) for name in ("type", "message", "cause", "where")}
        _write({"failure": {"index": result.index, "input": text.shown(result.input), **reason}})

    def say(self, text: str) -> None:
        """A sentence for people."""
        _write({"note": text})

    def close(self, progress: Progress | None) -> None:
        """Nothing to leave."""


def display(mode: str, output: Output) -> Watch:
    """The display for `--progress MODE`; `auto` is a bar where somebody can see it."""
    if mode in ("auto", "bar"):
        mode = "bar" if STDERR.drawable else "plain"
    kinds: dict[str, Callable[[], Body]]
    kinds = {"bar": Bar, "plain": Lines, "json": Objects, "off": Quiet}
    if output.on_terminal:
        output.curtain = STDERR.passing
    return Watch(kinds[mode]())


def _write(entry: dict[str, object]) -> None:
    from piecework.cli import values

    STDERR.say(values.encode(entry).decode())
