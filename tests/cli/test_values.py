"""Values as JSON: what has a word in JSON gets it, what has none is named."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import json
import uuid
from collections import deque, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from piecework.cli.values import NotJson, call, call_async, encode


@dataclass
class Point:
    x: int
    path: Path


class Colour(enum.Enum):
    RED = "red"


Pair = namedtuple("Pair", "a b")


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        (None, None),
        ({"a": [1, 2.5, "ü"]}, {"a": [1, 2.5, "ü"]}),
        (b"\x00\xff", "AP8="),
        (Path("a/b"), "a/b"),
        (Point(1, Path("p")), {"x": 1, "path": "p"}),
        (Pair(1, 2), [1, 2]),
        (Colour.RED, "red"),
        (Name("n"), "n"),
        (datetime.date(2026, 11, 23), "2026-11-23"),
        (datetime.timedelta(seconds=90), "PT90S"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({3}, [3]),
        (deque([1]), [1]),
        (range(3), [0, 1, 2]),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.array([[1, 2]]), [[1, 2]]),
        (float("nan"), None),
        (2**80, 2**80),
        ("caf\udce9", "caf\udce9"),  # a file name that is not UTF-8
    ],
)
def test_a_value_becomes_json(value: Any, json_value: Any) -> None:
    line = encode(value)
    assert json.loads(line) == json_value
    assert b"\n" not in line


def loop() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "type object"),
        ([{"deep": {1j}}], "type complex"),
        (json, "type module"),
        (loop(), "contains itself"),
        ({(1, 2): 3}, "dict"),
    ],
)
def test_what_json_cannot_say_is_named(value: Any, said: str) -> None:
    with pytest.raises(NotJson, match=said):
        encode(value)


def test_a_task_gets_text_or_the_value_of_its_json() -> None:
    assert call(len, False, "[1, 2]") == b"6"
    assert call(len, True, "[1, 2]") == b"2"


def test_an_input_that_is_not_json_says_so() -> None:
    with pytest.raises(ValueError, match="the input is not JSON"):
        call(len, True, "{nope")


def test_a_coroutine_function_is_awaited() -> None:
    async def double(value: int) -> int:
        return value * 2

    assert asyncio.run(call_async(double, True, "21")) == b"42"
