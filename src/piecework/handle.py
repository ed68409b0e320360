"""Run: what `piecework.map` returns. Values in input order, results as they come, or the account.

    Master.unread ── take ──▶ piece ── split ──▶ values ──▶ for value in run
                                           └──▶ a failure ──▶ raised at its place

Reading costs nothing per value but the handing over itself: a piece is a list, and a value leaves
it as it is read, so that nothing is held longer than needed.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import chain
from types import TracebackType

from piecework.bases import Generic, TypeVar
from piecework.crew import Crew
from piecework.delivery import Piece
from piecework.errors import PieceworkError, UsageError
from piecework.failures import rebuild
from piecework.groups import Failures
from piecework.loop import Loop
from piecework.master import Master
from piecework.reporting import Reporter
from piecework.summary import Progress, Summary
from piecework.task import Failure, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.journal.journal import Journal

R = TypeVar("R")


class Run(Generic[R]):
    """One function over its inputs, under way; every input is accounted for.

    `for value in run` gives values in input order and raises a failure at its place, as the
    exception that the task raised; reading again goes on after it. `results()` gives a Result for
    every input as they come. `wait()` reads nothing and returns the Summary. `async for` and
    `await` do the same without blocking the event loop.

    Work goes on in the background, as far ahead of the reader as `buffersize` allows. Leaving the
    `with` block, or dropping the Run, ends what still runs.
    """

    def __init__(self, master: Master, crew: Crew, loop: Loop, reporter: Reporter) -> None:
        self._master = master
        self._crew = crew
        self._loop = loop
        self._reporter = reporter
        self._segments: deque[Piece] = deque()  # taken from the master, not begun
        self._piece: Piece | None = None  # begun: its values are in `_rest`, last one first
        self._rest: list[Any] = []
        self._results: Iterator[Result] = iter(())
        self._unordered = False  # input order was given up
        self._told = False  # the error that ended the run has been raised
        weakref.finalize(self, _dropped, master, crew, loop).atexit = False

    # -- values, in input order ---------------------------------------------------------------

    def __iter__(self) -> Iterator[R]:
        self._in_order()
        # chain: C speed a value, and it goes on after a generator that raised.
        return chain.from_iterable(iter(self._next_values, None))

    def __next__(self) -> R:
        self._in_order()
        while not self._rest and not self._fill():
            if not self._await():
                raise StopIteration
        return self._rest.pop()  # type: ignore[no-any-return]

    def _next_values(self) -> Iterator[R] | None:
        if self._rest or self._segments or self._await():
            return self._values()
        return None

    def _values(self) -> Generator[R, None, None]:
        self._fill()
        rest = self._rest
        while rest:
            yield rest.pop()

    def _fill(self) -> bool:
        """Whether a value is at hand; raises the failure whose place it is."""
        while not self._rest:
            if not self._segments:
                piece = self._master.take()
                if piece is None:
                    return False
                self._segments.extend(piece.split())
            self._piece = self._segments.popleft()
            if self._piece.failures:
                self._raise(self._piece)
            else:
                self._rest = self._piece.values
                self._rest.reverse()
        return True

    def _raise(self, piece: Piece) -> None:
        failure = piece.failures[0]
        if failure.cause != "cancelled":
            raise self._exception(piece, failure)
        if not self._told:  # once for all that were never started, not for each of them
            self._told = True
            raise self._master.state.error or _never_started(piece)

    def _exception(self, piece: Piece, failure: Failure) -> BaseException:
        inline = self._crew.inline
        original = None if inline is None else inline.originals.pop(piece.start, None)
        if original is not None:
            return original  # raised in this thread: it has its own traceback
        input = piece.inputs[0]
        return rebuild(
            failure, index=piece.start, input=input, attempt=piece.attempt, worker=piece.worker
        )

    # -- results ------------------------------------------------------------------------------

    def results(self, *, ordered: bool = False) -> Iterator[Result]:
        """A Result for every input, failed and cancelled ones too, as they come.

        With `ordered`, in input order. RunHalted, DeadlineExceeded or InputError is raised after
        the last one.
        """
        if ordered:
            self._in_order()
        else:
            self._unordered = True
            self._master.ordered = False
        return self._each_result()

    def _each_result(self) -> Generator[Result, None, None]:
        while True:
            yield from self._left_over()
            yield from self._results
            piece = self._master.take()
            if piece is not None:
                self._results = piece.results()
            elif not self._await():
                return

    def _left_over(self) -> Iterator[Result]:
        """What was taken to be read as values, and was not."""
        if self._rest and self._piece is not None:
            self._piece.values = self._rest[::-1]
            count, self._rest = len(self._rest), []
            missing = len(self._piece.inputs) - count
            self._piece.values = [None] * missing + self._piece.values
            self._segments.appendleft(self._piece.last(count))
        while self._segments:
            yield from self._segments.popleft().results()

    def _in_order(self) -> None:
        if self._unordered:
            raise UsageError(
                "this run is being read as results come, and input order is lost. "
                "Go on with results(), or begin with results(ordered=True)."
            )
        self._master.ordered = True

    # -- waiting ------------------------------------------------------------------------------

    def _await(self) -> bool:
        """Block until there is something to take; False at the end, whose error raises once."""
        self._wait(self._master.ready)
        return self._more()

    def _more(self) -> bool:
        """With the master ready: whether there is something to take."""
        master = self._master
        if master.unread:
            return True
        self._settle()
        error = master.state.error
        if error is not None and not self._told:
            self._told = True
            self._say_how_to_go_on(error)
            raise error
        return False

    def _settle(self) -> None:
        """Whoever waited goes on: first, all that the tasks have printed and all that is shown."""
        if self._master.finished:
            self._crew.hear()
        self._reporter.settle()

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Turn the loop, or run tasks where they run in the caller, until `ready()`."""
        if ready():
            return
        self._crew.check_wait()
        self._master.set_awaited(True)
        try:
            while not ready():
                if not self._master.told_to_stop and self._crew.work():
                    continue
                if not self._loop.drive(lambda: ready() or self._works()) and not ready():
                    self._master.finish_without_loop()
                    if not ready():
                        raise PieceworkError("the executor was closed while the run went on")
        except KeyboardInterrupt as error:
            self._stop("interrupted", kill=True)
            self._say_how_to_go_on(error)
            raise
        finally:
            self._master.set_awaited(False)
            if self._crew.here and self._master.finished:
                self._crew.free()  # its loop cannot be closed by itself: only we turn it

    def _works(self) -> bool:
        """Whether there is something to do here; not what an interrupt has just got us out of."""
        return self._crew.has_work and not self._master.told_to_stop

    def wait(self) -> Summary:
        """Wait for the end and return the account; raises nothing, and values are dropped."""
        self._drop()
        self._wait(lambda: self._master.finished)
        self._settle()
        return self.summary

    def _drop(self) -> None:
        self._segments.clear()
        self._rest = []
        self._results = iter(())
        self._told = True
        self._master.drop()

    # -- asyncio ------------------------------------------------------------------------------

    def __aiter__(self) -> Run[R]:
        return self

    async def __anext__(self) -> R:
        self._in_order()
        while not self._rest and not self._fill():
            await self._changed(self._master.ready)
            if not self._more():
                raise StopAsyncIteration
        return self._rest.pop()  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, None, Summary]:
        return self._finish().__await__()

    async def _finish(self) -> Summary:
        self._drop()
        await self._changed(lambda: self._master.finished)
        self._settle()
        return self.summary

    async def _changed(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready()`; the event loop goes on, unless tasks run in the caller."""
        import asyncio

        events = asyncio.get_running_loop()
        while not ready():
            if self._crew.inline is not None:
                self._wait(ready)
                await asyncio.sleep(0)
                return
            told: asyncio.Future[None] = events.create_future()
            watcher = partial(_tell, events, told)
            self._master.watchers.append(watcher)
            try:
                if not ready() and self._crew.inline is None:
                    await told
            finally:
                self._master.watchers.remove(watcher)

    async def __aenter__(self) -> Run[R]:
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.to_thread(self.close)

    # -- the account, the end -----------------------------------------------------------------

    @property
    def failures(self) -> Failures:
        """Every failure so far: iterate for the first ones whole, `groups()` for all."""
        return self._master.state.failures

    @property
    def summary(self) -> Summary:
        """The account so far; final when the run has ended."""
        return self._reporter.summary()

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self._reporter.progress()

    @property
    def why(self) -> str:
        """How the way to run was chosen; empty where the caller chose it."""
        return self._crew.why

    @property
    def journal(self) -> Journal | None:
        """Where the run is recorded; `.name` and `.path` say how to find it. None: nowhere."""
        return self._master.journal

    def cancel(self, *, kill: bool = False) -> None:
        """Take nothing new: what runs is finished, what has not started is cancelled.

        With `kill` what runs is ended too, where that is possible. Returns at once; reading goes on
        with what has finished. From any thread, and from a signal handler.
        """
        self._stop("cancelled", kill=kill)

    def _stop(self, reason: str, *, kill: bool) -> None:
        if not self._master.finished:
            self._master.stop(reason, kill=kill)

    def close(self) -> None:
        """End what still runs, unread values with it, and free all that the run started."""
        self._close("cancelled")

    def _close(self, reason: str) -> None:
        if not self._master.finished:
            self._drop()
            self._stop(reason, kill=True)
            self._wait(lambda: self._master.finished)
        self._settle()
        self._crew.free(wait=True)

    def __enter__(self) -> Run[R]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        if error is not None and interrupted:
            self._say_how_to_go_on(error)
        self._close("interrupted" if interrupted else "cancelled")

    def _say_how_to_go_on(self, error: BaseException) -> None:
        """As a note of what ends the run early: nothing that is done has to be done again."""
        journal = self._master.journal
        if journal is None:
            return
        note = (
            f"What is done is kept in {journal.path}. The same call with resume=True goes on where "
            f"this one ended; `piecework show {journal.path}` says where that is."
        )
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)

    def __repr__(self) -> str:
        state = self._master.state
        stands = "ended" if self._master.finished else "under way"
        return f"<piecework.Run {stands}: {state.done} done, {len(state.failures)} failed>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """For notebooks: where the run stands, its account once it has ended."""
        from piecework import notebook, watching

        if self._master.finished:
            return notebook.account(self.summary)
        return watching.going(self.progress, self.summary.name or repr(self), [])


def _never_started(piece: Piece) -> BaseException:
    from concurrent.futures import CancelledError

    return CancelledError(f"the run was stopped before input {piece.start} was worked on")


def _dropped(master: Master, crew: Crew, loop: Loop) -> None:
    """Nobody holds the run any more. May be called anywhere, so it only leaves word."""
    if master.finished:
        return
    crew.on_free()
    if not crew.here and not loop.closed:
        master.stop("cancelled", kill=True)
        return
    if crew.feeder is not None:  # nobody will turn the loop again
        crew.feeder.close()
    crew.free()
    if master.journal is not None:
        master.journal.end()


def _tell(events: Any, told: Any) -> None:
    try:
        events.call_soon_threadsafe(_set, told)
    except RuntimeError:  # the event loop was closed meanwhile: nobody waits
        pass


def _set(told: Any) -> None:
    if not told.done():
        told.set_result(None)
