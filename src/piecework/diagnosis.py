"""Which part of a value cannot be sent, and what to do about it.

    explain ─▶ path_to_unpicklable ─▶ fn.__closure__['db'].lock: _thread.lock

The search goes down from the value: the first part that cannot be sent alone is where to look
next; where all parts can, the thing itself is to blame. It is bounded in time, for a value may
be large: then it names the place it got to.
"""

from __future__ import annotations

import functools
import itertools
import pickle
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from piecework import byvalue, shipping
from piecework.packing import type_name

SECONDS_MAX = 1.0
DEPTH_MAX = 30
_ATOMS = (int, float, str, bytes, bool, type(None))

Part = tuple[str, Any]  # how to write it after the path so far, and what is there


def explain(obj: Any, what: str | tuple[str, ...], error: BaseException) -> str:
    """The message of CannotPickle: the path, the reason, the way out. Never raises.

    A tuple as `what` names the parts of `obj`, a tuple too: the one to blame begins the path.
    """
    if isinstance(what, tuple):
        obj, what = next(
            (part for part in zip(obj, what, strict=True) if not _sendable(part[0])),
            (obj, "call"),
        )
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return f"{_REFUSED}: {what}: it is nested too deeply for pickle. {_FLATTEN}"
    try:
        path, culprit = _search(obj, what)
        kind = type_name(type(culprit))
        way_out = _way_out(kind)
    except KeyboardInterrupt:
        raise
    except BaseException:
        path, kind, way_out = what, type_name(type(obj)), _OPEN_INSIDE
    reason = _reason(error)
    why = f" ({reason})" if reason and reason != f"cannot pickle {kind!r} object" else ""
    return f"{_REFUSED}: {path}: {kind}{why}. {way_out}"


def path_to_unpicklable(obj: Any, name: str) -> str:
    """Where in `obj` the part is that cannot be sent: `fn.__closure__['db'].lock: _thread.lock`."""
    path, culprit = _search(obj, name)
    return f"{path}: {type_name(type(culprit))}"


def _search(obj: Any, path: str) -> tuple[str, Any]:
    end = time.monotonic() + SECONDS_MAX
    seen = {id(obj)}
    for _ in range(DEPTH_MAX):
        found = _first_refused(_parts(obj), seen, end)
        if found is None:
            break
        label, obj = found
        path += label
        seen.add(id(obj))
    return path, obj


def _first_refused(parts: Iterator[Part], seen: set[int], end: float) -> Part | None:
    """In blocks, for a list may have a million items and only the last of them be to blame."""
    while block := list(itertools.islice(parts, 64)):
        if time.monotonic() > end:
            return None
        block = [part for part in block if type(part[1]) not in _ATOMS and id(part[1]) not in seen]
        if len(block) > 4 and _sendable([part for _, part in block]):
            continue
        for part in block:
            if not _sendable(part[1]):
                return part
    return None


def _sendable(obj: Any) -> bool:
    try:
        shipping.pickled(obj)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return False
    return True


def _parts(obj: Any) -> Iterator[Part]:
    """What would be pickled of the object, in the order in which a reader would look."""
    for kinds, parts in _PARTS:
        if isinstance(obj, kinds):
            yield from parts(obj)
            return
    yield from _of_instance(obj)


