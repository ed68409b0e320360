"""Tables: columns that fit, numbers that line up."""

from __future__ import annotations

import pytest

from piecework.cli import table

ROWS = [("NAME", "DONE"), ("a-rather-long-name-of-a-run", "1,000"), ("b", "7")]


def test_where_no_terminal_is_nothing_is_cut() -> None:
    lines = list(table.table(ROWS, 999, right={1}, shorten=[0]))
    assert lines[1] == "a-rather-long-name-of-a-run  1,000"
    assert lines[2].endswith("      7")
    assert len({len(line) for line in lines}) == 1


def test_a_narrow_terminal_shortens_what_may_be_shortened() -> None:
    lines = list(table.table(ROWS, 20, right={1}, shorten=[0]))
    assert max(map(len, lines)) == 20
    assert lines[1] == "a-rather-lon…  1,000"


def test_line_breaks_do_not_tear_a_row_apart() -> None:
    assert list(table.table([("a\nb", "c")], 80)) == ["a b  c"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (4_500, "4.5 kB"), (38_000_000, "38 MB"), (10**13, "10.0 TB")],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert table.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (864_000, "10 d")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert table.age(seconds) == text
