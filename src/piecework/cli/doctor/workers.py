"""Worker processes, and whether a function reaches them: by trying."""

from __future__ import annotations

import inspect
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from typing import Any, NamedTuple, TypeVar

from piecework import codec
from piecework.cli.doctor.finding import Finding, note, ok, wrong
from piecework.errors import CannotPickle
from piecework.executors.process import ProcessExecutor
from piecework.options import is_coroutine_function
from piecework.sizes import size_text
from piecework.wording import exact, one_line

T = TypeVar("T")
PATIENCE = 60.0  # seconds for a worker
SLOW_LOAD = 1.0
LARGE = 10 << 20


class Loaded(NamedTuple):
    """What a worker says of a function that it has loaded."""

    seconds: float
    error: str


def findings() -> Iterator[Finding]:
    methods = multiprocessing.get_all_start_methods()
    yield ok(
        "start methods",
        f"{', '.join(methods)}; the default is a small process of piecework's own that forks, "
        "which is safe beside threads",
    )
    started = time.perf_counter()
    try:
        _answer(time.time)
    except (OSError, BrokenExecutor, TimeoutError) as error:
        yield wrong(
            "workers",
            f"no worker process answers: {_reason(error)}",
            "try another start method (--start-method spawn), or threads (--on threads).",
        )
    else:
        took = exact(time.perf_counter() - started)
        yield ok("workers", f"a worker process gave its first result, and ended, after {took}")


def _answer(fn: Callable[..., T], *arguments: Any) -> T:
    """What a worker process of its own says; one that does not answer is ended."""
    with ProcessExecutor(1) as executor:
        try:
            return executor.submit(fn, *arguments).result(PATIENCE)  # type: ignore[no-any-return]
        except BaseException:
            executor.kill_workers()
            raise


def _reason(error: BaseException) -> str:
    return one_line(str(error), 300) or f"no answer within {PATIENCE:g} s"


# -- a function -----------------------------------------------------------------------------------


def shipped(fn: Callable[..., Any], name: str) -> Iterator[Finding]:
    """Whether workers can have it, and what it costs them."""
    yield from _arguments(fn, name)
    try:
        data = codec.dumps(fn, what="fn")
    except CannotPickle as error:
        yield wrong(name, *_cut(str(error)))
        return
    if len(data) > LARGE:
        yield note(
            name,
            f"carries {size_text(len(data))}, which every worker gets a copy of",
            "load it in the worker instead: in an initializer, or when the module is imported.",
        )
    yield from _tried(name, data)


def _arguments(fn: Callable[..., Any], name: str) -> Iterator[Finding]:
    kind = "a coroutine function, for event loops" if is_coroutine_function(fn) else "a function"
    try:
        inspect.signature(fn).bind("input")
    except TypeError as error:
        yield wrong(
            name,
            f"cannot be called with one input: {error}",
            "give its other arguments defaults, or wrap it: functools.partial(fn, other=…).",
        )
    except ValueError:  # written in C, and does not say
        yield ok(name, kind)
    else:
        yield ok(name, f"{kind} that takes one input")


def _cut(text: str) -> tuple[str, str]:
    """What cannot be sent, and the last line, which is the way out."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return " ".join(lines[:-1]), lines[-1]
    first, dot, rest = text.partition(". ")
    return f"{first}{dot}".strip(), rest or "pass only what is needed to make it in the worker."


def _tried(name: str, data: bytes) -> Iterator[Finding]:
    try:
        loaded = _answer(load, data)
    except (OSError, BrokenExecutor, TimeoutError) as error:
        yield wrong(
            name,
            f"a worker does not come to load it: {_reason(error)}",
            "import its module alone, python -c 'import MODULE', to see what ends the process.",
        )
        return
    if loaded.error:
        yield wrong(
            name,
            f"a worker cannot load it: {loaded.error}",
            "workers import its module again: what that needs must be there without the main "
            "script.",
        )
    elif loaded.seconds > SLOW_LOAD:
        yield note(
            name,
            f"a worker loaded it in {exact(loaded.seconds)}, and each one does so once",
            "import what takes long inside the function, where only some tasks need it.",
        )
    else:
        yield ok(
            name, f"a worker loaded it in {exact(loaded.seconds)}: {size_text(len(data))} sent"
        )


def load(data: bytes) -> Loaded:
    """Runs in the worker."""
    started = time.perf_counter()
    try:
        codec.loads(data)
    except BaseException as error:
        return Loaded(0.0, one_line(f"{type(error).__name__}: {error}", 500))
    return Loaded(time.perf_counter() - started, "")
