"""Sends by value what has no importable name: lambdas, closures, everything of `__main__`.

    pickled ─▶ _Light: functions (code, globals they use, closure)     needs nothing else
          └──▶ _full(): classes too, through cloudpickle               30 ms to import

Functions are ours, not cloudpickle's, for three reasons: they share the worker's `__main__`
(see `mainspace`), closures that share a variable go on sharing it, and a script whose tasks
are plain functions never waits for cloudpickle in either process.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import sys
import types
import weakref
from collections.abc import Callable

from piecework import arrival
from piecework.byvalue import ByValue, on_top

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    InBand = Callable[[pickle.PickleBuffer], Any]


def all_in_band() -> None:
    return None


def pickled(obj: Any, buffer_callback: Callable[[], InBand | None] = all_in_band) -> bytes:
    """The bytes, or whatever is raised on the way; `buffer_callback` begins a list of buffers."""
    try:
        return _dump_with(_Light, obj, buffer_callback())
    except Exception:
        # It needs cloudpickle, or cannot be sent: the full pickler will tell.
        pass
    return _dump_with(_full(), obj, buffer_callback())


def _dump_with(pickler: Callable[..., pickle.Pickler], obj: Any, in_band: InBand | None) -> bytes:
    with io.BytesIO() as file:
        pickler(file, 5, buffer_callback=in_band).dump(obj)
        return file.getvalue()


class _NeedsCloudpickle(Exception):
    pass


class _Light(pickle.Pickler):
    """C pickle that sends functions by value, and gives up at a class without a name."""

    def __init__(self, file: Any, protocol: int, buffer_callback: InBand | None) -> None:
        super().__init__(file, protocol, buffer_callback=buffer_callback)
        self.dispatch_table = copyreg.dispatch_table | _multiprocessing_reducers()
        self.by_value = ByValue()

    def reducer_override(self, obj: Any) -> Any:
        reduced = self.by_value.reduce(obj)
        if reduced is None:
            raise _NeedsCloudpickle
        return reduced


@functools.cache
def _full() -> type[pickle.Pickler]:
    import cloudpickle

    known = dict(cloudpickle.Pickler.dispatch_table) | _REDUCERS

    class Full(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
        """cloudpickle, with functions sent our way and classes known by our own names."""

        def __init__(self, file: Any, protocol: int, buffer_callback: InBand | None) -> None:
            self.dispatch_table = known | _multiprocessing_reducers()
            super().__init__(file, protocol, buffer_callback=buffer_callback)
            self.by_value = ByValue()

        def reducer_override(self, obj: Any) -> Any:
            reduced = self.by_value.reduce(obj)
            if reduced is not None:
                return reduced
            if isinstance(obj, type):
                return _with_our_names(obj, super().reducer_override(obj))
            return NotImplemented if type(obj) in self.dispatch_table else _unnamed(obj)

    return Full


def _with_our_names(obj: Any, reduced: Any) -> Any:
    """cloudpickle's reduction of a class, made to follow the rule of `mainspace`."""
    if not (isinstance(reduced, tuple) and len(reduced) == 6):
        return reduced
    make, args, state, _, _, fill = reduced
    try:
        known = arrival.class_id(obj)
    except TypeError:  # its metaclass makes it unhashable: a new class each time, then
        return reduced
    if isinstance(args[-2], str):  # cloudpickle's own name for it: tracked twice costs twice
        args = (*args[:-2], None, args[-1])
    top = on_top(obj)
    made = (known, make, args, obj.__name__, top)
    return arrival.make_class, made, (fill, state, top), None, None, arrival.fill_class


def _unnamed(obj: Any) -> Any:
    """The reduction of an object of `__main__` that would go by a name which is not there."""
    kind, name = type(obj), getattr(obj, "__name__", "")
    if kind.__module__ == "typing":
        if kind.__name__ == "NewType":
            return kind, (name, obj.__supertype__)
        if kind.__name__ == "TypeAliasType":
            return kind, (name, obj.__value__)
        if kind.__name__ in ("ParamSpec", "TypeVarTuple"):
            return kind, (name,)
    reduced = obj.__reduce_ex__(5)
    if isinstance(reduced, str):
        raise pickle.PicklingError(f"it goes by its name {reduced!r}, which is only in __main__")
    return reduced


def _reduce_cached_property(obj: Any) -> Any:
    # In Python 3.11 it holds a lock, so a class with one could not be sent at all.
    return arrival.make_cached_property, (obj.func, obj.attrname)


def _refuse_file(file: Any) -> Any:
    # cloudpickle would send a copy of what an open file holds: what is written to it is lost.
    raise TypeError(f"cannot pickle the open file {file.name!r}")


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    functools.cached_property: _reduce_cached_property,
    io.TextIOWrapper: _refuse_file,
    # functools.singledispatch has one, for a cache
    weakref.WeakKeyDictionary: lambda found: (weakref.WeakKeyDictionary, (dict(found),)),
    weakref.WeakValueDictionary: lambda found: (weakref.WeakValueDictionary, (dict(found),)),
}
_PLAIN = (types.MethodType, type(list.append), type(int.__add__), functools.partial)


def _multiprocessing_reducers() -> dict[type, Callable[[Any], Any]]:
    """How connections and sockets travel, where multiprocessing is in use anyway."""
    reduction = sys.modules.get("multiprocessing.reduction")
    if reduction is None:
        return {}
    found: dict[type, Callable[[Any], Any]] = reduction.ForkingPickler._extra_reducers
    return {kind: reduce for kind, reduce in found.items() if kind not in _PLAIN}
