"""An asyncio event loop in a thread: it starts with its first work and ends once it is closed.

    add ──▶ incoming ──▶ CoroutineSlots ──▶ idle and closed? the thread ends

At the end of the interpreter every event loop is closed and waited for, as the standard library
does with its threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

# Imported before our exit hook is registered: coroutines that still run when the interpreter ends
# may use threads, whose own hook must come after ours.
import concurrent.futures.thread  # isort: skip  # noqa: F401

from piecework.errors import UsageError
from piecework.executors import share
from piecework.executors.cores import part
from piecework.executors.coroutine_calls import Submitted, contained, end_loop
from piecework.executors.coroutine_slots import CoroutineSlots, Work
from piecework.losses import ExecutorBroken

_AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
_AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"


class EventLoop:
    """Takes work from any thread and runs it as coroutines, `limit` at most at once."""

    def __init__(
        self,
        limit: int,
        name: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        self._limit = limit
        self._name = name
        self._initializer = initializer
        self._initargs = initargs
        self._share = part(limit)
        self._lock = threading.RLock()  # a finalizer may come in at any point
        self._incoming: deque[tuple[Work, float | None]] = deque()
        self._awake = False  # a wake-up is on its way: no second one is needed
        self._ready = False
        self._why_closed = ""
        self._broken: ExecutorBroken | None = None
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._slots: CoroutineSlots
        _event_loops.add(self)

    @property
    def closed(self) -> bool:
        return bool(self._why_closed)

    @property
    def inside(self) -> bool:
        """True in a coroutine that runs on it."""
        return self._thread is threading.current_thread()

    # -- from any thread ----------------------------------------------------------------------

    def add(self, work: Work, task_timeout: float | None) -> None:
        """Run it; RuntimeError once closed, ExecutorBroken where the initializer failed."""
        with self._lock:
            if self._broken is not None:
                raise ExecutorBroken(*self._broken.args)
            if self._why_closed:
                raise RuntimeError(self._why_closed)
            if self._pid != os.getpid():
                raise UsageError(
                    "this executor's event loop is in the process that forked this one. "
                    "Make an executor here."
                )
            if self._thread is None:
                self._start()
            self._incoming.append((work, task_timeout))
            if self._awake:
                return
            self._awake = True
        self._loop.call_soon_threadsafe(self._take_in)

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._slots = CoroutineSlots(self._loop, self._limit, self._end_if_closed)
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def end_running(self, work: Work | None = None) -> None:
        """Cancel what runs of it, or of everything."""
        self._call(lambda: self._slots.end_running(work))

    def give_up_unstarted(self) -> None:
        """Cancel what has not started."""
        if self._thread is None:
            return
        with self._lock:
            waiting = [work for work, _ in self._incoming]
        for work in waiting + self._slots.unstarted():
            work.give_up()
        self._call(self._take_in)

    def close(self, why: str = _AFTER_SHUTDOWN) -> None:
        """Take nothing new; the thread ends when all it was given has ended.

        No lock is taken: this runs as a finalizer, at any point of any thread.
        """
        self._why_closed = self._why_closed or why
        self._call(self._take_in)

    def join(self) -> None:
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join()

    def _call(self, fn: Callable[..., object], *args: Any) -> None:
        if self._thread is not None and self._pid == os.getpid():
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(fn, *args)

    # -- in the thread ------------------------------------------------------------------------

    def _take_in(self) -> None:
        if not self._ready:  # the initializer is running on this event loop
            return
        with self._lock:
            self._awake = False
            fresh = list(self._incoming)
            self._incoming.clear()
        share.enter(self._share)  # whatever this event loop runs from here on inherits it
        for work, task_timeout in fresh:
            future = work.future if isinstance(work, Submitted) else None
            self._slots.add(work, work.outbox(self._name), task_timeout, future)
        self._end_if_closed()

    def _end_if_closed(self) -> None:
        if self._ready and self._why_closed and self._slots.idle and not self._incoming:
            self._loop.stop()

    def _run(self) -> None:
        try:
            if self._initialize():
                self._turn()
        finally:
            self._ready = False  # a late word must not stop what ends the event loop
            end_loop(self._loop)

    def _turn(self) -> None:
        self._ready = True
        self._loop.call_soon(self._take_in)
        while not (self._why_closed and self._slots.idle and not self._incoming):
            # Tasks that the user's coroutines create are not ours to guard: asyncio lets their
            # SystemExit end the event loop, and here it goes on.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()

    def _initialize(self) -> bool:
        if self._initializer is None:
            return True
        failed = self._loop.run_until_complete(contained(self._initializer, self._initargs))
        if failed is None:
            return True
        logging.getLogger("concurrent.futures").critical(
            "Exception in initializer:", exc_info=failed
        )
        error = ExecutorBroken(f"the initializer failed: {type(failed).__name__}: {failed}")
        with self._lock:
            self._broken = error
            waiting = [work for work, _ in self._incoming]
            self._incoming.clear()
        for work in waiting:
            work.fail(ExecutorBroken(*error.args))
        return False


_event_loops: weakref.WeakSet[EventLoop] = weakref.WeakSet()


def _at_exit() -> None:
    loops = list(_event_loops)
    for loop in loops:
        loop.close(_AFTER_EXIT)
    for loop in loops:
        loop.join()


_register = getattr(threading, "_register_atexit", None)
if _register is not None:  # as concurrent.futures does: while threads can still be started
    _register(_at_exit)
else:
    import atexit

    atexit.register(_at_exit)
