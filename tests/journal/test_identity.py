"""An input is known again by what it is, in any process and whatever made it."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.errors import UsageError
from piecework.journal.identity import all_atomic, digest, digests, same
from piecework.journal.rows import ID_BYTES

ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=20)
)
KEYS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(max_size=20))
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=4),
        st.frozensets(KEYS, max_size=4),
    ),
    max_leaves=10,
)


@dataclass
class Point:
    x: int
    tags: dict[str, int]


@given(VALUES)
def test_a_copy_is_the_same_input(value: Any) -> None:
    assert digest(copy.deepcopy(value)) == digest(value)
    assert digest(pickle.loads(pickle.dumps(value))) == digest(value)


@given(st.dictionaries(KEYS, ATOMS, min_size=2), st.sets(KEYS, min_size=2))
def test_dicts_and_sets_have_no_order(mapping: dict[Any, Any], members: set[Any]) -> None:
    turned = dict(reversed(list(mapping.items())))
    assert digest(turned) == digest(mapping)
    other: set[Any] = set()
    for member in sorted(members, key=repr):  # in another order than they came
        other.add(member)
    assert digest(other) == digest(members)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (1, 1.0), (0.0, -0.0), ("a", b"a"), ((1,), [1]), (None, "None"), ((), []),
        ({"a": 1}, {"a": True}), ({1}, frozenset({1})), ({1: 2}, {2: 1}), ([1, [2]], [[1], 2]),
        ("1", 1), (Path("a"), "a"), (Point(1, {}), Point(2, {})), ({}, set()),
        (OrderedDict(a=1), {"a": 1}),
    ],
)  # fmt: skip
def test_what_a_function_could_tell_apart_is_not_the_same(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_equal_parts_need_not_be_one_object() -> None:
    text = "".join(["ab", "cd"])
    assert digest([text, text]) == digest([text, "".join(["abc", "d"])])
    assert digest(Point(1, {"a": 1, "b": 2})) == digest(Point(1, {"b": 2, "a": 1}))
    assert digest(Counter("aab")) == digest(Counter("baa"))


def test_it_is_the_same_in_another_process() -> None:
    code = (
        "from piecework.journal.identity import digest\n"
        "from pathlib import Path\n"
        "print(digest([{'b', 'a', 'c'}, {'x': Path('a')}, 1.5, 'ö']).hex())"
    )
    said = set()
    for seed in "01":
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1


def test_functions_are_known_by_what_they_do() -> None:
    one, other = eval("lambda x: x + 1"), eval("lambda x: x + 2")
    assert digest(one) == digest(eval("lambda x: x + 1")) != digest(other)


@pytest.mark.parametrize("make", [lambda: (n for n in [1]), threading.Lock])
def test_what_cannot_be_known_again_is_refused_with_the_way_out(make: Any) -> None:
    made = make()
    with pytest.raises(UsageError, match=r"cannot be known again.*Give key=, a function"):
        digest([made])


def test_what_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UsageError, match="key="):
        digest(endless)
    known: dict[str, Any] = {}
    known["again"] = known
    with pytest.raises(UsageError, match="key="):
        digest(known)


def test_a_key_names_an_input() -> None:
    inputs = [Point(1, {}), Point(2, {})]
    ids = digests(inputs, lambda point: point.x)
    assert ids == digest(1) + digest(2)
    assert len(ids) == 2 * ID_BYTES


@given(st.lists(st.one_of(ATOMS, st.tuples(ATOMS, ATOMS))), st.data())
def test_what_is_the_same_by_value_is_the_same_by_id(
    inputs: list[Any], data: st.DataObject
) -> None:
    assert all_atomic(inputs)
    others = copy.deepcopy(inputs)
    if inputs and data.draw(st.booleans()):
        others[data.draw(st.integers(0, len(inputs) - 1))] = data.draw(ATOMS)
    assert same(inputs, others) == (digests(inputs) == digests(others))


@pytest.mark.parametrize("value", [[1], {1}, {}, ([],), ((1,),), Point(1, {}), object])
def test_what_could_be_changed_is_not_atomic(value: Any) -> None:
    assert not all_atomic([1, value])
