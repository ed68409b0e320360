"""Sends by value what has no importable name: lambdas, closures, everything of `__main__`.

    dumps ─▶ _Light: functions (code, globals they use, closure)     needs nothing else
        └──▶ _full(): classes too, through cloudpickle               30 ms to import
        └──▶ CannotPickle, with the path that `diagnosis` finds

Functions are ours, not cloudpickle's, for three reasons: they share the worker's `__main__`
(see `mainspace`), closures that share a variable go on sharing it, and a script whose tasks
are plain functions never waits for cloudpickle in either process.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import functools
import io
import marshal
import pickle
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from piecework import mainspace
from piecework.errors import CannotPickle
from piecework.mainspace import MAIN_NAMES

InBand = Callable[[pickle.PickleBuffer], Any]
_GLOBAL_OPS = frozenset(
    ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
)
CACHED = type(functools.lru_cache(lambda: None))
_SAVED_BY_NAME = (type(None), type(...), type(NotImplemented))  # C pickle knows these itself


def dumps(obj: Any, what: str, buffer_callback: Callable[[], InBand | None]) -> bytes:
    """The bytes, or CannotPickle; `buffer_callback` begins a new list of buffers."""
    try:
        return _dumps(obj, buffer_callback)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        from piecework.diagnosis import explain

        raise CannotPickle(explain(obj, what, error)) from error


def sendable(obj: Any) -> bool:
    """Whether `dumps` would succeed."""
    try:
        _dumps(obj, lambda: None)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return False
    return True


def _dumps(obj: Any, buffer_callback: Callable[[], InBand | None]) -> bytes:
    if "cloudpickle" not in sys.modules:
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
        self.by_value = _ByValue()

    def reducer_override(self, obj: Any) -> Any:
        reduced = self.by_value.reduce(obj)
        if reduced is None:
            raise _NeedsCloudpickle
        return reduced


@functools.cache
def _full() -> type[pickle.Pickler]:
    import cloudpickle

    class Full(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
        """cloudpickle, with functions sent our way and classes known by our own names."""

        def __init__(self, file: Any, protocol: int, buffer_callback: InBand | None) -> None:
            self.dispatch_table = (
                dict(cloudpickle.Pickler.dispatch_table)
                | _multiprocessing_reducers()
                | {
                    functools.cached_property: _reduce_cached_property,
                    io.TextIOWrapper: _reduce_file,
                }
            )
            super().__init__(file, protocol, buffer_callback=buffer_callback)
            self.by_value = _ByValue()

        def reducer_override(self, obj: Any) -> Any:
            reduced = self.by_value.reduce(obj)
            if reduced is not None:
                return reduced
            return _with_our_names(obj, super().reducer_override(obj))

    return Full


def _with_our_names(obj: Any, reduced: Any) -> Any:
    """cloudpickle's reduction of a class, made to follow the rules of `mainspace`."""
    if not (isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) == 6):
        return reduced
    make, args, state, _, _, fill = reduced
    try:
        known = mainspace.class_id(obj)
    except TypeError:  # its metaclass makes it unhashable: a new class each time, then
        return reduced
    if isinstance(args[-2], str):  # cloudpickle's own name for it: tracked twice costs twice
        args = (*args[:-2], None, args[-1])
    made = (known, make, args)
    return mainspace.make_class, made, (fill, state, _on_top(obj)), None, None, mainspace.fill_class


class _ByValue:
    """Reductions of one pickle: what it has seen decides what is shared at the other end."""

    def __init__(self) -> None:
        self.spaces: dict[int, dict[str, Any]] = {}
        self.cells: set[int] = set()
        self.kinds: dict[type, Callable[[Any], Any]] = {
            types.FunctionType: self.function,
            types.ModuleType: self.module,
            types.CellType: self.cell,
            CACHED: self.cached,
        }

    def reduce(self, obj: Any) -> Any:
        """NotImplemented: C pickle does it. None: it is for cloudpickle."""
        kind = type(obj)
        special = self.kinds.get(kind)
        if special is not None:
            return special(obj)
        if isinstance(obj, type):
            return NotImplemented if obj in _SAVED_BY_NAME or _importable(obj) else None
        if kind.__module__ not in MAIN_NAMES and getattr(obj, "__module__", "") in MAIN_NAMES:
            return None  # a TypeVar and its like: pickled by a name that is not there
        return NotImplemented

    def function(self, func: types.FunctionType) -> Any:
        if _importable(func):
            return NotImplemented
        code = func.__code__
        names = names_used(code)
        used = {name: func.__globals__[name] for name in names if name in func.__globals__}
        space = self.space(func.__globals__, names, used)
        closure = func.__closure__ or ()
        self.cells.update(map(id, closure))
        values = (*used.values(), *(_content(cell) for cell in closure))
        state = (
            _attributes(func, space is True),
            {} if isinstance(space, str) else used,
            {i: cell.cell_contents for i, cell in enumerate(closure) if filled(cell)},
            func.__dict__,
            _on_top(func),
            _submodules(code, values),
        )
        made = (_marshalled(code), mainspace.VERSION, space, func.__name__, func.__closure__)
        return mainspace.make_function, made, state, None, None, mainspace.fill_function

    def space(
        self, space: dict[str, Any], names: Iterable[str], used: dict[str, Any]
    ) -> bool | str | dict[str, Any]:
        """Where its globals are at the other end: in `__main__`, in its module, in a new dict.

        A function that uses nothing of its module but modules and builtins does without it:
        importing a module of tests in every worker costs more than the task.
        """
        for main in MAIN_NAMES:
            module = sys.modules.get(main)
            if module is not None and module.__dict__ is space:
                return True
        name = space.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is not None and module.__dict__ is space and module.__spec__ is not None:
            missing = any(each not in used and not hasattr(builtins, each) for each in names)
            if missing or not all(type(each) is types.ModuleType for each in used.values()):
                return module.__name__
        return self.spaces.setdefault(
            id(space),
            {key: space[key] for key in ("__name__", "__package__", "__file__") if key in space},
        )

    def cell(self, cell: types.CellType) -> Any:
        if id(cell) in self.cells or not filled(cell):
            return mainspace.make_cell, ()  # its function fills it, once it is known itself
        return mainspace.make_cell, (), cell.cell_contents, None, None, mainspace.fill_cell

    def module(self, module: types.ModuleType) -> Any:
        if sys.modules.get(module.__name__) is not module:
            return None
        return mainspace.import_module, (module.__name__,)

    def cached(self, func: Any) -> Any:
        if _importable(func):
            return NotImplemented
        options = func.cache_parameters()
        made = (func.__wrapped__, options["maxsize"], options["typed"], _on_top(func))
        return mainspace.make_cached, made


