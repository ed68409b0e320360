"""Inputs that failed, out of the journal of their run: a session that tries only those again.

    Failed ── inputs ──▶ Again.match ──▶ Fresh(in_place) ──▶ Master ──▶ Journal ──▶ the same place

They are not looked for: each keeps the place of its record, and with it its index. Of several equal
inputs the one that failed is tried again.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from piecework.journal.reader import Reader
from piecework.journal.rows import NOT_KEPT, Mark, Unreadable, index_of, packed
from piecework.journal.segments import Fresh, Segment
from piecework.task import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.delivery import Piece
    from piecework.journal.entries import Failed as FailedEntry
    from piecework.journal.journal import Journal


class Failed:
    """Inputs whose task failed, drawn from the journal as they are needed.

    With `quarantined` also of those that ended a worker twice. `unkept` counts those that are left
    out because the journal does not have them, `others` all that are left out. `places` are where
    their records are, in order.
    """

    def __init__(
        self,
        path: Path,
        wanted: Callable[[Result], bool] | None = None,
        *,
        quarantined: bool = True,
    ) -> None:
        self.path = path
        self.unkept = self.others = 0
        self.places: array[int] = array("Q")
        with Reader(path) as reader:
            for place, state in reader.failed_places():
                result = reader.result_at(place)
                kept = result is not None and (quarantined or state != "quarantined")
                if result is None or not kept or (wanted is not None and not wanted(result)):
                    self.others += 1
                elif result.input is NOT_KEPT or isinstance(result.input, Unreadable):
                    self.others += 1
                    self.unkept += 1
                else:
                    self.places.append(place)

    def __len__(self) -> int:
        return len(self.places)

    def again(self, journal: Journal, session: int) -> Again:
        """Where `journal` begins a session of these inputs."""
        with Reader(self.path) as reader:
            before = [found for found in reader.sessions() if found.id < session]
            counts = reader.counts()
        if before:
            last = before[-1]
            known = counts.done + counts.failed + counts.quarantined
            all_known = last.inputs is not None and known >= last.inputs
            why = "" if all_known else last.why
            journal.try_again(why, last.inputs, last.drawn, self.others)
        return Again(self)

    def index_of(self, position: int) -> int:
        """The index that the input drawn at `position` has in its run."""
        return index_of(self.places[position])

    def __iter__(self) -> Iterator[Any]:
        with Reader(self.path) as reader:
            for place in self.places:
                result = reader.result_at(place)
                if result is not None:
                    yield result.input


class Again:
    """Takes the part of `Recall`: nothing is known, and everything has its place."""

    undecided = False

    def __init__(self, inputs: Failed) -> None:
        self._places = inputs.places
        self._drawn = 0

    def match(self, inputs: list[Any]) -> list[Segment]:
        """The next inputs, with the places of their records."""
        places = self._places[self._drawn : self._drawn + len(inputs)]
        self._drawn += len(inputs)
        return [Fresh(inputs, None, None, dict(enumerate(places)), in_place=True)] if inputs else []

    def check(self, *, ended: bool) -> None:
        """They are the run's own inputs."""

    def close(self) -> None:
        """Nothing is open."""


def done_at(at: int, piece: Piece, values: bytes | None) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements that record one task as done where it was recorded as failed."""
    mark = Mark(1, list(piece.timings), piece.attempt, piece.worker)
    row = (
        None if values is None else packed([values], 1),
        packed([pickle.dumps(tuple(mark), 5)], 1),
    )
    return [
        ("DELETE FROM failures WHERE place = ?", (at,)),
        ("INSERT OR REPLACE INTO pieces VALUES (?, 1, ?, ?)", (at, *row)),
    ]


def failed_at(at: int, entry: FailedEntry) -> list[tuple[str, tuple[Any, ...]]]:
    """The statement that records one task as failed once more, in the place of that failure."""
    sql = "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    return [(sql, (at, *entry[1:]))]
