"""The future of one submitted call: whoever waits for it turns the loop, see loop.py."""

from __future__ import annotations

import time
from concurrent.futures import Future

from piecework.errors import RemoteError
from piecework.failures import rebuild
from piecework.loop import Loop
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TaskFuture(Future["Any"]):
    """A `concurrent.futures.Future` that costs a waiting caller no thread switch.

    The exception of the task is rebuilt when it is first asked for, in the thread that asks:
    the control loop never runs the code of a user's exception class.
    """

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop
        self._failure: Failure | None = None
        self._rebuilt: BaseException | None = None

    def fail(self, failure: Failure) -> None:
        """Settle with a failure; waiters are woken and callbacks run, as for any outcome."""
        self._failure = failure
        self.set_exception(RemoteError(str(failure)))

    def result(self, timeout: float | None = None) -> Any:
        left = self._wait(timeout)
        try:
            error = super().exception(left)
            if error is not None:
                raise self._exception_of(error)
            return super().result(left)
        finally:
            self = None  # type: ignore[assignment]  # no cycle through the traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        left = self._wait(timeout)
        error = super().exception(left)
        return None if error is None else self._exception_of(error)

    def _wait(self, timeout: float | None) -> float | None:
        """Turn the loop until this is settled or the time is over; returns the time left."""
        if self.done():
            return 0
        started = time.monotonic()
        self._loop.drive(self.done, timeout)
        return None if timeout is None else max(0, timeout - (time.monotonic() - started))

    def _exception_of(self, error: BaseException) -> BaseException:
        if self._failure is None:
            return error
        if self._rebuilt is None:
            self._rebuilt = rebuild(self._failure)
        return self._rebuilt
