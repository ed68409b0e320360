"""Settled tasks on their way to the consumer: bounded, in input order or as they come.

    RunState ── Piece ──▶ Unread ──▶ take()      next piece in input order
                                └──▶ take_any()  oldest piece

A piece is a stretch of neighbours that settled together. Nothing is done per task here, except
where failures cut a stretch apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import repeat

from piecework.record import record
from piecework.task import Failure, Report, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record(slots=True)
class Piece:
    """Neighbours in the input that settled together, from index `start` on.

    `failures` maps positions in the piece. `timings` are `(tasks, seconds)` that add up to its
    length, or are empty where nothing ran. `inputs` is empty once nobody can ask for them.
    """

    start: int
    values: list[Any]
    failures: dict[int, Failure]
    inputs: Sequence[Any]
    timings: Sequence[tuple[int, float]] = ()
    attempt: int = 1
    worker: str = ""
    nbytes: int = 0
    recalled: bool = False  # from the journal: it was not run now
    places: Sequence[int] = ()  # there
    workers: Sequence[str] = ()  # where not one worker did all of it

    def __len__(self) -> int:
        return len(self.values)

    def split(self) -> Iterator[Piece]:
        """The same, cut so that a failure stands alone: values before it come before it.

        Tasks that were never started stay together.
        """
        if not self.failures or self._all_cancelled():
            yield self
            return
        seconds = _each(self.timings, len(self.values))
        start = 0
        for position in [*sorted(self.failures), len(self)]:
            if start < position:
                yield self.part(start, position, {}, seconds)
            if position < len(self):
                failures = {0: self.failures[position]}
                yield self.part(position, position + 1, failures, seconds)
            start = position + 1

    def _all_cancelled(self) -> bool:
        if len(self.failures) < len(self):
            return False
        return all(failure.cause == "cancelled" for failure in self.failures.values())

    def last(self, count: int) -> Piece:
        """The last `count` tasks of a piece without failures."""
        seconds = _each(self.timings, len(self.values))
        return self.part(len(self) - count, len(self), {}, seconds)

    def part(
        self,
        start: int,
        stop: int,
        failures: dict[int, Failure] | None = None,
        seconds: list[float] | None = None,
    ) -> Piece:
        """A stretch of it; `failures` by position in the stretch, `seconds` of all its tasks."""
        if seconds is None:
            seconds = _each(self.timings, len(self.values))
        return Piece(
            start=self.start + start,
            values=self.values[start:stop],
            failures=failures or {},
            inputs=self.inputs[start:stop],
            timings=[(1, took) for took in seconds[start:stop]],
            attempt=self.attempt,
            worker=self.worker,
            recalled=self.recalled,
            places=self.places[start:stop],
            workers=self.workers[start:stop],
        )

    def results(self) -> Iterator[Result]:
        """Each task as the user sees it."""
        count = len(self.values)
        failures = [self.failures.get(position) for position in range(count)]
        return map(
            Result,
            range(self.start, self.start + count),
            self.inputs,
            [failure is None for failure in failures],
            self.values,
            failures,
            _each(self.timings, count),
            repeat(self.attempt),
            self.workers or repeat(self.worker),
            repeat(self.recalled),
        )


class Unread:
    """Pieces that the consumer has not taken yet."""

    def __init__(self) -> None:
        self.tasks = 0
        self.nbytes = 0
        self.next = 0  # index that comes next in input order
        self._pieces: OrderedDict[int, Piece] = OrderedDict()

    def add(self, piece: Piece) -> None:
        self._pieces[piece.start] = piece
        self.tasks += len(piece)
        self.nbytes += piece.nbytes

    @property
    def ready(self) -> bool:
        """Whether `take` has something to give."""
        return self.next in self._pieces

    def take(self) -> Piece | None:
        """The piece that comes next in input order; None while it has not settled."""
        piece = self._pieces.pop(self.next, None)
        if piece is not None:
            self._forget(piece)
            self.next = piece.start + len(piece)
        return piece

    def take_any(self) -> Piece | None:
        """The piece that settled first; after this, input order is lost."""
        if not self._pieces:
            return None
        _, piece = self._pieces.popitem(last=False)
        self._forget(piece)
        return piece

    def clear(self) -> None:
        """Drop what nobody will read."""
        self._pieces.clear()
        self.tasks = self.nbytes = 0

    def _forget(self, piece: Piece) -> None:
        self.tasks -= len(piece)
        self.nbytes -= piece.nbytes

    def __bool__(self) -> bool:
        return bool(self._pieces)


def cut(
    report: Report, part: Sequence[int], kept: Sequence[int], failures: dict[int, Failure]
) -> Iterator[Piece]:
    """The `kept` positions of a report as pieces of neighbours; `failures` goes by position, too.

    `part` are the indexes that the report speaks of.
    """
    inputs, seconds = inputs_of(report), each_seconds(report)
    first = 0
    for i in range(1, len(kept) + 1):
        if i < len(kept) and part[kept[i]] == part[kept[i - 1]] + 1:
            continue
        positions = kept[first:i]
        yield Piece(
            start=part[positions[0]],
            values=[report.values[p] for p in positions],
            failures={n: failures[p] for n, p in enumerate(positions) if p in failures},
            inputs=[inputs[p] for p in positions],
            timings=[(1, seconds[p]) for p in positions],
            attempt=report.batch.attempt,
            worker=report.worker,
            nbytes=report.nbytes * len(positions) // len(part),
        )
        first = i


def inputs_of(report: Report) -> Sequence[Any]:
    """The inputs of the tasks that a report speaks of."""
    payloads, count = report.batch.payloads, len(report.values)
    if count == len(payloads):
        return payloads
    return payloads[report.offset : report.offset + count]


def each_seconds(report: Report) -> list[float]:
    """Seconds of each task of a report."""
    return _each(report.timings, len(report.values))


def _each(timings: Sequence[tuple[int, float]], count: int) -> list[float]:
    """Seconds of each task: the mean of those that were timed together."""
    seconds: list[float] = []
    for tasks, total in timings:
        seconds.extend([total / tasks] * tasks)
    seconds.extend([0.0] * (count - len(seconds)))
    return seconds
