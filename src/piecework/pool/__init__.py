"""Pool: the interface of `multiprocessing.Pool` on our executors, which never hang.

    apply ─▶ executor.submit ─▶ AsyncResult
    map, imap ─▶ Flow ─▶ batches ─▶ executor ─▶ reports ─▶ AsyncResult, ImapIterator

Where it differs from the standard one, and why: docs/drop-in.md.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sized

from piecework.errors import CannotPickle
from piecework.executors.cores import cores
from piecework.pool import ending
from piecework.pool.flow import Flow, Flows
from piecework.pool.outcomes import Gathered, Stream
from piecework.pool.results import AsyncResult, ImapIterator, as_standard
from piecework.pool.workers import PoolWorker, executor_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from types import TracebackType
    from typing import Any

__all__ = ["AsyncResult", "ImapIterator", "Pool"]

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"


class Pool:
    """`multiprocessing.Pool`, whole, with workers whose death costs one call and not the program.

    A call whose worker dies raises WorkerLost; a result always comes, also after `terminate`. The
    start method is that of `context`, else the one that was set for multiprocessing, else one
    that is safe in a process with threads. `on="threads"` is the standard ThreadPool.

    Batches adapt to what tasks take unless `chunksize` is given, and `imap` draws its inputs only
    so far ahead of the results that were taken. Leaving the `with` block terminates the pool.
    """

    _state = "INIT"

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | str | None = None,
        *,
        on: str = "processes",
    ) -> None:
        self._processes = cores() if processes is None else processes
        options = self._processes, initializer, initargs, maxtasksperchild, context
        self._executor = executor = executor_for(on, *options)
        self._maxtasksperchild = maxtasksperchild
        self._on = on
        self._loop = executor.loop
        self._flows = Flows(executor)
        ending.watch(self, self._flows)
        self._loop.start()
        self._repopulate_pool()
        self._state = RUN

    # -- one call ------------------------------------------------------------------------------

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}
    ) -> Any:
        """`func(*args, **kwds)` in a worker: its value, or what it raised."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """As `apply`, without waiting; one of the callbacks is called before it is ready."""
        self._check_running()
        result = AsyncResult(self, self._loop, callback, error_callback)
        future = self._executor.submit(func, *args, **kwds)
        future.add_done_callback(result.take_future)
        if self._on == "threads":  # after it: this is what wakes those who wait
            self._flows.await_call(future)
        return result

    # -- all at once ---------------------------------------------------------------------------

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """`[func(x) for x in iterable]` in the workers. Everything is run; then the first failure,
        in the order of the inputs, is raised."""
        return self.map_async(func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """As `map`, with `func(*x)`."""
        return self.starmap_async(func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """As `map`, without waiting. An iterable without a length is drawn first."""
        return self._gather(func, iterable, chunksize, callback, error_callback, star=False)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """As `starmap`, without waiting."""
        return self._gather(func, iterable, chunksize, callback, error_callback, star=True)

    def _gather(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        *,
        star: bool,
    ) -> AsyncResult:
        self._check_running()
        inputs = iterable if isinstance(iterable, Sized) else list(iterable)
        chunksize = _checked(chunksize)
        if chunksize is None and self._maxtasksperchild is not None:
            chunksize = max(1, -(-len(inputs) // (4 * self._processes)))
        gathered, flows = Gathered(), self._flows
        result = AsyncResult(self, self._loop, callback, error_callback)

        def ended(flow: Flow) -> None:
            flows.loop.after(result.take_gathered, gathered)
            flows.ended(flow)

        self._begin(func, inputs, gathered, ended, chunksize, star=star, ahead=False)
        return result

    # -- one after the other -------------------------------------------------------------------

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> ImapIterator:
        """The values in input order, each when it is there. Work begins now; inputs are drawn
        only so far ahead of what was taken, so an endless iterable is fine."""
        return self._stream(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> ImapIterator:
        """As `imap`, the values as they come."""
        return self._stream(func, iterable, chunksize, ordered=False)

    def _stream(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        *,
        ordered: bool,
    ) -> ImapIterator:
        self._check_running()
        chunksize = _checked(chunksize)
        if chunksize is None and self._maxtasksperchild is not None:
            chunksize = 1
        stream = Stream(ordered=ordered)
        flow = self._begin(func, iterable, stream, self._flows.ended, chunksize)
        return ImapIterator(self, self._loop, flow, stream)

    def _begin(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        outcomes: Gathered | Stream,
        ended: Callable[[Flow], None],
        chunksize: int | None,
        *,
        star: bool = False,
        ahead: bool = True,
    ) -> Flow:
        try:
            call = self._executor.prepare(func, star=star)
        except CannotPickle as error:
            raise as_standard(error) from None
        if self._maxtasksperchild is not None:
            call.chunk = chunksize
        flow = Flow(
            self._executor,
            call,
            iterable,
            outcomes,
            ended,
            chunksize=chunksize,
            whole_chunks=ahead,
            ahead=ahead,
        )
        with self._loop.entered():
            self._flows.begin(flow)
        return flow

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Take nothing new; the workers end when all that was given is done."""
        if self._state == RUN:
            self._state = CLOSE
            with self._loop.entered():
                self._flows.close()

    def terminate(self) -> None:
        """End now: running calls raise WorkerLost, waiting ones CancelledError. A thread goes on
        until its call returns."""
        self._state = TERMINATE
        if self._flows.pid == os.getpid():
            ending.terminate(self._flows)

    def join(self) -> None:
        """Wait until all is done and every worker has ended; after `close` or `terminate` only.

        What is left of the inputs of an imap is drawn, although nobody takes its results."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        flows = self._flows
        with self._loop.entered():
            flows.run_all()
        self._loop.drive(lambda: not flows.open)
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.terminate()

    def __del__(self, _warn: Any = warnings.warn, _run: str = RUN) -> None:
        if self._state == _run:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        cls = type(self)
        return (
            f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={self._processes}>"
        )

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._flows.pid != os.getpid():
            raise ValueError(
                f"Pool not running here: it belongs to process {self._flows.pid}, which this one "
                "was forked from. Make another one in this process."
            )

    # -- what is private in multiprocessing, and read by many all the same ----------------------

    def _repopulate_pool(self) -> None:
        """Start the workers that are missing, before there is work for them."""
        if self._on == "processes":
            self._executor._populate()

    @property
    def _pool(self) -> list[PoolWorker]:
        """The workers that there are now."""
        if self._on == "threads":
            return [
                PoolWorker(self._flows.pid, f"thread {n}", lambda _: True)
                for n in range(self._processes)
            ]
        return [
            PoolWorker(pid, f"process {pid}", self._executor._serves)
            for pid in self._executor._pids()
        ]


def _checked(chunksize: int | None) -> int | None:
    if chunksize is not None and chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
    return chunksize
