"""Signals, a lost reader and the deadline of a run on the command line; ending.py has the plan.

    SIGINT, SIGTERM, SIGHUP ──▶ handler ──┐
    Output: nobody reads     ─── lost() ──┤ events ──▶ one thread ──▶ run.cancel(), os._exit ...
    the clock                ─────────────┘                │
    main thread, in run.results() ◀── KeyboardInterrupt ───┘  a signal of our own, to be let go

The handler only leaves word, so it can neither block nor tear anything: a terminal that was closed
and a pipe that nobody empties hold up neither it nor the second Ctrl-C.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable

from piecework.bases import Protocol
from piecework.cli import text
from piecework.cli.ending import EXIT, GRACE_SECONDS, KILL, LEAVE, STOP, Ending
from piecework.lean import signal  # without enum
from piecework.wording import about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_LOST = -1
_OVER = -2
_HEARD = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stoppable(Protocol):
    """What of a Run is asked for here."""

    def cancel(self, *, kill: bool = False) -> None:
        """Take nothing new; with `kill` end what runs."""


class Signals:
    """Ends a run that is told to: in good order, within the grace, or at once."""

    def __init__(
        self, run: Stoppable, grace: float = GRACE_SECONDS, deadline: float | None = None
    ) -> None:
        at = None if deadline is None else time.monotonic() + deadline
        self.ending = Ending(grace, at)
        self._grace = grace
        self._run = run
        self._events: queue.SimpleQueue[int] = queue.SimpleQueue()  # signal handlers may put
        self._before: dict[int, Any] = {}
        self._leaving = False  # the next signal calls the main thread back
        self._main = threading.get_ident()
        self._inside = threading.Lock()  # held while the main thread may be called back

    def __enter__(self) -> Signals:
        for number in _HEARD:
            handler = signal.getsignal(number)
            # What is ignored stays so, for nohup and jobs in the background; but SIGINT is also
            # how the main thread is called back.
            if handler is not signal.SIG_IGN or number == signal.SIGINT:
                self._before[number] = handler
                signal.signal(number, self._heard)
        threading.Thread(target=self._run_plan, name="piecework-ending", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._events.put(_OVER)
        back = dict(self._before)
        if self.ending.cause:  # what comes now must not become a traceback of the closing
            back.clear()
        while back or self._main:
            try:
                with self._inside:
                    self._main = 0
                self._leaving = False
                while back:
                    signal.signal(*back.popitem())
            except KeyboardInterrupt:  # called back at the very end: there is nothing to leave
                pass

    def lost(self) -> None:
        """Nobody takes the results any more. From any thread."""
        self._events.put(_LOST)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self._leaving:
            self._leaving = False
            raise KeyboardInterrupt
        if self._before[number] is not signal.SIG_IGN:
            self._events.put(number)

    # -- in the thread ------------------------------------------------------------------------

    def _run_plan(self) -> None:
        ending = self.ending
        while True:
            due = ending.next()
            try:
                event = self._events.get(
                    timeout=None if due is None else max(0.0, due - time.monotonic())
                )
            except queue.Empty:
                event = 0
            if event > 0:
                ending.signalled(event, time.monotonic())
            elif event == _LOST:
                ending.lost(time.monotonic())
            elif event == _OVER:
                ending.over()
            for step in ending.due(time.monotonic()):
                self._take(step)

    def _take(self, step: str) -> None:
        if step == STOP:
            self._run.cancel()
            _say(
                "piecework: stopping; what runs is finished first, "
                f"for at most {about(self._grace)}. Once more: stop now."
            )
        elif step == KILL:
            self._run.cancel(kill=True)
        elif step == LEAVE:
            self._call_back()
        elif step == EXIT:
            os._exit(self.ending.code)

    def _call_back(self) -> None:
        with self._inside:
            if self._main:
                self._leaving = True
                signal.pthread_kill(self._main, signal.SIGINT)


def _say(message: str) -> None:
    """In a thread of its own: whoever should read it may be stuck, and the plan must go on."""
    say: Callable[[str], None] = text.say
    threading.Thread(target=say, args=(message,), name="piecework-said", daemon=True).start()
