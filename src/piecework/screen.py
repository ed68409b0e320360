"""Standard error of this process: whole lines above, the bars of running maps below.

    say ───────────────▶ ┌──────────────────────────────┐
    print, passing() ──▶ │ lines, one after the other   │
                         │ ...                          │
    stand ─────────────▶ │ ━━━━━━━╸        40 of 100    │  taken away and put back around each
                         └──────────────────────────────┘

Whatever this process says while a bar may be up goes through here, or it tears the bar. Nothing
here raises because nobody listens: a terminal that was closed, a reader that has gone and a disk
that is full are no reason to stop working. It never waits for a lock for ever, so that a signal
handler may speak.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
import threading
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

WIDTH = 80  # where the terminal does not say
BARS_MAX = 4  # on the screen at a time; further runs are drawn when there is room
_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF)
_LOCK_SECONDS = 1.0  # one that writes may be stuck: better a torn line than a dead Ctrl-C
_KEPT_MAX = 16
_ERASE = "\r\x1b[K"
_UP = "\x1b[A" + _ERASE


class Screen:
    """One terminal or log; `stream` None is whatever `sys.stderr` is."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.gone = False  # who read it has left: nothing is written any more
        self._stream = stream
        self._lock = threading.RLock()
        self._bars: dict[object, str] = {}
        self._drawn = 0  # lines of bars on the screen now
        self._column = False  # the last text did not end its line: no place for a bar
        self._through: list[Through] = []  # in place now
        self._kept: list[Through] = []

    # -- lines --------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Whole lines, above the bars."""
        with self._locked():
            self._write(self._erased() + text.rstrip("\n") + "\n" + self._bar_text())

    @contextlib.contextmanager
    def passing(self, *, ended: bool = True) -> Iterator[None]:
        """Somebody else writes to the same terminal inside the `with`.

        Not `ended`: the text leaves its line open, and the bars wait for its end.
        """
        with self._locked():
            if self._bars:
                self._write(self._erased())
            try:
                yield
            finally:
                self._column = not ended
                if self._bars:  # drawn already where one `passing` is inside another
                    self._write(self._erased() + self._bar_text())

    # -- bars ---------------------------------------------------------------------------------

    def stand(self, owner: object, line: str) -> None:
        """Draw the bar of `owner`, or draw it anew; `line` fits the width."""
        with self._locked():
            if not self._bars:
                self._guard()
            self._bars[owner] = line
            self._write(self._erased() + self._bar_text())

    def clear(self, owner: object) -> None:
        """Take the bar of `owner` away for good."""
        with self._locked():
            if owner not in self._bars:
                return
            erased = self._erased()
            del self._bars[owner]
            self._write(erased + self._bar_text())
            if not self._bars:
                self._unguard()

    def forked(self) -> None:
        """In a forked child: bars are the parent's."""
        self._lock = threading.RLock()
        self._bars.clear()
        self._drawn = 0
        self._unguard()

    @property
    def drawable(self) -> bool:
        """Whether bars can be drawn: a terminal that understands more than plain text."""
        stream = self._out
        # The kind of terminal is known from TERM alone: no setting of ours, a fact about it.
        return _is_terminal(stream) and os.environ.get("TERM", "dumb") not in ("", "dumb")

    @property
    def width(self) -> int:
        """Columns now: a window may be made smaller while the bar is up."""
        try:
            columns = os.get_terminal_size(self._out.fileno()).columns  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            return WIDTH
        return columns or WIDTH

    def can_say(self, text: str) -> bool:
        """Whether the encoding has these characters."""
        try:
            text.encode(getattr(self._out, "encoding", None) or "ascii")
        except (UnicodeError, LookupError):
            return False
        return True

    # -- inside -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        mine = self._lock.acquire(timeout=_LOCK_SECONDS)
        try:
            yield
        finally:
            if mine:
                self._lock.release()

    @property
    def _out(self) -> TextIO | None:
        stream: Any = self._stream or sys.stderr
        while getattr(stream, "passes_on", False):  # what is for others' prints, not for ours
            stream = stream.stream
        return stream  # type: ignore[no-any-return]

    def _erased(self) -> str:
        drawn, self._drawn = self._drawn, 0
        if not drawn or not self._in_front():
            return ""
        return _ERASE + _UP * (drawn - 1)

    def _bar_text(self) -> str:
        if not self._bars or self._column or not self._in_front():
            return ""
        lines = list(self._bars.values())[:BARS_MAX]
        self._drawn = len(lines)
        return "\n".join(lines)

    def _in_front(self) -> bool:
        """False while the job is in the background: the screen is somebody else's."""
        try:
            return os.tcgetpgrp(self._out.fileno()) == os.getpgrp()  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            return True

    def _write(self, text: str) -> None:
        stream = self._out
        if not text or self.gone or stream is None:
            return
        own = stream is sys.__stderr__
        try:
            if own:
                _write_whole(stream, text)
            else:
                stream.write(text)
                stream.flush()
        except OSError as error:
            self.gone = own and error.errno in _GONE
        except ValueError:  # closed, or an encoding of somebody else's that lacks a character
            pass

    # -- what the program prints meanwhile ----------------------------------------------------

    def _guard(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if not isinstance(stream, Through) and _is_terminal(stream):
                through = self._around(stream)
                self._through.append(through)
                setattr(sys, name, through)

    def _around(self, stream: TextIO) -> Through:
        """Always the same one: `print` in another thread may be using it without holding it
        (CPython borrows sys.stdout), and would crash if it were freed."""
        for through in self._kept:
            if through.stream is stream:
                return through
        through = Through(self, stream)
        self._kept = [*self._kept, through][-_KEPT_MAX:]
        return through

    def _unguard(self) -> None:
        while self._through:
            through = self._through.pop()
            for name in ("stdout", "stderr"):
                if getattr(sys, name) is through:  # else somebody wrapped it: it only passes on
                    setattr(sys, name, through.stream)


class Through:
    """A stream of the program while a bar is up: what is printed goes above the bar."""

    passes_on = True  # to `stream`

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self.stream = stream
        self._screen = screen

    def write(self, text: str) -> int:
        if not text:
            return 0
        with self._screen.passing(ended=text.endswith("\n")):
            written = self.stream.write(text)
            self.stream.flush()
        return written

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        return iter(self.stream)


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except (ValueError, AttributeError):  # closed, or no file at all
        return False


def _write_whole(stream: TextIO, text: str) -> None:
    """Write to the descriptor itself: no line is torn, and none is lost where it would block."""
    stream.flush()
    descriptor = stream.fileno()
    left = memoryview(text.encode(stream.encoding, stream.errors or "backslashreplace"))
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # some other program made the terminal so
            select.select([], [descriptor], [], 1.0)


STDERR = Screen()
say = STDERR.say

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=STDERR.forked)
