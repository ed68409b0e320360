"""Reports in any order become the values of a map, or of an imap, and every failure shows once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from piecework.pool.outcomes import Broken, Failed, Gathered, Stream
from piecework.task import Failure


@st.composite
def reports(draw: st.DrawFn) -> tuple[list[tuple[int, list[Any], list[Failed]]], list[Any]]:
    """Stretches of the tasks 0, 1, ... in any order, and what each task came to."""
    bad = draw(st.lists(st.booleans(), max_size=40))
    whole: list[Any] = [
        Failed(Failure("ValueError", str(n)), n, n, "") if is_bad else n
        for n, is_bad in enumerate(bad)
    ]
    cuts = sorted(draw(st.sets(st.integers(1, max(len(bad) - 1, 1)))) | {0, len(bad)})
    stretches = [
        (low, whole[low:high], [one for one in whole[low:high] if isinstance(one, Failed)])
        for low, high in itertools.pairwise(cuts)
        if low < high <= len(bad)
    ]
    return draw(st.permutations(stretches)), whole


def taken(stream: Stream) -> Iterator[Any]:
    while stream.ready:
        values, trouble = stream.take()
        yield from values
        if trouble is not None:
            yield trouble


@given(reports(), st.booleans(), st.booleans())
def test_an_ordered_stream_gives_everything_in_its_place(
    drawn: tuple[list[Any], list[Any]], as_it_comes: bool, broken: bool
) -> None:
    came, whole = drawn
    stream, got = Stream(ordered=True), []
    for report in came:
        stream.add(*report)
        if as_it_comes:
            got += taken(stream)
        assert stream.waiting == sum(len(one[1]) for one in came[: came.index(report) + 1]) - len(
            got
        )
    error = LookupError() if broken else None
    stream.end(error)
    got += taken(stream)
    assert got[: len(whole)] == whole
    assert [one.error for one in got[len(whole) :] if isinstance(one, Broken)] == [error] * broken
    assert stream.waiting == 0


@given(reports())
def test_an_unordered_stream_gives_everything_as_it_comes(
    drawn: tuple[list[Any], list[Any]],
) -> None:
    came, _ = drawn
    stream = Stream(ordered=False)
    for report in came:
        stream.add(*report)
    assert list(taken(stream)) == [value for report in came for value in report[1]]


@given(reports(), st.booleans())
def test_what_was_gathered_is_whole_or_has_its_first_failure(
    drawn: tuple[list[Any], list[Any]], broken: bool
) -> None:
    came, whole = drawn
    gathered, error = Gathered(), LookupError()
    for report in came:
        gathered.add(*report)
    gathered.end(error if broken else None)
    failed = [one for one in whole if isinstance(one, Failed)]
    if failed:
        assert gathered.trouble is failed[0]
    elif broken:
        assert isinstance(gathered.trouble, Broken)
        assert gathered.trouble.error is error
    else:
        assert gathered.trouble is None
        assert gathered.take() == whole
