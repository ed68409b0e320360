"""The inputs of a run that failed, out of its journal: a session tries only those again."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from piecework.journal.reader import Reader
from piecework.journal.rows import NOT_KEPT, Unreadable
from piecework.task import Result


class Failed:
    """Inputs whose task failed, drawn from the journal as they are needed.

    With `quarantined` also of those that ended a worker twice. `unkept` counts those that are left
    out because the journal does not have them. `places` are where their records are, in order.
    """

    def __init__(
        self,
        path: Path,
        wanted: Callable[[Result], bool] | None = None,
        *,
        quarantined: bool = True,
    ) -> None:
        self.path = path
        self.unkept = 0
        self.places: array[int] = array("Q")
        with Reader(path) as reader:
            for place, state in reader.failed_places():
                if state == "quarantined" and not quarantined:
                    continue
                result = reader.result_at(place)
                if result is None or (wanted is not None and not wanted(result)):
                    continue
                if result.input is NOT_KEPT or isinstance(result.input, Unreadable):
                    self.unkept += 1
                else:
                    self.places.append(place)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Any]:
        with Reader(self.path) as reader:
            for place in self.places:
                result = reader.result_at(place)
                if result is not None:
                    yield result.input
