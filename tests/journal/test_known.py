"""Records by the ids of their inputs: each is claimed once, equal ones in their order."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from piecework.journal.known import KnownTable

IDS = st.integers(0, 6).map(lambda n: bytes([n]) * 16)


@settings(max_examples=60, deadline=None)
@given(st.lists(IDS, max_size=40), st.lists(st.lists(IDS, max_size=15), max_size=5))
def test_it_is_a_bag_of_records(recorded: list[bytes], asked: list[list[bytes]]) -> None:
    table = KnownTable((one, 100 + at, at % 3) for at, one in enumerate(recorded))
    left: dict[bytes, list[int]] = defaultdict(list)
    for at, one in enumerate(recorded):
        left[one].append(at)
    for ids in asked:
        wanted = [
            (position, 100 + at, at % 3)
            for position, one in enumerate(ids)
            if left[one]
            for at in [left[one].pop(0)]
        ]
        assert list(table.claim(b"".join(ids))) == wanted
    table.close()


def test_a_hundred_thousand_equal_inputs_are_claimed_one_after_the_other() -> None:
    count = 100_000
    table = KnownTable((b"x" * 16, place, 0) for place in range(count))
    found = [place for _ in range(25) for _, place, _ in table.claim(b"x" * 16 * 5000)]
    assert found == list(range(count))
    table.close()
