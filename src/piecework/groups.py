"""Failures of a run, grouped: a million equal ones are one line, and none is forgotten.

Every failed index is kept (eight bytes each). The first of them are kept whole, with input and
traceback; the rest are counted in their group. Messages that differ in numbers only, or in what
names their own input, are equal: digits, addresses, the input's text and the file name in it are
left out of the comparison, nothing else is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

from piecework.bases import NamedTuple
from piecework.task import Failure, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from array import array
    from typing import Any

KEPT_MAX = 200  # failures kept whole
GROUPS_MAX = 500  # beyond that, new messages of a type share one group
EXAMPLES_MAX = 3  # inputs kept a group
FIRSTS_MAX = 21  # first failures of a kind kept in the order they came, for whoever watches
_MESSAGE_MAX = 200


class FailureGroup(NamedTuple):
    """Failures alike: how many, what and where, and some of the inputs that failed so."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    type: str
    message: str
    where: str
    examples: tuple[Any, ...]


class _Group:
    __slots__ = ("count", "examples", "folded", "message", "seen", "type", "varied", "where")

    def __init__(self, type: str, message: str, folded: str, where: str) -> None:
        self.count = 0
        self.type = type
        self.message = message
        self.folded = folded  # without what names the input
        self.varied = False  # another one's message was not the same to the letter
        self.where = where
        self.seen = False  # in this session
        self.examples: list[Any] = []


class Failures:
    """Every failure of a run. Iterating gives the first ones whole, as Results."""

    def __init__(self) -> None:
        self.indexes: array[int] | tuple[()] = ()
        self.firsts: tuple[Result, ...] = ()  # of each kind the first one that was not recalled
        self._kept: list[Result] = []
        self._groups: dict[tuple[str, str, str], _Group] = {}

    def add(self, result: Result) -> None:
        """Count a failed result in its group."""
        failure = result.failure
        assert failure is not None
        if not self.indexes:
            from array import array  # most runs need neither this nor `re`, at 5 ms together

            self.indexes = array("Q")
        self.indexes.append(result.index)
        if len(self._kept) < KEPT_MAX:
            self._kept.append(result)
        group = self._group(failure, result.input)
        group.count += 1
        if len(group.examples) < EXAMPLES_MAX and len(self._groups) <= KEPT_MAX:
            group.examples.append(result.input)
        if not group.seen and not result.recalled:
            group.seen = True
            if len(self.firsts) < FIRSTS_MAX:
                self.firsts = (*self.firsts, result)

    def _group(self, failure: Failure, input: Any) -> _Group:
        message = failure.message.split("\n", 1)[0]
        folded = _without_input(message, input)[:_MESSAGE_MAX]
        message = message[:_MESSAGE_MAX]
        # A short number is not replaced by `…`: it may mean anything, and is a number anyway.
        key = (failure.type, _numbers().sub("#", folded.replace("…", "#")), failure.where)
        group = self._groups.get(key)
        if group is None and len(self._groups) >= GROUPS_MAX:
            message = folded = "(other messages)"
            key = (failure.type, message, "")
            group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(failure.type, message, folded, key[2])
        if message != group.message:
            group.varied = True
            group.folded = max(group.folded, folded, key=_folds)
        return group

    def groups(self, most: int | None = None) -> list[FailureGroup]:
        """The groups, largest first: (count, type, message, where, example inputs)."""
        found = sorted(self._groups.values(), key=lambda group: -group.count)
        return [
            FailureGroup(
                g.count, g.type, g.folded if g.varied else g.message, g.where, tuple(g.examples)
            )
            for g in found[:most]
        ]

    @property
    def group_count(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Result]:
        return iter(list(self._kept))

    def __len__(self) -> int:
        return len(self.indexes)


@cache
def _numbers() -> re.Pattern[str]:
    import re

    return re.compile(r"0x[0-9a-fA-F]+|\d+")


def _folds(message: str) -> int:
    return message.count("…")


def _without_input(message: str, input: Any) -> str:
    """The message with `…` for the text of its input, or for the file name that ends it."""
    if isinstance(input, str | os.PathLike):
        text = os.fspath(input)
        if isinstance(text, str):
            for part in (text, os.path.basename(text)):
                if len(part) > 2:
                    message = message.replace(part, "…")
    return message
