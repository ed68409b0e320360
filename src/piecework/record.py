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
    methods = {"__eq__": _eq, "__repr__": _repr, "__reduce__": _reduce, "__hash__": None}
    if frozen:
        methods.update(__hash__=_hash, __setattr__=_refuse, __delattr__=_refuse)
    made = type(cls)(cls.__name__, cls.__bases__, {**methods, **body})
    made.__qualname__ = cls.__qualname__
    made.__init__ = _first_init(made, defaults, frozen)
    return made


def _first_init(cls, defaults, frozen):
    """Stands for `__init__` until the first instance is made: compiling it takes 0.2 ms, and a
    worker makes instances of few of the classes that it loads."""

    def __init__(self, *args, **kwargs):
        cls.__init__ = _init(cls, defaults, frozen)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _init(cls, defaults, frozen):
    names = cls.__slots__
    arguments = [f"{name}=_defaults[{name!r}]" if name in defaults else name for name in names]
    # A slot's own setter passes by the refusal of a frozen one, at a third of the time that
    # object.__setattr__ takes.
    setting = "    _set_{0}(self, {0})" if frozen else "    self.{0} = {0}"
    lines = [f"def __init__(self, {', '.join(arguments)}):", *map(setting.format, names)]
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    made = {"_defaults": defaults}
    made.update({f"_set_{name}": cls.__dict__[name].__set__ for name in names})
    # Compiled first: exec of a text makes the interpreter forget that it ends by Ctrl-C, and it
    # would leave with 1. What is in it are names of a class body of ours, nothing else.
    exec(compile("\n".join(lines), "<record>", "exec"), made)
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