def _of_function(func: types.FunctionType) -> Iterator[Part]:
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        if byvalue.filled(cell):
            yield f".__closure__[{name!r}]", cell.cell_contents
    for i, value in enumerate(func.__defaults__ or ()):
        yield f".__defaults__[{i}]", value
    for name, value in (func.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", value
    for name, value in byvalue.ByValue().globals_sent(func).items():
        yield f".__globals__[{name!r}]", value
    for name, value in func.__dict__.items():
        yield f".{name}", value
    for name, value in func.__annotations__.items():
        yield f".__annotations__[{name!r}]", value


def _of_method(method: types.MethodType) -> Iterator[Part]:
    yield ".__self__", method.__self__
    yield ".__func__", method.__func__


def _of_partial(partial: functools.partial[Any]) -> Iterator[Part]:
    yield ".func", partial.func
    for i, value in enumerate(partial.args):
        yield f".args[{i}]", value
    for name, value in partial.keywords.items():
        yield f".keywords[{name!r}]", value


def _of_wrapper(wrapper: Any) -> Iterator[Part]:
    yield ".__wrapped__", wrapper.__wrapped__


def _of_dict(found: dict[Any, Any]) -> Iterator[Part]:
    for key, value in found.items():
        yield f"[{_short(key)}]", value
    for key in found:
        yield f".key({_short(key)})", key
    if type(found) is not dict:
        yield from _of_instance(found)


def _of_sequence(found: list[Any] | tuple[Any, ...]) -> Iterator[Part]:
    names = getattr(found, "_fields", ())
    for i, value in enumerate(found):
        yield f".{names[i]}" if names else f"[{i}]", value
    if type(found) not in (list, tuple):
        yield from _of_instance(found)


def _of_set(found: set[Any] | frozenset[Any]) -> Iterator[Part]:
    for value in found:
        yield f".item({_short(value)})", value


def _of_class(cls: type) -> Iterator[Part]:
    for base in cls.__bases__:
        yield f".__bases__[{base.__name__!r}]", base
    for name, value in cls.__dict__.items():
        if isinstance(value, (staticmethod, classmethod)):
            yield f".{name}", value.__func__
        elif isinstance(value, property):
            yield f".{name}.fget", value.fget
        elif not isinstance(value, _DESCRIPTORS):
            yield f".{name}", value


def _of_instance(obj: Any) -> Iterator[Part]:
    """By what its `__reduce_ex__` gives away, for that is what is sent."""
    try:
        reduced: Any = obj.__reduce_ex__(5)
    except Exception:
        return
    if not isinstance(reduced, tuple):
        return
    args: Any = reduced[1]
    state: Any = reduced[2] if len(reduced) > 2 else None
    slots: Any = None
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        state, slots = state
    for attributes in (state, slots):
        if isinstance(attributes, dict):
            for name, value in attributes.items():
                yield f".{name}", value
        elif attributes is not None:
            yield ".__getstate__()", attributes
    if isinstance(obj, BaseException):
        for i, value in enumerate(obj.args):
            yield f".args[{i}]", value
    for i, value in enumerate(args or ()):
        if value is not type(obj):
            yield f".__reduce__()[1][{i}]", value
    yield ".__class__", type(obj)


_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_PARTS: tuple[tuple[Any, Callable[[Any], Iterator[Part]]], ...] = (
    (types.FunctionType, _of_function),
    (types.MethodType, _of_method),
    (functools.partial, _of_partial),
    (byvalue.CACHED, _of_wrapper),
    (type, _of_class),
    (dict, _of_dict),
    ((list, tuple), _of_sequence),
    ((set, frozenset), _of_set),
)


# ---------------------------------------------------------------- words


def _short(value: Any) -> str:
    import reprlib

    return reprlib.repr(value)


def _reason(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = ""
    text = text if len(text) <= 300 else text[:300] + "..."
    if isinstance(error, (TypeError, pickle.PicklingError)) and text:
        return text
    return f"{type_name(type(error))}: {text}" if text else type_name(type(error))


def _way_out(kind: str) -> str:
    return next(
        (words for start, words in _WAYS_OUT.items() if kind.startswith(start)), _OPEN_INSIDE
    )


_REFUSED = "cannot send to another process"
_OPEN_INSIDE = "Open it inside the task, and pass only what is needed to open it."
_FLATTEN = "Pass it in flat form, or raise the limit with sys.setrecursionlimit()."
_NO_LOCK = (
    "A lock guards one process only: make it where the tasks run (in the initializer, or in the "
    "function's module), or leave it out with __getstate__."
)
_WAYS_OUT = {
    "_thread.": _NO_LOCK,
    "threading.": _NO_LOCK,
    "multiprocessing.synchronize": "Give it to the workers when they start: initargs=(lock,).",
    "multiprocessing.queues": "Give it to the workers when they start: initargs=(queue,).",
    "_io.": "Open the file inside the task, and pass its path.",
    "generator": "Pass a list of its items, or the arguments that it is made from.",
    "coroutine": "Pass the coroutine function and its arguments, not the coroutine.",
    "async_generator": "Pass the function that makes it, and its arguments.",
    "module": "Import the module inside the function.",
    "frame": "Pass the values you need from it.",
    "traceback": "Pass its text: traceback.format_exception(error).",
    "weakref": "Pass the object itself.",
}
