"""Exceptions as data: `failure_from` where a task ran, `rebuild` where its result is read.

    worker: exception ─ failure_from ─▶ Failure ─ travels ─▶ consumer: rebuild ─▶ exception

Neither ever raises. Between the two nothing is unpickled: only the consumer, who asked for
the user's type, runs the user's code that makes it.
"""

from __future__ import annotations

import os
import pickle
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any

from piecework import codec, errors
from piecework.task import Cause, Failure

MESSAGE_MAX = 10_000  # characters
TRACEBACK_MAX = 100_000  # characters
PICKLED_MAX = 1_000_000  # bytes
_ARGUMENT_MAX = 1_000  # characters of an argument that goes as its repr

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


class RemoteTraceback(Exception):
    """The `__cause__` of a rebuilt exception: shows the traceback of where it was raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def type_name(cls: type) -> str:
    """The class as users write it: `ValueError`, `json.decoder.JSONDecodeError`."""
    module = getattr(cls, "__module__", None)
    name = getattr(cls, "__qualname__", None)
    if not isinstance(name, str):
        return "exception"
    if not isinstance(module, str) or module == "builtins":
        return name
    if module == "piecework.errors":
        module = "piecework"
    return f"{module}.{name}"


def failure_from(exc: BaseException, *, cause: Cause = "exception") -> Failure:
    """Why a task failed, from what it raised. Never raises, whatever the exception does."""
    cls = type(exc)
    name = "exception"
    bases: tuple[str, ...] = ()
    message = where = text = ""
    pickled = b""
    try:
        name = type_name(cls)
        bases = tuple(type_name(base) for base in cls.__mro__[:-1])
        message = _cut(_message(exc), MESSAGE_MAX)
        start = _below_piecework(exc.__traceback__)
        where = _where(start)
        text = _cut(_traceback(exc, start, name, message), TRACEBACK_MAX)
        pickled = _pack(exc)
    except BaseException:
        # Out of memory or out of stack: what was found so far must do.
        pass
    return Failure(
        type=name,
        message=message,
        cause=cause,
        where=where,
        traceback=text,
        pickled=pickled,
        bases=bases,
    )


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except BaseException as error:
        return f"<its __str__ raised {type_name(type(error))}>"


def _cut(text: str, limit: int) -> str:
    """At most about `limit` characters, from both ends: the last lines say most."""
    if len(text) <= limit:
        return text
    head = limit // 3
    tail = limit - head
    return f"{text[:head]}\n[... {len(text) - limit} characters cut ...]\n{text[-tail:]}"


def _below_piecework(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's first frame on: how we called it explains nothing."""
    start = tb
    while start is not None and start.tb_frame.f_code.co_filename.startswith(_HERE):
        start = start.tb_next
    return start or tb


def _where(tb: TracebackType | None) -> str:
    """The innermost frame of the user's own code; of a library where there is none."""
    user = library = ""
    while tb is not None:
        code = tb.tb_frame.f_code
        file = code.co_filename
        if not file.startswith(_HERE):
            library = f"{file}:{tb.tb_lineno} in {code.co_name}"
            if not _of_a_library(file):
                user = library
        tb = tb.tb_next
    return user or library


def _of_a_library(file: str) -> bool:
    return (
        file.startswith((_LIBRARY, "<frozen "))
        or f"{os.sep}site-packages{os.sep}" in file
        or f"{os.sep}dist-packages{os.sep}" in file
    )


def _traceback(exc: BaseException, tb: TracebackType | None, name: str, message: str) -> str:
    try:
        from traceback import format_exception

        return "".join(format_exception(type(exc), exc, tb))
    except BaseException as error:
        reason = type_name(type(error))
        return f"{name}: {message}\n[its traceback could not be written: {reason}]\n"


# ---------------------------------------------------------------- what it is rebuilt from


def _pack(exc: BaseException) -> bytes:
    """The class, and apart from it what it was made of: either may fail to load alone."""
    cls = _bytes(type(exc))
    if cls is None:
        return b""
    if isinstance(exc, BaseExceptionGroup):
        children = [_pack(child) for child in exc.exceptions]
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
        return codec.dumps(obj, by_value_main=False)
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
    try:
        return _cut(value if isinstance(value, str) else repr(value), _ARGUMENT_MAX)
    except BaseException:
        return f"<{type_name(type(value))}>"


def _unpack(pickled: bytes, message: str) -> BaseException | None:
    """The exception with its own type, or None. Runs the user's code."""
    try:
        cls_data, made = pickle.loads(pickled)
        cls = codec.loads(cls_data)
    except BaseException:
        return None
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        return None
    for attempt in (_as_made, _as_bare):
        try:
            exc = attempt(cls, made, message)
        except BaseException:
            continue
        if isinstance(exc, cls):
            return exc
    return None


def _as_made(cls: type[BaseException], made: bytes | None, message: str) -> BaseException | None:
    kind, *parts = codec.loads(made)
    if kind == "call":
        return _as_reduced(cls, parts[0])
    if kind == "group":
        text, children, state = parts
        rebuilt = [_unpack(child, "") or errors.RemoteError("?") for child in children]
        exc: BaseException = cls.__new__(cls, text, rebuilt)
    else:
        args, state = parts
        exc = _bare(cls, args)
    exc.__dict__.update(state)
    return exc


def _as_reduced(cls: type[BaseException], reduced: Any) -> BaseException:
    make, args, *rest = reduced
    state = rest[0] if rest else None
    try:
        exc: BaseException = make(*args)
    except BaseException:
        # Its __init__ takes other arguments than it passed on to Exception: the usual case.
        exc = _bare(cls, args)
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


def _as_bare(cls: type[BaseException], made: bytes | None, message: str) -> BaseException:
    return _bare(cls, (message,))


# ---------------------------------------------------------------- on the consumer's side


def rebuild(
    failure: Failure,
    *,
    index: int | None = None,
    input: Any = ...,
    attempt: int | None = None,
    worker: str | None = None,
) -> BaseException:
    """The exception to raise for the consumer, with the remote traceback as its cause.

    Of the user's own type where that can be made here, else RemoteError. What is given of
    index, input, attempt and worker becomes a note on it. Never raises itself.
    """
    exc = _of_cause(failure)
    try:
        if failure.traceback:
            exc.__cause__ = RemoteTraceback(failure.traceback)
        note = _note(index, input, attempt, worker)
        if note:
            exc.add_note(note)
    except BaseException:  # a class may refuse attributes: it is raised without them
        pass
    return exc


def _of_cause(failure: Failure) -> BaseException:
    if failure.cause == "timeout":
        return errors.TaskTimeout(failure.message)
    if failure.lost:
        memory = failure.cause == "memory"
        return errors.WorkerLost(failure.message, failure.signal, failure.exitcode, memory)
    if failure.cause == "cancelled":
        return CancelledError(failure.message)
    exc = _unpack(failure.pickled, failure.message) if failure.pickled else None
    if failure.cause == "pickle" and not isinstance(exc, pickle.PicklingError):
        return errors.CannotPickle(str(failure))
    return exc if exc is not None else errors.RemoteError(str(failure))


def _note(index: int | None, input: Any, attempt: int | None, worker: str | None) -> str:
    said = []
    if index is not None:
        said.append(f"task {index}")
    if input is not ...:
        said.append(f"input {_short(input)}")
    if attempt is not None:
        said.append(f"attempt {attempt}")
    if worker:
        said.append(f"worker {worker}")
    return ", ".join(said)


def _short(value: Any) -> str:
    import reprlib

    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = 200
    try:
        return brief.repr(value)
    except BaseException:
        return f"<{type_name(type(value))}>"
