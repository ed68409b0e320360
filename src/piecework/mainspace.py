"""The one `__main__` that everything sent by value shares in a worker, and who may change it.

A worker never runs the user's main module, but what comes from there expects one namespace:
an initializer sets a global that the tasks read. So all of it lives in the worker's own
`__main__`, under one rule for what arrives later: **a value takes the place of the one there
only if that one came by an earlier shipment, and the sender's has changed since.** What user
code set or filled itself is kept, and a helper redefined in a notebook arrives. Attributes of
classes follow the same rule; a class that was born in this process (or in the one it was
forked from) is never touched when it comes home.
"""

from __future__ import annotations

import functools
import sys
import types

from piecework.lean import pickle
from piecework.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAIN_NAMES = ("__main__", "__mp_main__")  # the second: in a child of multiprocessing


Origin = tuple[int, int]
"""Which object of the sender it is: a number that no other gets under this name, its address.
Asked only where the content cannot be compared."""


@record(frozen=True, slots=True)
class Placed:
    """What an earlier shipment has put somewhere, and how to tell the sender's has changed."""

    value: object
    origin: Origin
    content: tuple[int, int] | None


ABSENT = object()
CONTENT_FREE = (
    *(type(None), bool, int, float, complex, str, bytes),
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    *(property, staticmethod, classmethod, functools.cached_property),
)
_installed: dict[str, Placed] = {}


def adopt(*, fresh: bool) -> None:
    """Makes this process a worker: what its `__main__` holds now gives way to what arrives.

    `fresh` begins with an empty `__main__`, for a process that started from a module of ours.
    A forked worker keeps the parent's as it was at the fork. Call it before any user code.
    """
    if fresh:
        sys.modules["__main__"] = types.ModuleType("__main__")
    _installed.clear()
    for name, value in main_names().items():
        _installed[name] = Placed(value, (0, id(value)), None)


def install(name: str, value: object, origin: Origin) -> None:
    """Puts a value into `__main__`, unless the one there has more right to be there."""
    main = main_names()
    there = main.get(name, ABSENT)
    if there is None and name.startswith("__"):
        there = ABSENT  # as __doc__ is in a module that has none
    if is_due(there, _installed.get(name), value, origin):
        main[name] = value
        _installed[name] = Placed(value, origin, content_sum(value))


def is_due(there: object, placed: Placed | None, value: object, origin: Origin) -> bool:
    if there is ABSENT:
        return True
    if placed is None or there is not placed.value:
        return False  # user code has put it there
    if isinstance(value, CONTENT_FREE):
        return True
    content = content_sum(value)
    if content is None or placed.content is None:
        same = 0 if placed.origin[0] else 1  # of what was forked with us only the address is known
        return origin[same] != placed.origin[same]
    return content != placed.content


def content_sum(value: object) -> tuple[int, int] | None:
    """What two values of the same content share; None where that cannot be told, as of instances
    of classes of `__main__`: pickle only names these, and the name may mean another class now.

    Taken when a value arrives, before tasks fill it: a cache, or what an initializer opened.
    """
    if isinstance(value, CONTENT_FREE):
        return None
    total = _Sum()
    try:
        pickle.Pickler(total, 5, buffer_callback=total.add_buffer).dump(value)
    except Exception:
        return None
    return total.size, total.crc


class _Sum:
    """A file that keeps nothing of what is written to it, however large."""

    def __init__(self) -> None:
        self.size = self.crc = 0

    def write(self, data: Any) -> int:
        from zlib import crc32

        if b"\x8c\x08__main__" in data:
            raise pickle.PicklingError
        self.size += len(data)
        self.crc = crc32(data, self.crc)
        return len(data)

    def add_buffer(self, buffer: pickle.PickleBuffer) -> None:
        self.write(buffer.raw())


def main_names() -> dict[str, Any]:
    return sys.modules["__main__"].__dict__
