"""What came back of one map of a Pool: gathered whole, or as a stream to be taken from.

    reports ──add──▶ Gathered   map, starmap: values in input order, the first failure
                └──▶ Stream     imap: in input order; imap_unordered: as they come

All of it is called with the control loop's lock held, and runs no user code.
"""

from __future__ import annotations

from collections import deque
from itertools import chain

from piecework.record import record
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Outcomes(Protocol):
        """What the reports of one map go to."""

        def add(self, start: int, values: list[Any], failed: list[Failed]) -> None:
            """Outcomes from position `start` on; each of `failed` stands among the values, too."""

        def end(self, error: BaseException | None) -> None:
            """Everything was added; `error` is why the inputs ended before their end."""

        @property
        def waiting(self) -> int:
            """How many of them wait to be taken."""


@record(slots=True)
class Failed:
    """A task that failed, in the place of its value."""

    failure: Failure
    index: int
    payload: Any
    worker: str


@record(slots=True)
class Broken:
    """The inputs ended with this exception: it is raised in the place of the next value."""

    error: BaseException


class Gathered:
    """All values in input order, and what is to be raised instead of them."""

    waiting = 0  # they are wanted whole: nothing is gained by holding back the rest

    def __init__(self) -> None:
        self.trouble: Failed | Broken | None = None
        self._parts: dict[int, list[Any]] = {}

    def add(self, start: int, values: list[Any], failed: list[Failed]) -> None:
        self._parts[start] = values
        for one in failed:
            first = self.trouble
            if not isinstance(first, Failed) or one.index < first.index:
                self.trouble = one

    def end(self, error: BaseException | None) -> None:
        if error is not None and self.trouble is None:
            self.trouble = Broken(error)

    def take(self) -> list[Any]:
        """The values, which are not kept here any longer."""
        parts, self._parts = self._parts, {}
        if len(parts) == 1:
            return parts.popitem()[1]
        return list(chain.from_iterable(parts[start] for start in sorted(parts)))


class Stream:
    """Outcomes to be taken one after the other: in input order if `ordered`, else as they come."""

    def __init__(self, *, ordered: bool) -> None:
        self.ready: deque[Any] = deque()
        self._ordered = ordered
        self._next = 0
        self._later: dict[int, list[Any]] = {}
        self._early = 0

    @property
    def waiting(self) -> int:
        return len(self.ready) + self._early

    def add(self, start: int, values: list[Any], failed: list[Failed]) -> None:
        if not self._ordered:
            self.ready.extend(values)
            return
        self._later[start] = values
        self._early += len(values)
        while (turn := self._later.pop(self._next, None)) is not None:
            self.ready.extend(turn)
            self._next += len(turn)
            self._early -= len(turn)

    def end(self, error: BaseException | None) -> None:
        if error is not None:
            self.ready.append(Broken(error))

    def take(self) -> deque[Any]:
        """All that is ready."""
        ready, self.ready = self.ready, deque()
        return ready


class Discard:
    """Of a map whose results nobody will take."""

    waiting = 0

    def add(self, start: int, values: list[Any], failed: list[Failed]) -> None:
        """Nothing is kept."""

    def end(self, error: BaseException | None) -> None:
        """Nobody will know."""
