"""`record`: dataclasses with slots, without the import of `dataclasses`.

That import takes 20 ms (it loads `inspect`), which every worker process would pay before its
first task, and a start is all that a short run is made of. What type checkers see is `dataclass`.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

__all__ = ["record"]

TYPE_CHECKING = False  # as type checkers know it; importing `typing` takes 6 ms
if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen=False, slots=True):
        """A class with `__init__`, `__eq__`, `__repr__` and slots made from its annotations.

        `frozen` ones are hashable and refuse to be changed. Defaults must be immutable. What a
        class names in `HIDDEN` is left out of its repr.
        """
        assert slots
        return lambda cls: _made(cls, frozen)


def _made(cls, frozen):
    names = tuple(cls.__annotations__)
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    body = {
        name: value
        for name, value in cls.__dict__.items()
        if name not in defaults and name not in ("__dict__", "__weakref__")
    }
    body.update(__slots__=names, __match_args__=names)
    methods = {
        "__init__": _init(names, defaults, frozen, "__post_init__" in body),
        "__eq__": _eq,
        "__repr__": _repr,
    }
    methods["__reduce__"] = _reduce
    if frozen:
        methods.update(__hash__=_hash, __setattr__=_refuse, __delattr__=_refuse)
    else:
        methods["__hash__"] = None
    made = type(cls)(cls.__name__, cls.__bases__, {**methods, **body})
    made.__qualname__ = cls.__qualname__
    return made


def _init(names, defaults, frozen, post_init):
    arguments = [f"{name}=_defaults[{name!r}]" if name in defaults else name for name in names]
    setting = "    _set(self, {0!r}, {0})" if frozen else "    self.{0} = {0}"
    if post_init:
        setting_all = [*map(setting.format, names), "    self.__post_init__()"]
    else:
        setting_all = list(map(setting.format, names))
    lines = [f"def __init__(self, {', '.join(arguments)}):", *setting_all]
    made = {"_defaults": defaults, "_set": object.__setattr__}
    exec("\n".join(lines), made)  # names of a class body of ours, nothing else
    return made["__init__"]


def _values(self):
    return tuple(getattr(self, name) for name in self.__slots__)


def _eq(self, other):
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self):
    return hash(_values(self))


def _repr(self):
    shown = [name for name in self.__slots__ if name not in getattr(self, "HIDDEN", ())]
    parts = [f"{name}={getattr(self, name)!r}" for name in shown]
    return f"{self.__class__.__qualname__}({', '.join(parts)})"


def _reduce(self):
    return self.__class__, _values(self)


def _refuse(self, name, *_):
    raise AttributeError(f"{self.__class__.__name__}.{name} cannot be changed: make a new one")
