"""The inputs of a run that goes on, cut into what is to be run and what is known."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from piecework.bases import NamedTuple
from piecework.delivery import Piece
from piecework.journal.rows import ID_BYTES, INPUT_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Fresh(NamedTuple):
    """Inputs that are to be run. `ids` and `pickled` as the journal stores them."""

    inputs: list[Any]
    ids: bytes | None
    pickled: bytes | None
    instead: dict[int, int]  # position -> the place of the record that a new one replaces
    in_place: bool = False  # the new record has that place too


class Known(NamedTuple):
    """Tasks of an earlier session: one piece."""

    piece: Piece
    quarantined: bool = False


Segment = Fresh | Known


def pickled(inputs: Sequence[Any]) -> bytes | None:
    """The inputs as they are now; None where they cannot be pickled or are large."""
    try:
        data = pickle.dumps(inputs, 5)
    except Exception:
        return None
    return data if len(data) <= INPUT_BYTES * len(inputs) else None


def inputs_of(segment: Segment) -> list[Any]:
    return segment.inputs if type(segment) is Fresh else list(segment.piece.inputs)  # type: ignore[union-attr]


def split(fresh: Fresh, number: int) -> tuple[Fresh, Fresh]:
    """The first `number` inputs, and the rest."""
    heads: dict[int, int] = {}
    tails: dict[int, int] = {}
    for position, at in fresh.instead.items():
        if position < number:
            heads[position] = at
        else:
            tails[position - number] = at
    ids, cut = fresh.ids, number * ID_BYTES
    head, tail = fresh.inputs[:number], fresh.inputs[number:]
    if ids is None:
        in_place = fresh.in_place
        return Fresh(head, None, None, heads, in_place), Fresh(tail, None, None, tails, in_place)
    return (
        Fresh(head, ids[:cut], pickled(head), heads),
        Fresh(tail, ids[cut:], pickled(tail), tails),
    )
