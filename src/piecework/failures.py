"""Exceptions as data: `failure_from` where a task ran, `rebuild` where its result is read.

    worker: exception ─ failure_from ─▶ Failure ─ travels ─▶ consumer: rebuild ─▶ exception

Neither ever raises. Between the two nothing is unpickled: only the consumer, who asked for
the user's type, runs the user's code that makes it.
"""

from __future__ import annotations

import os

from piecework.lean import pickle
from piecework.packing import cut, pack, type_name, unpack
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from piecework.task import Cause

MESSAGE_MAX = 10_000  # characters
TRACEBACK_MAX = 100_000  # characters
NOTE_LINES = 5  # of the output, on an exception; the Failure has more
NOTE_LINE_MAX = 200

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


class RemoteTraceback(Exception):
    """The `__cause__` of a rebuilt exception: shows the traceback of where it was raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = self.tb = text  # `tb` is what multiprocessing calls it

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


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
        message = cut(_message(exc), MESSAGE_MAX)
        start = _below_piecework(exc.__traceback__)
        where = _where(start)
        text = cut(_traceback(exc, start, name, message), TRACEBACK_MAX)
        pickled = pack(exc)
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


def with_output(failure: Failure, output: str) -> Failure:
    """The same failure with what its task printed last."""
    if not output:
        return failure
    fields = {name: getattr(failure, name) for name in Failure.__slots__}
    return Failure(**{**fields, "output": output})


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except BaseException as error:
        return f"<its __str__ raised {type_name(type(error))}>"


def _below_piecework(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's first frame on: how we called it explains nothing."""
    start = tb
    while start is not None and start.tb_frame.f_code.co_filename.startswith(_HERE):
        start = start.tb_next
    return start or tb


def _where(tb: TracebackType | None) -> str:
    """The innermost frame of the user's own code; of a library where there is none."""
    user = library = None
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if not file.startswith(_HERE):
            library = tb
            if not _of_a_library(file):
                user = tb
        tb = tb.tb_next
    found = user or library
    if found is None:
        return ""
    code = found.tb_frame.f_code
    return f"{code.co_filename}:{found.tb_lineno} in {code.co_name}"


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
    index, input, attempt and worker becomes a note on it, and what the task printed last another
    one. Raises nothing but an interrupt.
    """
    exc = _of_cause(failure)
    try:
        if failure.traceback:
            exc.__cause__ = RemoteTraceback(failure.traceback)
        note = _note(index, input, attempt, worker)
        if note:
            exc.add_note(note)
        if failure.output and failure.result is None:  # of a command it is in the message
            exc.add_note(_printed(failure.output))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a class may refuse attributes: it is raised without them
        pass
    return exc


def _of_cause(failure: Failure) -> BaseException:
    from concurrent.futures import CancelledError

    from piecework import errors, losses  # not for workers: 12 ms to import

    if failure.cause == "timeout":
        return errors.TaskTimeout(failure.message)
    if failure.type == "piecework.CommandFailed":
        return errors.CommandFailed(failure.message, failure.result)
    if failure.lost:
        memory = failure.cause == "memory"
        return losses.WorkerLost(failure.message, failure.signal, failure.exitcode, memory)
    if failure.cause == "cancelled":
        return CancelledError(failure.message)
    if failure.type == "piecework.ExecutorBroken":  # it speaks of no task's exception
        return losses.ExecutorBroken(failure.message)
    exc = unpack(failure.pickled, failure.message) if failure.pickled else None
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


def _printed(output: str) -> str:
    """The last few of the last lines."""
    lines = output.splitlines()
    said = "it printed last:" if len(lines) > NOTE_LINES else "it printed:"
    shown = [cut(line, NOTE_LINE_MAX) for line in lines[-NOTE_LINES:]]
    return "\n".join([said, *(f"    {line}" for line in shown)])


def _short(value: Any) -> str:
    import reprlib

    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = 200
    try:
        return brief.repr(value)
    except BaseException:
        return f"<{type_name(type(value))}>"
