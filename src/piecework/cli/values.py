"""Values as JSON, in the worker: what cannot be written is that task's failure, named there.

What JSON has no word for is written so, and nothing else is guessed:

    bytes                   base64 text         Path, str subclass      text
    datetime, date, time    ISO 8601            timedelta               ISO 8601 duration
    Decimal, UUID           text                Enum                    its value
    dataclass, namedtuple   object, array       set, deque, range       array
    NumPy scalar, array     number, array       NaN, infinities         null
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import PurePath
from typing import Any

import msgspec


def _plain(value: Any) -> Any:
    """One step towards JSON for what msgspec does not know; NotJson names the rest."""
    if isinstance(value, PurePath):
        return str(value)
    for base in (str, int, float):
        if isinstance(value, base):  # a subclass: msgspec takes the exact types only
            return base(value)
    if isinstance(value, deque | range):
        return list(value)
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()  # a scalar becomes a number, an array nested lists
    raise NotJson(
        f"a value of type {_name(type(value))} cannot be written as JSON. "
        "Return numbers, text, lists, dicts or dataclasses, or write the file in the function"
    )


def _name(kind: type) -> str:
    outer = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return outer + kind.__qualname__


class NotJson(TypeError):
    """The function returned what cannot be written as JSON."""


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def encode(value: Any) -> bytes:
    """`value` as one line of JSON; NotJson names the type that is in the way."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8
        return _encode_escaped(value)
    except RecursionError:
        raise NotJson("a value that contains itself cannot be written as JSON") from None
    except NotJson:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise NotJson(f"{_name(type(value))} cannot be written as JSON: {error}") from error


def _encode_escaped(value: Any) -> bytes:
    """The slow way: everything outside ASCII escaped, so that surrogates survive the trip."""
    plain = msgspec.to_builtins(value, enc_hook=_plain)
    try:
        return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise NotJson(f"{_name(type(value))} cannot be written as JSON: {error}") from error


def call(fn: Callable[[Any], Any], parse: bool, text: str) -> bytes:
    """What a worker runs for one input of `piecework map`: text in, JSON out."""
    return encode(fn(decode(text) if parse else text))


async def call_async(fn: Callable[[Any], Awaitable[Any]], parse: bool, text: str) -> bytes:
    """The same for a coroutine function."""
    return encode(await fn(decode(text) if parse else text))


def decode(text: str) -> Any:
    """One input given as JSON; what is not JSON is that input's failure and no other's."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"the input is not JSON: {error}. Without --inputs json it is text"
        ) from None
