"""What is sent of a function that goes by value, and where its globals are at the other end.

The pickler asks `ByValue.reduce` about every object that is not plain data; the answers name
functions of `arrival`, which put it together again.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import marshal
import sys
import types
import weakref
from collections.abc import Callable, Iterable

from piecework import arrival
from piecework.mainspace import CONTENT_FREE, MAIN_NAMES, Origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CACHED = type(functools.lru_cache(lambda: None))
_GLOBAL_OPS = frozenset(
    ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
)
_SAVED_BY_NAME = (type(None), type(...), type(NotImplemented))  # C pickle knows these itself


class ByValue:
    """Reductions of one pickle: what it has seen decides what is shared at the other end."""

    def __init__(self) -> None:
        self.spaces: dict[int, dict[str, Any]] = {}
        self.cells: set[int] = set()
        self.streams = {id(getattr(sys, name)): name for name in ("stdin", "stdout", "stderr")}
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
        stream = self.streams.get(id(obj))
        if stream is not None:
            return getattr, (sys, stream)
        if isinstance(obj, type):
            return NotImplemented if obj in _SAVED_BY_NAME or _importable(obj) else None
        if kind.__module__ in MAIN_NAMES:
            self.kinds[kind] = _as_pickle_does  # a million instances ask once
        elif getattr(obj, "__module__", "") in MAIN_NAMES:
            return None  # a TypeVar and its like: pickled by a name that is not there
        return NotImplemented

    def function(self, func: types.FunctionType) -> Any:
        if _importable(func):
            return NotImplemented
        code = func.__code__
        names = names_used(code)
        used = {name: func.__globals__[name] for name in names if name in func.__globals__}
        space = self.space(func.__globals__, names, used)
        if space is True:
            used.pop("__name__", None)  # here it may be `__mp_main__`, there it never is
        closure = func.__closure__ or ()
        self.cells.update(map(id, closure))
        values = (*used.values(), *(_content(cell) for cell in closure))
        state = (
            _attributes(func, space is True),
            {} if isinstance(space, str) else used,
            tuple(_origin(*each) for each in used.items()) if space is True else (),
            {i: cell.cell_contents for i, cell in enumerate(closure) if filled(cell)},
            func.__dict__,
            on_top(func),
            _submodules(code, values),
        )
        made = (_marshalled(code), arrival.VERSION, space, func.__name__, func.__closure__)
        return arrival.make_function, made, state, None, None, arrival.fill_function

    def space(
        self, space: dict[str, Any], names: Iterable[str], used: dict[str, Any]
    ) -> bool | str | dict[str, Any]:
        """Where its globals are at the other end: in `__main__`, in its module, in a new dict.

        A function that uses nothing of its module but modules and builtins does without it:
        importing a module of tests in every worker costs more than the task.
        """
        name = space.get("__name__")
        if name in MAIN_NAMES:  # by name, for a child of multiprocessing keeps two dicts of it
            return True
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is not None and module.__dict__ is space and module.__spec__ is not None:
            missing = any(each not in used and not hasattr(builtins, each) for each in names)
            if missing or not all(type(each) is types.ModuleType for each in used.values()):
                return module.__name__
        return self.spaces.setdefault(
            id(space),
            {key: space[key] for key in ("__name__", "__package__", "__file__") if key in space},
        )

    def globals_sent(self, func: types.FunctionType) -> dict[str, Any]:
        """The globals that travel with it: none where they are found in its module."""
        names = names_used(func.__code__)
        used = {name: func.__globals__[name] for name in names if name in func.__globals__}
        return {} if isinstance(self.space(func.__globals__, names, used), str) else used

    def cell(self, cell: types.CellType) -> Any:
        if id(cell) in self.cells or not filled(cell):
            return arrival.make_cell, ()  # its function fills it, once it is known itself
        return arrival.make_cell, (), cell.cell_contents, None, None, arrival.fill_cell

    def module(self, module: types.ModuleType) -> Any:
        if sys.modules.get(module.__name__) is not module:
            return None
        return arrival.import_module, (module.__name__,)

    def cached(self, func: Any) -> Any:
        if _importable(func):
            return NotImplemented
        options = func.cache_parameters()
        origin = _origin(func.__qualname__, func) if on_top(func) else None
        made = (func.__wrapped__, options["maxsize"], options["typed"], origin)
        return arrival.make_cached, made


def _as_pickle_does(obj: Any) -> Any:
    return NotImplemented


# ---------------------------------------------------------------- what an object says of itself


def _importable(obj: Any) -> bool:
    """Whether the other process finds the same object under its name."""
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if module in MAIN_NAMES or not isinstance(module, str) or not isinstance(name, str):
        return False
    return _found(sys.modules.get(module), name) is obj


def on_top(obj: Any) -> int:
    """Its address where `__main__` has it under its own name, as the other `__main__` then will."""
    if obj.__module__ not in MAIN_NAMES:
        return 0
    return id(obj) if sys.modules["__main__"].__dict__.get(obj.__qualname__) is obj else 0


_sent: dict[str, tuple[Any, int]] = {}
_numbers = itertools.count(1)


def _origin(name: str, value: Any) -> Origin:
    """Tells the other end whether a global is still the object that it was at the last sending.

    An address alone would not: it is soon used again. So the object is remembered, without
    keeping it alive where possible, and never one that is large.
    """
    if isinstance(value, CONTENT_FREE):
        return 0, 0
    kept, number = _sent.get(name, (None, 0))
    if (kept() if isinstance(kept, weakref.ref) else kept) is not value:
        number = next(_numbers)
        try:
            kept = weakref.ref(value)
        except TypeError:
            kept = value if sys.getsizeof(value) < 1_000_000 else None
        _sent[name] = kept, number
    return number, id(value)


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
    found: dict[str, None] = {}
    if code.co_names:
        import dis  # 2 ms, which a function without names is spared

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
