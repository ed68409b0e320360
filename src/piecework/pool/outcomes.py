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
    """Outcomes to be taken in order: that of the inputs if `ordered`, else as they come."""

    def __init__(self, *, ordered: bool) -> None:
        self.ready: deque[list[Any]] = deque()
        self._ready = 0
        self._ordered = ordered
        self._next = 0
        self._later: dict[int, list[Any]] = {}
        self._early = 0
        self._troubles = 0  # among what is ready or early

    @property
    def waiting(self) -> int:
        return self._ready + self._early

    def add(self, start: int, values: list[Any], failed: list[Failed]) -> None:
        self._troubles += len(failed)
        if not self._ordered:
            self._put(values)
            return
        self._later[start] = values
        self._early += len(values)
        while (turn := self._later.pop(self._next, None)) is not None:
            self._put(turn)
            self._next += len(turn)
            self._early -= len(turn)

    def _put(self, values: list[Any]) -> None:
        self.ready.append(values)
        self._ready += len(values)

    def end(self, error: BaseException | None) -> None:
        if error is not None:
            self._troubles += 1
            self._put([Broken(error)])

    def take(self) -> tuple[list[Any], Failed | Broken | None]:
        """The next values, up to the first failure among them; and that."""
        if not self._troubles:
            blocks, self.ready, self._ready = self.ready, deque(), 0
            return list(chain.from_iterable(blocks)), None
        values = self.ready.popleft()
        self._ready -= len(values)
        for place, value in enumerate(values):
            if type(value) is Failed or type(value) is Broken:
                self._troubles -= 1
                rest = values[place + 1 :]
                if rest:
                    self.ready.appendleft(rest)
                    self._ready += len(rest)
                return values[:place], value
        return values, None


class Discard:
    """Of a map whose results nobody will take."""

    waiting = 0

    def add(self, start: int, values: list[Any], failed: list[Failed]) -> None:
        """Nothing is kept."""

    def end(self, error: BaseException | None) -> None:
        """Nobody will know."""
