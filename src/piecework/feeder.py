"""Where inputs are drawn from: at once where that cannot block, else in a thread of its own.

    list, range, dict, str ... ──▶ Swift     in the control loop: C code, never waits
    any other iterable ──────────▶ Feeder    in a thread: stdin, a socket or a query may block

    Master ── take(most, more) ──▶ items drawn so far ◀── step() ── thread ── next() ──▶ iterable
           ◀──────────────────────────── tell() ───────────┘

The feeder draws what was asked for and no more, and what it has can be taken while it still waits
for the rest: results flow while the source is slow.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat, starmap

from piecework.bases import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SWIFT = (list, tuple, range, dict, set, frozenset, str, bytes, bytearray)
_SLOW_SECONDS = 0.005  # a draw that takes longer is cut down
_OVERDUE_SECONDS = 0.01  # after that, what has come so far is taken
_POLL_SECONDS = 0.05
_PACE_MAX = 1 << 16


class Source(Protocol):
    """Inputs, drawn as asked for."""

    total: int | None  # how many there are in all, where that is known
    error: BaseException | None  # why no more can be drawn, if not because all were

    @property
    def ended(self) -> bool:
        """Everything was taken."""

    @property
    def ahead(self) -> int:
        """How many are drawn, or being drawn, and not taken."""

    def take(self, most: int, more: int = 0) -> list[Any]:
        """The next inputs, at most `most`, and have `more` drawn after them.

        An empty list where it is worth waiting for more of them, or all were taken.
        """

    @property
    def poll_seconds(self) -> float | None:
        """When to look again after an empty `take`; None: there will be a word."""

    def close(self) -> list[Any]:
        """Draw nothing more; returns what was drawn and not taken."""


class Swift:
    """Draws when asked: for builtin containers, which cannot block."""

    def __init__(self, inputs: Iterable[Any]) -> None:
        self.total = known_length(inputs)
        self.error: BaseException | None = None
        self.ended = False
        self.ahead = 0
        self.poll_seconds = None
        self._iterator = iter(inputs)

    def take(self, most: int, more: int = 0) -> list[Any]:
        items: list[Any] = []
        try:
            items.extend(islice(self._iterator, most))
        except Exception as error:  # changed while it was drawn from
            self.error = error
        self.ended = self.error is not None or len(items) < most
        return items

    def close(self) -> list[Any]:
        self._iterator = iter(())
        return []


class Feeder:
    """Draws what may block. `tell` is called when there is something to take, or the end."""

    def __init__(self, inputs: Iterable[Any], tell: Callable[[], object]) -> None:
        self.total = known_length(inputs)
        self.error: BaseException | None = None
        self._iterator: Iterator[Any] = iter(inputs)
        self._tell = tell
        self._items: deque[Any] = deque()
        self._taken = 0
        self._target = 0  # how many to have drawn in all
        self._out = False  # nothing more can be drawn
        self._closed = False
        self._pace = 1
        self._slow = False
        self._drawing = 0  # items in the draw that goes on
        self._since = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Draw in a thread; without it, whoever waits calls `step`."""
        # A daemon: nobody can end a thread that waits in somebody else's code, and it must not
        # hold up the interpreter's exit.
        self._thread = threading.Thread(target=self._run, name="piecework-feeder", daemon=True)
        self._thread.start()

    # -- the master's side --------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        return self._out and not self._items

    @property
    def ahead(self) -> int:
        return max(len(self._items), 0 if self._out else self._target - self._taken)

    def take(self, most: int, more: int = 0) -> list[Any]:
        with self._changed:
            have = len(self._items)
            if not have or (have < most and not self._short()):
                self._ask(self._taken + most)
                return []
            count = min(most, have)
            self._taken += count
            self._ask(self._taken + more)
            return list(starmap(self._items.popleft, repeat((), count)))

    def _short(self) -> bool:
        """Whether not to wait for more: the source is slow, or has ended."""
        if self._out or self._slow:
            return True
        return bool(self._drawing) and time.monotonic() - self._since >= _OVERDUE_SECONDS

    def _ask(self, target: int) -> None:
        if target > self._target:
            self._target = target
            self._changed.notify()

    @property
    def poll_seconds(self) -> float | None:
        with self._changed:
            if self._out or self._drawing == 1:
                return None
            if self._drawing and time.monotonic() - self._since >= _OVERDUE_SECONDS:
                return _POLL_SECONDS
            return _OVERDUE_SECONDS

    def close(self) -> list[Any]:
        with self._changed:
            self._closed = self._out = True
            self._changed.notify()
            rest = list(self._items)
            self._items.clear()
            if self._thread is None:
                self._iterator = iter(())
            return rest

    # -- the drawing side ---------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            self.step()
        self._iterator = iter(())  # a generator is closed here, where it ran

    def _wait(self) -> bool:
        with self._changed:
            while not self._out and self._drawn >= self._target:
                self._changed.wait()
            return not self._out

    @property
    def _drawn(self) -> int:
        return self._taken + len(self._items)

    @property
    def wanting(self) -> bool:
        """Whether `step` has something to do."""
        return not self._out and self._drawn < self._target

    def step(self) -> bool:
        """Draw some of what is wanted; False where nothing is."""
        with self._changed:
            count = self._drawing = min(self._pace, self._target - self._drawn)
            if self._out or count <= 0:
                self._drawing = 0
                return False
            before = self._drawn
            started = self._since = time.monotonic()
        try:
            # One by one: what has come can be taken while the next one keeps waiting.
            self._items.extend(islice(self._iterator, count))
        except BaseException as error:
            self._failed(error)
        took = time.monotonic() - started
        with self._changed:
            self._drawing = 0
            self._slow = took > _SLOW_SECONDS
            self._pace = max(1, count // 4) if self._slow else min(count * 4, _PACE_MAX)
            self._out = self._out or self._drawn < before + count
            told = self._out or self._slow or self._drawn >= self._target
        if told and not self._closed:
            self._tell()
        return True

    def _failed(self, error: BaseException) -> None:
        with self._changed:
            self._drawing = 0
            if self._thread is None and isinstance(error, KeyboardInterrupt):
                raise error  # Ctrl-C in the caller, who draws by itself
            self.error = error
            self._out = True


def known_length(inputs: Iterable[Any]) -> int | None:
    """How many inputs there are, where the iterable says so."""
    try:
        return len(inputs)  # type: ignore[arg-type]  # where it is not Sized this raises
    except Exception:
        return None


def is_swift(inputs: object) -> bool:
    """Whether drawing from it runs C code only, and so can neither block nor take long."""
    return type(inputs) in _SWIFT
