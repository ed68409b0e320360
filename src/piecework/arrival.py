"""Where functions and classes that were sent by value are put together again.

The pickles that `shipping` writes name the functions below: renaming one breaks workers of
another version. Everything of `__main__` follows the rule of `mainspace`.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import marshal
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable

from piecework.mainspace import ABSENT, Origin, Placed, content_sum, install, is_due, main_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = sys.version_info[:2]  # code that was marshalled by another one does not run

_lock = threading.Lock()
_class_ids: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
_classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_arrived: weakref.WeakKeyDictionary[type, dict[str, Placed]] = weakref.WeakKeyDictionary()


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
        from piecework.errors import UsageError

        raise UsageError(
            f"function {name!r} was sent by value from Python {theirs} and cannot run on {ours}. "
            "Use one version on both sides, or put the function into a module that both import."
        )
    if space is True:
        names = main_names()
    elif isinstance(space, str):
        names = importlib.import_module(space).__dict__
    else:
        assert isinstance(space, dict)
        names = space
    names.setdefault("__builtins__", builtins)  # C code that imports looks there
    body = marshal.loads(code) if isinstance(code, bytes) else code
    return types.FunctionType(body, names, name, None, cells)


def fill_function(func: types.FunctionType, state: tuple[Any, ...]) -> types.FunctionType:
    """Gives the function what may refer back to it: globals, closure, defaults."""
    attributes, names, origins, cells, own, top, _submodules = state
    for name, value in attributes.items():
        setattr(func, name, value)
    func.__dict__.update(own)
    if func.__closure__ is not None:
        for position, value in cells.items():
            func.__closure__[position].cell_contents = value
    if func.__globals__ is main_names():
        if top:
            install(func.__qualname__, func, (0, 0))
        for (name, value), origin in zip(names.items(), origins, strict=True):
            install(name, value, origin)
    else:
        func.__globals__.update(names)
    return func


def make_cell() -> types.CellType:
    return types.CellType()


def fill_cell(cell: types.CellType, value: Any) -> types.CellType:
    cell.cell_contents = value
    return cell


def make_cached(
    func: Callable[..., Any], maxsize: int | None, typed: bool, top: Origin | None
) -> Any:
    """A function under `functools.lru_cache`, with an empty cache of this process."""
    cached = functools.lru_cache(maxsize=maxsize, typed=typed)(func)
    if top is not None:
        install(cached.__qualname__, cached, top)
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


def make_class(
    known: str, make: Callable[..., type], args: tuple[Any, ...], name: str, top: int
) -> type:
    """The class of that name: the one that is here already, else a new and empty one."""
    found = _classes.get(known) or _forked_with(name, top)
    if found is not None:
        return found
    made = make(*args)
    with _lock:
        cls = _classes.setdefault(known, made)
        if cls is made:
            _class_ids[cls] = known
            _arrived[cls] = {}
        return cls


def _forked_with(name: str, top: int) -> type | None:
    """The class as this process was forked with it: at the address where the sender has it."""
    found = main_names().get(name)
    if isinstance(found, type) and id(found) == top and found not in _arrived:
        return found
    return None


def fill_class(cls: type, state: tuple[Any, ...]) -> type:
    """Gives an arrived class its attributes; one that was born here keeps its own."""
    fill, (attributes, *rest), top = state
    record = _arrived.get(cls)
    if record is None:
        return cls
    new = {
        name: value
        for name, value in attributes.items()
        if not record or is_due(cls.__dict__.get(name, ABSENT), record.get(name), value, (1, 0))
    }
    fill(cls, (new, *rest))
    if top:
        install(cls.__qualname__, cls, (0, top))
    for name, value in new.items():
        record[name] = Placed(cls.__dict__.get(name, ABSENT), (2, 0), content_sum(value))
    return cls
