"""`Generic`, `Protocol`, `NamedTuple` and `TypeVar` for what is imported before the first task.

`typing` takes 2 ms to import, and a short run is mostly its start. Type checkers see typing's own;
at run time a generic class takes its parameters and forgets them, and nothing here is asked whether
an object satisfies a protocol.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Generic, NamedTuple, Protocol, TypeVar
else:
    from collections import namedtuple

    class Generic:
        __slots__ = ()

        def __class_getitem__(cls, _):
            return cls

    Protocol = Generic

    def TypeVar(name, **_):
        return name

    class _NamedTuple(type):
        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            names = tuple(body["__annotations__"])
            defaults = [body.pop(one) for one in names if one in body]
            made = namedtuple(name, names, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                if key not in ("__annotations__", "__module__", "__qualname__"):
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_NamedTuple):
        pass


__all__ = ["Generic", "NamedTuple", "Protocol", "TypeVar"]
