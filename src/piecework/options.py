"""The arguments of `map`, checked before anything runs; each refusal ends with the way out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial

from piecework.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.halting import Halt

WAYS = ("threads", "processes", "coroutines", "inline", "commands", "auto")
WORKERS_MAX = {
    "threads": 10_000,
    "processes": 1_000,
    "coroutines": 10_000_000,
    "inline": 1,
    "commands": 10_000,
}
MEMORY_MIN = 1 << 20  # less is surely meant in other units
_CO_COROUTINE = 0x80
_LOOKED_AT = 100


def check_function(fn: object) -> None:
    if not callable(fn):
        raise UsageError(
            f"{fn!r} is not callable. Give a function of one argument, then the inputs: "
            "piecework.map(fn, inputs)."
        )


def check_inputs(inputs: object) -> None:
    try:
        iter(inputs)  # type: ignore[call-overload]  # it raises for what is not iterable
    except TypeError:
        raise UsageError(
            f"inputs is {type(inputs).__name__} {_short(inputs)}, which cannot be iterated over. "
            "Give a list, a generator or any other iterable."
        ) from None


def check_way(on: object) -> str:
    """The way to run by its name."""
    if isinstance(on, str) and on in WAYS:
        return on
    ways = ", ".join(WAYS)
    if isinstance(on, str) and "://" in on:
        raise UsageError(
            f"on={on!r}: the network queue is not in this version. Choose one of: {ways}."
        )
    raise UsageError(f"no executor {_quoted(on)}. Choose one of: {ways}.")


def check_workers(workers: object, way: str) -> None:
    if workers is None:
        return
    _check_whole("workers", workers, "leave it out for as many as suit this machine")
    most = WORKERS_MAX.get(way, 1_000)
    if workers > most and way != "inline":  # type: ignore[operator]  # checked above
        raise UsageError(
            f"workers={workers} is more than any machine runs well as {way}. "
            f"Give at most {most}, or leave it out for as many as suit this machine."
        )


def check_threads(threads: object, way: str) -> None:
    _check_whole("threads", threads, "1 runs one task at a time in each process")
    if threads != 1 and way not in ("processes", "auto"):
        raise UsageError(
            f"threads={threads} is the number of threads in each worker process, and "
            f'on="{way}" has none. Use workers={threads}, or on="processes".'
        )


def check_kind(fn: Callable[..., Any], way: str) -> None:
    """A coroutine function needs an event loop, and nothing else may run on one; a command runs as
    a child process, and nothing else does."""
    check_command(fn, way)
    coroutine = is_coroutine_function(fn)
    if coroutine and way in ("threads", "processes", "inline"):
        raise UsageError(
            f"{_name(fn)} is a coroutine function, which on={way!r} would call and never await. "
            'Use on="coroutines".'
        )
    if not coroutine and way == "coroutines" and _is_plain(fn):
        raise UsageError(
            f"{_name(fn)} is a plain function, which would stop all others on an event loop. "
            'Define it with "async def", or use on="threads".'
        )


def check_command(fn: Callable[..., Any], way: str) -> None:
    if is_command(fn) == (way == "commands"):
        if way == "commands" and not hasattr(os, "posix_spawn"):
            raise UsageError(
                "child commands need a POSIX system: process groups, posix_spawn. Use "
                'subprocess.run in a function, on="threads".'
            )
        return
    if way == "commands":
        raise UsageError(
            f'on="commands" runs a child command for each input, and {_name(fn)} is a function. '
            'Give piecework.command("gzip -k {}"), or choose another way.'
        )
    raise UsageError(
        f"a command runs as a child process for each input, not on={way!r}. "
        'Use on="commands", or leave out `on`.'
    )


def check_placeholders(fn: Any, inputs: object) -> None:
    """Whether any of the first inputs has the parts that a command's placeholders name, where one
    can look without drawing them."""
    if is_command(fn) and isinstance(inputs, (list, tuple)):
        fn.check(inputs[:_LOOKED_AT])


def is_command(fn: object) -> bool:
    """Whether `piecework.command` made it; without importing what that needs."""
    return type(fn).__module__ == "piecework.commands"


def check_time_limit(seconds: object, way: str) -> None:
    if seconds is None:
        return
    _check_seconds("task_timeout", seconds)
    if way in ("threads", "inline"):
        where = "in threads, which cannot be ended" if way == "threads" else "in the caller"
        raise UsageError(
            f"task_timeout={seconds} cannot be kept {where}. "
            'Use on="processes", or on="coroutines" for an async function.'
        )


def check_max_memory(max_memory: object, way: str) -> None:
    if max_memory is None:
        return
    memory_from(max_memory)
    if way not in ("processes", "commands", "auto"):
        why, instead = _NO_MEMORY_LIMIT.get(way, (f"with on={way!r}", _IN_PROCESSES))
        raise UsageError(f"max_memory={max_memory!r} cannot be kept {why}. {instead}")


_IN_PROCESSES = 'Use on="processes", where the worker of a task that takes too much is ended.'
_NO_MEMORY_LIMIT = {
    "threads": ("in threads, which share one memory", _IN_PROCESSES),
    "inline": ("in the caller", _IN_PROCESSES),
    "coroutines": (
        "on an event loop, whose coroutines share one memory",
        'Make it a plain function for on="processes", or leave max_memory out.',
    ),
}


def check_not_its_own(executor: object) -> None:
    """A map on the threads that wait for it would wait for ever once all of them do."""
    if getattr(executor, "inside", False) and getattr(executor, "name", "") == "threads":
        raise UsageError(
            "on= is the executor that runs the calling task: its threads could all end up waiting "
            'for each other. Use on="threads" here, which starts its own, or another executor.'
        )


def memory_from(max_memory: object) -> int:
    """The limit in bytes, on a system where it can be watched."""
    from piecework.executors import memory
    from piecework.sizes import size_from

    nbytes = size_from(max_memory) if isinstance(max_memory, str) else max_memory
    if not isinstance(nbytes, int) or isinstance(nbytes, bool) or nbytes < MEMORY_MIN:
        raise UsageError(
            f"max_memory is {max_memory!r}. Give bytes, at least {MEMORY_MIN:,}, or a size: "
            'max_memory="2GB".'
        )
    if not memory.can_measure():
        raise UsageError(
            f"max_memory={max_memory!r} cannot be watched here: there is no /proc, and psutil is "
            "not installed. Install it with: pip install psutil"
        )
    return nbytes


def check_sizes(batch_size: object, buffersize: object) -> None:
    if batch_size is not None:
        _check_whole("batch_size", batch_size, "leave it out and batches adapt")
    if buffersize is not None:
        _check_whole("buffersize", buffersize, "leave it out for a bound that adapts")


def check_deadline(deadline: object) -> None:
    if deadline is not None:
        _check_seconds("deadline", deadline)


def check_progress(progress: object) -> None:
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise UsageError(
            f"progress is {progress!r}. Give True for a bar, a function that takes a "
            "piecework.Progress, or None."
        )


def halt_from(halt: object) -> Halt | None:
    """The rule that ends a run early, see halting.py."""
    if halt is None:
        return None
    from piecework.halting import parse  # not for every start

    return parse(halt)


def is_coroutine_function(fn: Any) -> bool:
    """Whether calling it gives a coroutine; without `inspect`, whose import costs 10 ms."""
    while isinstance(fn, partial):
        fn = fn.func
    for called in (fn, vars(type(fn)).get("__call__")):
        function = getattr(called, "__func__", called)
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _CO_COROUTINE:
            return True
        if getattr(function, "_is_coroutine_mark", None) or getattr(fn, "_is_coroutine", None):
            return True
    return False


def _is_plain(fn: Any) -> bool:
    """Whether it surely returns no awaitable; a callable object or a decorator might."""
    return hasattr(fn, "__code__") or isinstance(fn, type)


def _check_whole(name: str, number: object, otherwise: str) -> None:
    if isinstance(number, int) and not isinstance(number, bool) and number >= 1:
        return
    raise UsageError(f"{name} is {number!r}. Give a whole number of at least 1, or {otherwise}.")


def _check_seconds(name: str, seconds: object) -> None:
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if number and seconds > 0 and math.isfinite(seconds):  # type: ignore[operator, arg-type]
        return
    raise UsageError(f"{name} is {seconds!r}. Give seconds, more than 0, or leave it out.")


def _name(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", None) or f"a {type(fn).__name__}")


def _quoted(on: object) -> str:
    return f'"{on}"' if isinstance(on, str) else _short(on)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def name_of(fn: Any) -> str:
    """What a function is called by people; of a partial one, what it calls."""
    while type(fn) is partial:
        fn = fn.func
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__
