"""The pattern, checked before anything is read: an error shows the place and the way out."""

from __future__ import annotations

import re

from piecework import UsageError

_WAYS = {  # what other dialects write, by the text that Python's parser stumbles over
    "(?<": "Python writes a named group (?P<name>…).",
    "%{": "Grok names are not known here; write the expression out.",
    "[[:": "Python has no POSIX classes; write [a-zA-Z] for [[:alpha:]], \\d for [[:digit:]].",
    "\\p": "Python's re has no \\p{…}; write the class out, or \\w.",
    "\\h": "Python's re has no \\h; write [ \\t].",
}


class PatternError(UsageError):
    """The pattern cannot be used as it is; the message points at the place."""


def checked(source: str) -> re.Pattern[str]:
    """The compiled pattern; PatternError where it does not compile or names no group."""
    try:
        pattern = re.compile(source)
    except re.error as error:
        raise PatternError(_pointed(source, error)) from None
    except (RecursionError, OverflowError) as error:
        raise PatternError(f"the pattern is too deep or too large: {error}. Simplify it.") from None
    if not pattern.groupindex:
        raise PatternError(_unnamed(source, pattern))
    return pattern


def _pointed(source: str, error: re.error) -> str:
    """The line of the pattern with a caret under the place."""
    place = error.pos if error.pos is not None else 0
    start = source.rfind("\n", 0, place) + 1
    line = source[start:].partition("\n")[0]
    way = next((way for mark, way in _WAYS.items() if mark in source[max(place - 2, 0) :]), "")
    return "\n".join(
        [
            f"the pattern does not compile: {error.msg} at position {place}.",
            f"  {line}".expandtabs(1),
            "  " + " " * (place - start) + "^",
            way or "Escape what is meant literally with a backslash: \\( \\[ \\+ \\?",
        ]
    )


def _unnamed(source: str, pattern: re.Pattern[str]) -> str:
    """A row's fields are the named groups: show where the names go."""
    if "%{" in source:
        way = _WAYS["%{"]
    elif pattern.groups:
        place = _first_group(source)
        way = f"Name its groups: {source[:place]}(?P<first>{source[place + 1 :]}"
    else:
        way = f"Put what you want into groups with names: (?P<line>{source})"
    return f"the pattern names no group, so that a row would have no fields. {way}"


def _first_group(source: str) -> int:
    """Where the first capturing group opens: past escapes, classes and (?…)."""
    in_class = False
    place = 0
    while place < len(source):
        char = source[place]
        if char == "\\":
            place += 1
        elif in_class:
            in_class = char != "]" or source[place - 1] in "[^"
        elif char == "[":
            in_class = True
        elif char == "(" and source[place + 1 : place + 2] != "?":
            return place
        place += 1
    return 0
