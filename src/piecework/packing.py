"""What an exception is rebuilt from: its class, and apart from it what it was made of.

    pack: (class as bytes, how it was made as bytes) ──▶ unpack: as it was made, else bare

An exception often cannot be unpickled as it is: its `__init__` takes other arguments than it
passed on, an argument holds a lock, a part fails to load. Sent in two pieces, its type survives
all of that, and `except TheirError` goes on working for the consumer.
"""

from __future__ import annotations

from piecework.lean import pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PICKLED_MAX = 1_000_000  # bytes
_ARGUMENT_MAX = 1_000  # characters of an argument that goes as its text


def type_name(cls: type) -> str:
    """The class as users write it: `ValueError`, `json.decoder.JSONDecodeError`."""
    module = getattr(cls, "__module__", None)
    name = getattr(cls, "__qualname__", None)
    if not isinstance(name, str):
        return "exception"
    if not isinstance(module, str) or module == "builtins":
        return name
    if module in ("piecework.errors", "piecework.losses"):
        module = "piecework"
    return f"{module}.{name}"


def cut(text: str, limit: int) -> str:
    """At most about `limit` characters, from both ends: the last lines say most."""
    if len(text) <= limit:
        return text
    head = limit // 3
    tail = limit - head
    return f"{text[:head]}\n[... {len(text) - limit} characters cut ...]\n{text[-tail:]}"


def pack(exc: BaseException) -> bytes:
    """The class, and apart from it what it was made of: either may fail to load alone."""
    cls = _bytes(type(exc))
    if cls is None:
        return b""
    if isinstance(exc, BaseExceptionGroup):
        children = [(pack(child), _text(child)) for child in exc.exceptions]
        made = _bytes(("group", exc.message, children, _state(exc)))
        return pickle.dumps((cls, made), 5)
    made = None
    try:
        made = _bytes(("call", exc.__reduce_ex__(5)))
    except BaseException:
        pass
    if made is None or len(made) > PICKLED_MAX:
        made = _bytes(("new", tuple(_portable(arg) for arg in exc.args), _state(exc)))
    return pickle.dumps((cls, made), 5)


def _bytes(obj: Any) -> bytes | None:
    try:
        return pickle.dumps(obj, 5)
    except BaseException:
        pass
    try:
        from piecework import shipping

        return shipping.pickled(obj)
    except BaseException:
        return None


def _state(exc: BaseException) -> dict[str, Any]:
    found: object = getattr(exc, "__dict__", None)
    if not isinstance(found, dict):
        return {}
    return {str(name): _portable(value) for name, value in found.items()}


def _portable(value: Any) -> Any:
    """The value where it can travel, else its text."""
    data = _bytes(value)
    if data is not None and len(data) <= PICKLED_MAX:
        return value
    return _text(value)


def _text(value: Any) -> str:
    try:
        return cut(value if isinstance(value, str) else repr(value), _ARGUMENT_MAX)
    except BaseException:
        return f"<{type_name(type(value))}>"


def unpack(pickled: bytes, message: str) -> BaseException | None:
    """The exception with its own type, or None. Runs the user's code."""
    try:
        cls_data, made = pickle.loads(pickled)
        cls = pickle.loads(cls_data)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        return None
    for attempt in (_as_made, _as_bare):
        try:
            exc = attempt(cls, made, message)
        except KeyboardInterrupt:
            raise
        except BaseException:
            continue
        if isinstance(exc, cls):
            return exc
    return None


def _as_made(cls: type[BaseException], made: bytes, message: str) -> BaseException:
    kind, *parts = pickle.loads(made)
    if kind == "call":
        return _as_reduced(cls, parts[0], message)
    if kind == "group":
        text, children, state = parts
        rebuilt = [_child(*child) for child in children]
        exc: BaseException = cls.__new__(cls, text, rebuilt)
    else:
        args, state = parts
        exc = _bare(cls, args)
    exc.__dict__.update(state)
    return exc


def _child(pickled: bytes, brief: str) -> BaseException:
    exc = unpack(pickled, brief) if pickled else None
    if exc is None:
        from piecework.errors import RemoteError

        return RemoteError(brief)
    return exc


def _as_reduced(cls: type[BaseException], reduced: Any, message: str) -> BaseException:
    make, args, *rest = reduced
    state = rest[0] if rest else None
    try:
        exc: BaseException = make(*args)
    except BaseException:
        # Its __init__ takes other arguments than it passed on to Exception: the usual case.
        exc = _bare(cls, args if make is cls else (message,))
    if state is not None:
        setstate = getattr(exc, "__setstate__", None)
        setstate(state) if setstate else exc.__dict__.update(state)
    return exc


def _bare(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    try:
        exc = cls.__new__(cls, *args)
    except BaseException:
        exc = cls.__new__(cls)
    exc.args = args
    return exc


def _as_bare(cls: type[BaseException], made: bytes, message: str) -> BaseException:
    return _bare(cls, (message,))
