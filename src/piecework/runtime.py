"""piecework.map: wires queues, executor, worker and master into a run.

    inputs ─▶ Master ─▶ MemoryQueue ─▶ Worker ─▶ executor
                ▲                        │
                └────── MemoryQueue ◀────┘        all of it turned by the executor's loop

The arguments are checked, the way to run is chosen and its executor made; wiring.py does the rest.
The two are the only files that name concrete classes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial

from piecework import options
from piecework.bases import NamedTuple, TypeVar
from piecework.errors import UsageError
from piecework.retry import Backoff, Retry
from piecework.trivial import is_trivial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from typing import Any

    from piecework.auto import Choice
    from piecework.executors.base import BatchExecutor
    from piecework.executors.processes import Processes
    from piecework.handle import Run
    from piecework.journal.opening import Opened
    from piecework.summary import Progress

__all__ = ["map"]

T = TypeVar("T")
R = TypeVar("R")


def map(
    fn: Callable[[T], R],
    inputs: Iterable[T],
    *,
    on: str | BatchExecutor = "auto",
    workers: int | None = None,
    threads: int = 1,
    mp_context: BaseContext | str | None = None,
    task_timeout: float | None = None,
    retries: int = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,),
    backoff: Backoff | None = None,
    deadline: float | None = None,
    halt: int | str | None = None,
    batch_size: int | None = None,
    buffersize: int | None = None,
    max_memory: int | str | None = None,
    journal: bool | str | os.PathLike[str] | None = None,
    resume: bool | str = False,
    key: Callable[[T], object] | None = None,
    name: str | None = None,
    progress: Callable[[Progress], object] | bool | None = None,
) -> Run[R]:
    """Run `fn` over every input and account for each: done, failed, quarantined or cancelled.

    `on` is "threads", "processes", "coroutines", "inline" (in the caller), "commands" (what
    `piecework.command` makes), "auto" (measures the first tasks and chooses) or an executor of
    piecework, which is left open. `workers` is how many tasks run at once (with `threads` in each
    process: that many times more).

    A task that fails with one of `retry_on` is tried up to `retries` more times, after `backoff`;
    one that takes longer than `task_timeout` seconds is ended; one that kills two workers in a row
    is quarantined. One that takes more than `max_memory` (bytes, or "2GB"; processes only) is ended
    and blamed. `deadline` seconds end the run; `halt="5%"` or `halt=100` ends it once that many
    tasks have failed, `halt="now,success=1"` when the first is done, with all that runs.

    Inputs are drawn as slots free up, at most `buffersize` ahead of what was read. Batches adapt
    unless `batch_size` fixes them. `progress` is called with a Progress ten times a second; True
    shows the library's own display.

    With `name` or `journal` what finishes is recorded on disk, and a run that ended early, however
    it did, goes on with `resume=True`: what is done is not run again, its value comes from the
    journal at its place (`Result.recalled`); inputs may have been added, removed or reordered.
    `journal` is True, or the path of the file; without a path it lies in the state directory under
    `name`. `resume="failed"` runs the failed ones again as well, `resume="anyway"` goes on although
    the function has changed, and "failed,anyway" is both. `key(input)` names an input where its own
    value does not do, as for objects that cannot be pickled.

    Returns at once; work has begun, except inline, where it is done as values are read.
    """
    options.check_function(fn)
    options.check_inputs(inputs)
    options.check_placeholders(fn, inputs)
    options.check_sizes(batch_size, buffersize)
    options.check_deadline(deadline)
    options.check_progress(progress)
    retry = Retry(retries, retry_on=retry_on, backoff=backoff)
    stop_at = options.halt_from(halt)
    asked = _Asked(workers, threads, mp_context, task_timeout, max_memory)
    way, why = _way(fn, inputs, on, asked)
    executor = on if not isinstance(on, str) else _executor(way, asked)
    owned = executor is not on
    call = _prepared(fn, executor, asked, owned=owned)
    # Only now: a supervisor boots meanwhile, and most of a short run is its start.
    from piecework.wiring import Wiring

    opened = _journal(fn, inputs, (journal, name, resume, key), executor if owned else None)
    label = name or options.name_of(fn)
    wiring = Wiring(executor, call, owned=owned, why=why, label=label, opened=opened)
    wiring.state(retry, halt=stop_at, inputs=inputs, batch_size=batch_size, buffersize=buffersize)
    if way == "auto":
        wiring.probe(fn, partial(_chosen, fn, asked), asked.workers, asked.limited)
    else:
        wiring.join()
    return wiring.run(name, progress, deadline)


def _journal(
    fn: Any, inputs: Any, asked: tuple[Any, Any, Any, Any], executor: BatchExecutor | None
) -> Opened | None:
    """The journal, opened; an `executor` of ours ends where it is refused."""
    journal, _, resume, key = asked
    if all(one is None or one is False for one in asked):
        return None
    if journal is False and not resume and key is None:  # the name is a label
        return None
    from piecework.feeder import known_length
    from piecework.journal.opening import open_journal

    try:
        return open_journal(fn, known_length(inputs), *asked)
    except BaseException:
        if executor is not None:
            executor.shutdown(wait=False)
        raise


def _chosen(fn: Callable[..., Any], asked: _Asked, choice: Choice) -> tuple[BatchExecutor, Any]:
    """What "auto" has chosen, made."""
    workers = asked.workers or choice.workers
    chosen = asked._replace(workers=workers, threads=max(asked.threads, choice.threads))
    executor = _executor(choice.way, chosen)
    return executor, _prepared(fn, executor, chosen, owned=True)


class _Asked(NamedTuple):
    """What the caller asked of the executor."""

    workers: int | None
    threads: int
    mp_context: BaseContext | str | None
    task_timeout: float | None
    max_memory: int | str | None

    @property
    def limited(self) -> bool:
        """Whether only processes will do: what runs in them can be ended."""
        return self.task_timeout is not None or self.max_memory is not None


def _way(fn: Callable[..., Any], inputs: Any, on: object, asked: _Asked) -> tuple[str, str]:
    """How to run and why; "auto" where the first tasks shall decide."""
    if hasattr(on, "submit_batch"):
        if asked.workers is not None:
            raise UsageError("workers is a matter of the executor given as `on`. Leave it out.")
        way = str(on.name)  # type: ignore[attr-defined]  # a BatchExecutor has one
        options.check_command(fn, way)
        options.check_max_memory(asked.max_memory, way)
        options.check_not_its_own(on)
        return way, ""
    way, why = options.check_way(on), ""
    if way == "auto":
        way, why = _known(fn, inputs, asked)
    options.check_workers(asked.workers, way)
    options.check_threads(asked.threads, way)
    options.check_kind(fn, way)
    options.check_time_limit(asked.task_timeout, way)
    options.check_max_memory(asked.max_memory, way)
    return way, why


def _known(fn: Callable[..., Any], inputs: Any, asked: _Asked) -> tuple[str, str]:
    """The way that needs no measuring, else "auto"."""
    if options.is_command(fn):
        return "commands", ""
    if options.is_coroutine_function(fn):
        return "coroutines", "auto chose coroutines: the function is one"
    if asked.limited or asked.threads > 1:
        return "auto", ""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "threads", "auto chose threads: this interpreter has no lock to wait for"
    if asked.workers is None and is_trivial(fn, inputs):
        return (
            "inline",
            "auto chose inline: a few operations on numbers cost less than sending them",
        )
    if asked.workers is None and _on_one_core():
        return "threads", "auto chose threads: the task that maps has one core, and runs on it"
    return "auto", ""


def _on_one_core() -> bool:
    """Whether this is a task, whose slot has a core and no more."""
    share = sys.modules.get("piecework.executors.share")  # who has one has it loaded
    if share is None or share.mine() is None:
        return False
    from piecework.executors.cores import cores

    return cores() == 1


def _prepared(
    fn: Callable[..., Any], executor: BatchExecutor, asked: _Asked, *, owned: bool
) -> Any:
    try:
        if asked.max_memory is None:
            return executor.prepare(fn, task_timeout=asked.task_timeout)
        # Who can keep it knows the word: options has seen to that.
        processes: Processes = executor  # type: ignore[assignment]
        return processes.prepare(fn, task_timeout=asked.task_timeout, max_memory=asked.max_memory)
    except BaseException:
        if owned:
            executor.shutdown(wait=False)
        raise


def _executor(way: str, asked: _Asked) -> BatchExecutor:
    if way == "threads":
        from piecework.executors.thread import ThreadExecutor

        return ThreadExecutor(asked.workers)
    if way == "coroutines":
        from piecework.executors.coroutine import CoroutineExecutor

        return CoroutineExecutor(asked.workers)
    if way == "inline":
        from piecework.executors.inline import InlineExecutor

        return InlineExecutor()
    if way == "commands":
        from piecework.executors.command import CommandExecutor

        return CommandExecutor(asked.workers)
    from piecework.executors.processes import Processes

    return Processes(asked.workers, asked.mp_context, threads=asked.threads)
