"""Wires queues, executor, worker and master into a Run; what `piecework.map` does second.

Nothing that is wired here refers to the Run: when the user drops it, it is collected, and what it
started is ended.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial

from piecework.batching import Sizer
from piecework.crew import Crew
from piecework.errors import DeadlineExceeded
from piecework.executors.cores import cores
from piecework.feeder import Feeder, Swift, is_swift, known_length
from piecework.halting import Halt
from piecework.handle import Run
from piecework.loop import Loop
from piecework.master import Master
from piecework.queues.memory import MemoryQueue
from piecework.reporting import Reporter
from piecework.retry import Retry
from piecework.run import RunState
from piecework.task import Batch, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework import auto
    from piecework.executors.base import BatchExecutor
    from piecework.journal.again import Again
    from piecework.journal.journal import Journal
    from piecework.journal.opening import Opened
    from piecework.journal.recall import Recall
    from piecework.summary import Progress

JOURNAL_SECONDS = 10.0  # for the disk, at the end of the interpreter


class Wiring:
    """The parts of one run: first its `state`, then who works (`join` or `probe`), then `run`."""

    def __init__(
        self,
        executor: BatchExecutor,
        call: Any,
        *,
        owned: bool,
        why: str,
        label: str = "",
        opened: Opened | None = None,
    ) -> None:
        self._label = label
        self._executor = executor
        self._call = call
        self._owned = owned
        self._why = why
        self._opened = opened
        self._loop: Loop = executor.loop

    def state(
        self,
        retry: Retry,
        *,
        halt: Halt | None,
        inputs: Iterable[Any],
        batch_size: int | None,
        buffersize: int | None,
    ) -> None:
        """The account, the queues and the master between them."""
        executor, loop = self._executor, self._loop
        state = RunState(retry, halt=halt, total=known_length(inputs))
        tasks: MemoryQueue[Batch] = MemoryQueue(1)
        results: MemoryQueue[Report] = MemoryQueue()
        at_once = executor.name == "coroutines"
        sizer = Sizer(executor.slots, fixed=batch_size, at_once=at_once)
        self._master = Master(state, tasks, results, loop, sizer, buffersize=buffersize)
        self._crew = Crew(tasks, results, loop, partial(_broken, self._master))
        self._crew.why = self._why
        self._crew.label = self._label
        self._crew.here = executor.name == "inline"
        self._inputs = inputs
        if self._opened is not None:
            self._master.journal = _keep(self._opened, self._master, loop, inputs)

    def join(self) -> None:
        """The executor works."""
        self._crew.join(self._executor, self._call, owned=self._owned)

    def probe(
        self,
        fn: Callable[..., Any],
        make: Callable[[auto.Choice], tuple[BatchExecutor, Any]],
        workers: int | None,
        limited: bool,
    ) -> None:
        """The executor works off the first tasks; what they tell decides who does the rest."""
        from piecework.auto import Prober  # most runs have been told where to run

        prober = Prober(
            self._master,
            self._crew,
            self._loop,
            fn,
            make,
            cores=workers or cores(),
            limited=limited,
        )
        prober.start(self._executor, self._call)

    def run(
        self,
        name: str | None,
        progress: Callable[[Progress], object] | bool | None,
        deadline: float | None,
    ) -> Run[Any]:
        """Begin, and hand over the Run."""
        master, crew, loop = self._master, self._crew, self._loop
        _feed(self._inputs, master, crew, self._opened)
        reporter = Reporter(master, crew, loop, name, progress)
        master.on_stop = crew.stop
        crew.on_free = reporter.leave
        master.on_finish = partial(_finished, reporter, crew, loop)
        run: Run[Any] = Run(master, crew, loop, reporter)
        _stop_at_exit(run, self._executor.name)
        reporter.start()
        if deadline is not None:
            text = f"the deadline of {deadline:g} s passed: what was finished is kept"
            master.stop_after(deadline, "deadline", DeadlineExceeded(text), kill=True)
        if master.journal is not None:
            master.journal.on = partial(getattr, crew, "on")
            master.journal.start()
            _journals.add(master.journal)
        master.soon()
        if not crew.here:
            loop.start()
        return run


def _keep(opened: Opened, master: Master, loop: Loop, inputs: Iterable[Any]) -> Journal:
    """The journal of this run; what it has to say goes to the master."""
    from piecework.journal.journal import Journal

    journal = Journal(opened, master.state)
    journal.fixed_inputs = type(inputs) in (range, str, bytes, bytearray)
    journal.on_change = partial(_journal_changed, master, loop)
    journal.on_unkept = partial(loop.after, _say_unkept)
    journal.on_error = partial(master.stop, "journal")
    journal.on_cancel = lambda how: master.stop("cancelled", kill=how == "kill")
    return journal


def _journal_changed(master: Master, loop: Loop) -> None:
    """It has room again, or has ended; called in its thread."""
    master.soon()
    if loop.closed:  # an executor that broke has closed it, and nobody turns it any more
        with loop.lock:
            master.turn()
        loop.run_after()


def _say_unkept(kind: str) -> None:
    import warnings

    warnings.warn(
        f"a value of type {kind} cannot be pickled, so the journal notes the task as done without "
        "it, and a resumed run does it again. Return something that pickle takes",
        RuntimeWarning,
        stacklevel=1,
    )


def _feed(inputs: Iterable[Any], master: Master, crew: Crew, opened: Opened | None) -> None:
    """Give the master its source: the loop draws by itself only what cannot block."""
    if opened is not None and (opened.recall is not None or opened.key is not None):
        from piecework.journal.again import Failed
        from piecework.journal.source import Recalling

        recall: Recall | Again | None = opened.recall
        if isinstance(inputs, Failed) and recall is not None and master.journal is not None:
            recall.close()
            recall = inputs.again(master.journal, opened.begun.session)
        master.source = master.recalling = Recalling(inputs, recall, opened.key, master.soon)
        if not crew.here:
            master.recalling.start()
        else:
            crew.feeder = master.recalling
        return
    if is_swift(inputs):
        master.source = Swift(inputs)
        return
    feeder = Feeder(inputs, master.soon)
    master.source = feeder
    if not crew.here:
        feeder.start()
    else:
        crew.feeder = feeder


def _broken(master: Master, error: BaseException) -> None:
    """The executor takes no batches any more."""
    master.stop("broken", error)


def _finished(reporter: Reporter, crew: Crew, loop: Loop) -> None:
    reporter.finish()
    if not crew.here:
        loop.after(crew.free)


_live: weakref.WeakSet[Run[Any]] = weakref.WeakSet()
_at_exit: set[str] = set()
_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _stop_at_exit(run: Run[Any], kind: str) -> None:
    """A run that is left over when the interpreter ends is ended, not finished.

    Executors finish what they were given at exit; this must come before, and the handlers run in
    reverse order, so one is registered after the first executor of each kind.
    """
    _live.add(run)
    if kind not in _at_exit:
        _at_exit.add(kind)
        threading._register_atexit(_stop_all)  # type: ignore[attr-defined]


def _stop_all() -> None:
    for run in list(_live):
        try:
            run.close()
        except Exception:  # the others are closed all the same
            sys.excepthook(*sys.exc_info())
    for journal in list(_journals):  # of runs that were dropped, too
        journal.end()
        journal.join(JOURNAL_SECONDS)
