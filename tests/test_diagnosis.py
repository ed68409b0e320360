"""The path to what cannot be sent: exact where it can be, bounded where a value is large."""

from __future__ import annotations

import functools
import reprlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from piecework.diagnosis import SECONDS_MAX, explain, path_to_unpicklable

LOCK = threading.Lock()


class Db:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.name = "db"

    def load(self) -> None: ...


class Slotted:
    __slots__ = ("inner",)

    def __init__(self) -> None:
        self.inner = Db()


class Pair(NamedTuple):
    first: object
    second: object


class OwnState:
    def __getstate__(self) -> object:
        return [1, threading.Lock()]


def closing_over(db: object) -> Callable[[], object]:
    return lambda: db


def with_defaults() -> Callable[..., object]:
    def fn(a: object = 1, b: object = LOCK, *, c: object = LOCK) -> object:
        return a, b, c

    return fn


def with_keyword_default() -> Callable[..., object]:
    def fn(*, c: object = LOCK) -> object:
        return c

    return fn


def reading_a_global() -> Callable[..., object]:
    space: dict[str, Any] = {"__name__": "made_up", "LOCK": LOCK}
    exec("def fn(): return helper()\ndef helper(): return LOCK", space)
    found: Callable[..., object] = space["fn"]
    return found


def with_attribute() -> Callable[..., object]:
    fn = lambda: 1
    fn.db = Db()  # type: ignore[attr-defined]
    return fn


def local_class() -> type:
    class Local:
        lock = LOCK

    return Local


def in_itself() -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    value["self"] = value
    value["list"] = [value, [value, Db()]]
    return value


def in_an_error() -> ValueError:
    return ValueError("x", LOCK)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (closing_over(Db()), "fn.__closure__['db'].lock"),
        (closing_over(Slotted()), "fn.__closure__['db'].inner.lock"),
        (with_defaults(), "fn.__defaults__[1]"),
        (with_keyword_default(), "fn.__kwdefaults__['c']"),
        (reading_a_global(), "fn.__globals__['helper'].__globals__['LOCK']"),
        (with_attribute(), "fn.db.lock"),
        (functools.partial(print, 1, Db()), "fn.args[1].lock"),
        (functools.partial(print, end=Db()), "fn.keywords['end'].lock"),
        (functools.partial(closing_over(Db())), "fn.func.__closure__['db'].lock"),
        (functools.lru_cache(closing_over(Db())), "fn.__wrapped__.__closure__['db'].lock"),
        (Db().load, "fn.__self__.lock"),
        (local_class(), "fn.lock"),
        (local_class()(), "fn.__class__.lock"),
        (OwnState(), "fn.__getstate__()[1]"),
        (Pair(1, LOCK), "fn.second"),
        ({LOCK}, f"fn.item({reprlib.repr(LOCK)})"),
        ({LOCK: 1}, f"fn.key({reprlib.repr(LOCK)})"),
        ({"a": [0, (1, LOCK)]}, "fn['a'][1][1]"),
        (in_itself(), "fn['list'][1][1].lock"),
        (in_an_error(), "fn.args[1]"),
        ([1] * 300_000 + [LOCK], "fn[300000]"),
    ],
)
def test_the_path_leads_to_the_culprit(value: object, path: str) -> None:
    assert path_to_unpicklable(value, "fn") == f"{path}: _thread.lock"


def test_a_value_too_large_to_search_is_named_as_far_as_the_search_got(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 0.0, 2 * SECONDS_MAX])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    value = {"a": [[str(i)] for i in range(100)] + [LOCK]}
    assert path_to_unpicklable(value, "fn") == "fn['a']: list"


def test_a_global_that_stays_where_it_is_is_not_blamed() -> None:
    fn = lambda: LOCK
    assert path_to_unpicklable(fn, "fn") == "fn: function"
    fn.db = Db()  # type: ignore[attr-defined]
    assert path_to_unpicklable(fn, "fn") == "fn.db.lock: _thread.lock"


def test_the_parts_of_a_call_have_names_of_their_own() -> None:
    call = (print, (1, Db()), {})
    text = explain(call, ("fn", "args", "kwargs"), TypeError())
    assert text.startswith("cannot send to another process: args[1].lock: _thread.lock")
    assert explain((1,), ("fn",), TypeError()).startswith("cannot send to another process: call:")


class Hostile:
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ValueError(self)

    def __repr__(self) -> str:
        raise ValueError("no")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise ValueError("no")


def test_explaining_never_raises() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    text = explain({"a": Hostile()}, "fn", Silent())
    assert text.startswith("cannot send to another process: fn['a']: ")
    assert "Silent" in text
    assert text.endswith("needed to open it.")
