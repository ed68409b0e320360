"""Patterns are refused before anything is read, with the place and the way out."""

from __future__ import annotations

import pytest

from piecework.extract import PatternError, checked


def refusal(source: str) -> str:
    with pytest.raises(PatternError) as caught:
        checked(source)
    return str(caught.value)


def test_a_pattern_with_a_named_group_is_taken() -> None:
    assert checked(r"^(?P<a>\d+)$").groupindex == {"a": 1}


@pytest.mark.parametrize(
    ("source", "position"),
    [(r"^(?P<a>[a-z)$", 7), (r"(?P<a>x", 0), (r"(?P<a>x)**", 9), ("(?P<a>x)\n  (", 11)],
)
def test_the_caret_stands_under_the_place(source: str, position: int) -> None:
    lines = refusal(source).splitlines()
    assert f"at position {position}" in lines[0]
    shown, caret = lines[1], lines[2]
    assert caret.strip() == "^"
    line_start = source.rfind("\n", 0, position) + 1
    assert caret.index("^") - 2 == position - line_start
    assert shown[2:] == source[line_start:].partition("\n")[0]


@pytest.mark.parametrize(
    ("source", "way"),
    [
        (r"(?<ip>\S+)", "(?P<name>"),
        (r"(?P<a>\p{L}+)", "\\p"),
        (r"(?P<a>\h+)", "[ \\t]"),
    ],
)
def test_words_of_another_dialect_are_recognised(source: str, way: str) -> None:
    assert way in refusal(source)


@pytest.mark.parametrize(
    ("source", "way"),
    [
        (r"^(\S+) (\d+)$", r"^(?P<first>\S+) (\d+)$"),
        (r"\((?:a|b)([(]x)", r"\((?:a|b)(?P<first>[(]x)"),
        (r"[](](x)", r"[](](?P<first>x)"),
        (r"^\S+$", r"(?P<line>^\S+$)"),
        ("%{COMBINEDAPACHELOG}", "Grok"),
    ],
)
def test_no_named_group_shows_where_the_name_goes(source: str, way: str) -> None:
    assert "names no group" in refusal(source)
    assert way in refusal(source)


def test_a_pattern_that_is_too_deep_is_refused_without_a_traceback_of_ours() -> None:
    assert "Simplify" in refusal("(?P<a>" + "(" * 20_000 + ")" * 20_000 + ")")
