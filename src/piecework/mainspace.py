"""Where functions and classes that were sent by value arrive, and the `__main__` they share.

A worker never runs the user's main module, but what comes from there expects one namespace:
an initializer sets a global that the tasks read. So all of it lives in the worker's own
`__main__`, under one rule for what arrives later: **a value takes the place of the one there
only if that one is absent or still what an earlier shipment put there.** What user code set
itself is kept, and a helper redefined in a notebook arrives. Attributes of classes follow the
same rule; a class that was born in this process is never touched when it comes home.

The pickles that `shipping` writes name the functions below: renaming one breaks workers of
another version.
"""

from __future__ import annotations

import functools
import importlib
import marshal
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

from piecework.errors import UsageError

MAIN_NAMES = ("__main__", "__mp_main__")  # the second: in a child of multiprocessing
VERSION = sys.version_info[:2]  # code that was marshalled by another one does not run

_ABSENT = object()
_lock = threading.Lock()
_installed: dict[str, object] = {}
_class_ids: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
_classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_arrived: weakref.WeakKeyDictionary[type, dict[str, object]] = weakref.WeakKeyDictionary()


def adopt(*, fresh: bool) -> None:
    """Makes this process a worker: what its `__main__` holds now gives way to what arrives.

    `fresh` begins with an empty `__main__`, for a process that started from a module of ours.
    A forked worker keeps the parent's as it was at the fork. Call it before any user code.
    """
    if fresh:
        sys.modules["__main__"] = types.ModuleType("__main__")
    _installed.clear()
    _installed.update(_main())


def install(name: str, value: object) -> None:
    """Puts a value into `__main__`, unless user code has put its own there."""
    main = _main()
    there = main.get(name, _ABSENT)
    unset = there is _ABSENT or (there is None and name.startswith("__"))  # as __doc__ is at first
    if unset or there is _installed.get(name, _ABSENT):
        main[name] = _installed[name] = value


def _main() -> dict[str, Any]:
    return sys.modules["__main__"].__dict__


# ---------------------------------------------------------------- functions


def make_function(
    code: bytes | types.CodeType,
    version: tuple[int, int],
    space: bool | str | dict[str, Any],
    name: str,
    cells: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    """The bare function; `space` is True for `__main__`, a module's name, or its globals."""
    if version != VERSION:
        theirs, ours = (".".join(map(str, each)) for each in (version, VERSION))
        raise UsageError(
            f"function {name!r} was sent by value from Python {theirs} and cannot run on {ours}. "
            "Use one version on both sides, or put the function into a module that both import."
        )
    if space is True:
        names = _main()
    elif isinstance(space, str):
        names = importlib.import_module(space).__dict__
    else:
        assert isinstance(space, dict)
        names = space
        names.setdefault("__builtins__", __builtins__)
    body = marshal.loads(code) if isinstance(code, bytes) else code
    return types.FunctionType(body, names, name, None, cells)


def fill_function(func: types.FunctionType, state: tuple[Any, ...]) -> types.FunctionType:
    """Gives the function what may refer back to it: globals, closure, defaults."""
    attributes, names, cells, own, top, _submodules = state
    for name, value in attributes.items():
        setattr(func, name, value)
    func.__dict__.update(own)
    if func.__closure__ is not None:
        for position, value in cells.items():
            func.__closure__[position].cell_contents = value
    if func.__globals__ is _main():
        for name, value in names.items():
            install(name, value)
        if top:
            install(func.__qualname__, func)
    else:
        func.__globals__.update(names)
    return func


def make_cell() -> types.CellType:
    return types.CellType()


def fill_cell(cell: types.CellType, value: Any) -> types.CellType:
    cell.cell_contents = value
    return cell


def make_cached(func: Callable[..., Any], maxsize: int | None, typed: bool, top: bool) -> Any:
    """A function under `functools.lru_cache`, with an empty cache of this process."""
    cached = functools.lru_cache(maxsize=maxsize, typed=typed)(func)
    if top:
        install(cached.__qualname__, cached)
    return cached


def make_cached_property(func: Callable[..., Any], name: str | None) -> Any:
    cached = functools.cached_property(func)
    if name is not None:
        cached.__set_name__(object, name)
    return cached


def import_module(name: str) -> types.ModuleType:
    return importlib.import_module(name)


# ---------------------------------------------------------------- classes


def class_id(cls: type) -> str:
    """The name by which the class is known in every process it was sent to."""
    with _lock:
        known = _class_ids.get(cls)
        if known is None:
            known = os.urandom(12).hex()
            _class_ids[cls] = known
            _classes[known] = cls
        return known


def make_class(known: str, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    """The class of that name: the one that is here already, else a new and empty one."""
    found = _classes.get(known)
    if found is not None:
        return found
    made = make(*args)
    with _lock:
        cls = _classes.setdefault(known, made)
        if cls is made:
            _class_ids[cls] = known
            _arrived[cls] = {}
        return cls


def fill_class(cls: type, state: tuple[Any, ...]) -> type:
    """Gives an arrived class its attributes; one that was born here keeps its own."""
    fill, (attributes, *rest), top = state
    record = _arrived.get(cls)
    if record is None:
        return cls
    new = {
        name: value
        for name, value in attributes.items()
        if not record or cls.__dict__.get(name, _ABSENT) is record.get(name, _ABSENT)
    }
    fill(cls, (new, *rest))
    for name in new:
        record[name] = cls.__dict__.get(name, _ABSENT)
    if top:
        install(cls.__qualname__, cls)
    return cls
