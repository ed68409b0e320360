"""Durations, numbers and values as people read them."""

from __future__ import annotations

import pytest

from piecework.wording import about, between, counted, exact, one_line, shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000125, "12.5 µs"),
        (0.0032, "3.2 ms"),
        (9.5, "9.5 s"),
        (59.96, "1 min 0 s"),
        (250, "4 min 10 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_what_was_measured_is_exact(seconds: float, text: str) -> None:
    assert exact(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (9.4, "9 s"), (100, "2 min"), (9000, "2.5 h"), (3 * 86400, "3 days")],
)
def test_what_is_estimated_is_rough(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_a_range_names_its_unit_once_and_equal_ends_once() -> None:
    assert between(240, 360) == "4 to 6 min"
    assert between(50, 120) == "50 s to 2 min"
    assert between(3.1, 3.2) == "3 s"


def test_one_input_and_many() -> None:
    assert counted(1, "input") == "1 input"
    assert counted(1234, "input") == "1,234 inputs"


def test_a_value_is_shown_in_one_line_whatever_its_repr_does() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError

    class Long:
        def __repr__(self) -> str:
            return "<a\nb>"

    assert shown(Odd()).startswith("<Odd ")
    assert shown(Long()) == "<a"
    assert len(shown("x" * 10_000)) < 100


def test_text_of_others_cannot_move_the_cursor() -> None:
    assert one_line("bad\x1b[2Jnews\r!\nmore", 80) == "bad [2Jnews !"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"
