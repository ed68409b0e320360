"""How an input is known again in another process, another day, at another place of the input list.

    None, bool, int, float, str, bytes      by value
    tuple, list, dict, set                  by what is in them; dicts and sets in any order
    functions                               by name and bytecode
    any other object                        by what pickle makes of it, without its memo

The memo is left out because it tells whether two equal parts are the same object, which is an
accident of how an input was made. Equal is not enough to be the same input: 1, 1.0 and True are
three, for a function may well treat them differently.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from types import CodeType, FunctionType

from piecework.errors import UsageError
from piecework.journal.rows import ID_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL: 6 ms
except ImportError:
    from hashlib import blake2b

ATOMIC = frozenset({int, str, bytes, float, bool, type(None)})
_ATOMIC_OR_TUPLE = ATOMIC | {tuple}
_LENGTH_MAX = 80


def all_atomic(inputs: Sequence[Any]) -> bool:
    """Whether nobody can change any of them, or tuples of them: they can be looked at later."""
    if ATOMIC.issuperset(map(type, inputs)):
        return True
    if any(type(item) not in _ATOMIC_OR_TUPLE for item in inputs):
        return False
    return ATOMIC.issuperset(
        map(type, chain.from_iterable(item for item in inputs if type(item) is tuple))
    )


def digest(value: Any) -> bytes:
    """Sixteen bytes that are the same for the same input. UsageError where that cannot be told."""
    kind = type(value)
    if kind is str:
        return hashed(b"str" + value.encode("utf-8", "surrogatepass"))
    if kind is int:
        return hashed(b"int%d" % value)
    try:
        return _digest(value)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"the input {_short(value)} cannot be known again when the run is resumed ({what}). "
            "Give key=, a function that names it, such as key=lambda input: input.name"
        ) from error


def digests(inputs: Iterable[Any], key: Callable[[Any], object] | None = None) -> bytes:
    """The digests of all, joined; with `key` of what it makes of them."""
    return b"".join(map(digest, inputs if key is None else map(key, inputs)))


def same(inputs: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether they are the same one by one; both are atomic. False where it is not certain."""
    types = list(map(type, inputs))
    if types != list(map(type, others)):
        return False
    if float in types or tuple in types:  # == takes -0.0 for 0.0, (1,) for (True,), no nan for nan
        return list(map(repr, inputs)) == list(map(repr, others))
    return list(inputs) == list(others)


def _digest(value: Any) -> bytes:
    file = io.BytesIO()
    _Stable(file).dump(value)
    return hashed(file.getbuffer())


def hashed(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=ID_BYTES).digest()


_STR = frozenset({str})
_first = itemgetter(0)


class _Stable(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 5)
        self.fast = True

    def persistent_id(self, obj: Any) -> Any:
        """What stands for an object whose pickle would not be the same each time."""
        kind = type(obj)
        if kind is dict:
            if _STR.issuperset(map(type, obj)):  # the pickler goes on with what is in it
                return "dict", sorted(obj.items(), key=_first)
            pairs = sorted(_digest(key) + _digest(value) for key, value in obj.items())
            return b"dict" + b"".join(pairs)
        if kind is set or kind is frozenset:
            return kind.__name__.encode() + b"".join(sorted(map(_digest, obj)))
        if kind is FunctionType:
            return f"{obj.__module__}:{obj.__qualname__} {code_form(obj.__code__)!r}".encode()
        if kind.__module__.startswith("pathlib"):  # Python versions pickle it differently
            return b"path" + str(obj).encode("utf-8", "surrogateescape")
        return None


def code_form(code: CodeType) -> tuple[Any, ...]:
    """What a function does, as its bytecode tells; without file names and lines."""
    consts = [code_form(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return code.co_name, code.co_code, tuple(consts), code.co_names, code.co_varnames


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LENGTH_MAX else text[: _LENGTH_MAX - 3] + "..."