# ---------------------------------------------------------------- what an object says of itself


def _importable(obj: Any) -> bool:
    """Whether the other process finds the same object under its name."""
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if module in MAIN_NAMES or not isinstance(module, str) or not isinstance(name, str):
        return False
    return _found(sys.modules.get(module), name) is obj


def _on_top(obj: Any) -> bool:
    """Whether `__main__` has it under its own name: then the other `__main__` will, too."""
    if obj.__module__ not in MAIN_NAMES:
        return False
    return sys.modules["__main__"].__dict__.get(obj.__qualname__) is obj


def _found(space: Any, name: str) -> Any:
    try:
        for part in name.split("."):
            space = getattr(space, part)
    except Exception:  # of a module's own __getattr__
        return None
    return space


def _attributes(func: types.FunctionType, in_main: bool) -> dict[str, Any]:
    found = {
        "__qualname__": func.__qualname__,
        "__module__": "__main__" if in_main else func.__module__,
    }
    for name in ("__doc__", "__defaults__", "__kwdefaults__", "__annotations__", "__type_params__"):
        value = getattr(func, name, None)
        if value:
            found[name] = value
    return found


def _marshalled(code: types.CodeType) -> bytes | types.CodeType:
    try:
        return marshal.dumps(code)
    except ValueError:  # a tool has put a constant of its own into it
        return code


def filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # reading it is the test
    except ValueError:
        return False
    return True


def _content(cell: types.CellType) -> Any:
    return cell.cell_contents if filled(cell) else None


@functools.lru_cache(maxsize=512)
def names_used(code: types.CodeType) -> tuple[str, ...]:
    """Every global name that the code or a function inside it reads or writes, once each."""
    found = {
        instruction.argval: None
        for instruction in dis.get_instructions(code)
        if instruction.opname in _GLOBAL_OPS
    }
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= dict.fromkeys(names_used(const))
    return tuple(found)


@functools.lru_cache(maxsize=512)
def _attributes_used(code: types.CodeType) -> frozenset[str]:
    inner = (_attributes_used(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return frozenset(code.co_names).union(*inner)


def _submodules(code: types.CodeType, values: Iterable[Any]) -> list[types.ModuleType]:
    """Modules that `concurrent.futures.wait` in the code needs, where it names `concurrent`."""
    packages = [
        value.__name__ + "."
        for value in values
        if type(value) is types.ModuleType and hasattr(value, "__path__")
    ]
    if not packages:
        return []
    used = _attributes_used(code)
    return [
        module
        for name, module in sys.modules.copy().items()
        for package in packages
        if name.startswith(package) and used.issuperset(name[len(package) :].split("."))
        if type(module) is types.ModuleType
    ]


def _reduce_cached_property(obj: Any) -> Any:
    # In Python 3.11 it holds a lock, so a class with one could not be sent at all.
    return mainspace.make_cached_property, (obj.func, obj.attrname)


def _reduce_file(file: Any) -> Any:
    # cloudpickle would send a copy of what an open file holds: what is written to it is lost.
    for name in ("stdin", "stdout", "stderr"):
        if file is getattr(sys, name) or file is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle the open file {file.name!r}")


_PLAIN = (types.MethodType, type(list.append), type(int.__add__), functools.partial)


def _multiprocessing_reducers() -> dict[type, Callable[[Any], Any]]:
    """How connections and sockets travel, where multiprocessing is in use anyway."""
    reduction = sys.modules.get("multiprocessing.reduction")
    if reduction is None:
        return {}
    found: dict[type, Callable[[Any], Any]] = reduction.ForkingPickler._extra_reducers
    return {kind: reduce for kind, reduce in found.items() if kind not in _PLAIN}
