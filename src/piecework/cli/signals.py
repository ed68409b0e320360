"""SIGINT and SIGTERM on the command line: once in good order, twice at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from piecework.cli import text

GRACE_SECONDS = 2.0  # for worker processes to be gone, once it is "now"


class Signals:
    """The first SIGINT or SIGTERM ends the run in good order, the second at once."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.number = 0
        self._cancelling = False
        self._now = False
        self._cancel = cancel
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            self._now = True
            if not self._cancelling:
                self._end(number)
            return
        self.number = number
        text.say("piecework: stopping; what runs is finished first. Once more: stop now.")
        self._cancelling = True  # not to be torn apart by the second signal
        self._cancel()
        self._cancelling = False
        if self._now:
            self._end(number)

    def _end(self, number: int) -> None:
        """Now means now: in order where that works, else without."""
        last = threading.Timer(2 * GRACE_SECONDS, os._exit, [128 + number])
        last.daemon = True
        last.start()
        raise KeyboardInterrupt
