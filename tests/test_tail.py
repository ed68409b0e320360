from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from piecework.tail import CHARACTERS_MAX, LINE_MAX, LINES_MAX, Tail


def test_the_last_lines_are_kept() -> None:
    tail = Tail()
    for number in range(60):
        tail.add(str(number))
    assert tail.text == "".join(f"{number}\n" for number in range(10, 60))


def test_a_line_that_draws_itself_anew_is_kept_as_it_looks_in_the_end() -> None:
    tail = Tail()
    tail.add("\r 10%\r 50%\r100%")
    tail.add("windows\r")
    assert tail.text == "100%\nwindows\n"


@given(st.lists(st.text(max_size=3 * LINE_MAX)))
def test_it_is_bounded_whatever_is_printed(lines: list[str]) -> None:
    tail = Tail()
    for line in lines:
        tail.add_text(line)
    assert len(tail.text) <= CHARACTERS_MAX + LINES_MAX
    assert tail.text.count("\n") <= LINES_MAX
