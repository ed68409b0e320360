"""The control loop: one per executor, turned by whoever waits, else by a thread of its own.

    caller waiting for a result ──drive()──┐
                                           ├─▶ inner selector: channels, wake-up ─▶ callbacks
    background thread ──outer selector─────┘   (always with `lock` held)

A result that has to pass through a background thread costs two thread switches (450 to 810 µs
measured), one that the waiting caller fetches itself costs none (about 100 µs). So the caller
takes the loop over: the background thread sleeps on an *outer* selector that contains the inner
one, and a driver takes the inner one out of it for as long as it drives. Nobody is woken by that.

Rules:
1. Callbacks run with `lock` held, one at a time, and neither block nor run user code.
2. What users may see (callbacks of futures) goes through `after` and runs without the lock.
3. A callback may be called when there is nothing to read (two threads saw the same event).
4. Signal handlers of the main thread are held back while it drives and run between two turns:
   a KeyboardInterrupt can never tear the state in the middle of a change. A second signal of the
   same kind breaks into a callback of users that takes its time: only there it tears nothing.
"""

from __future__ import annotations

import heapq
import os
import selectors
import sys
import threading
import time
import weakref
from collections import deque

from piecework.lean import (
    signal,  # the standard one wraps each handler in enums: ten times slower
    suppress,
)
from piecework.spin import Spin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

_HELD = tuple(
    int(getattr(signal, name))
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
_FOREVER = float("inf")
_SLACK = 0.005  # how much later than meant a timer may run when a driver has just left


class Timer:
    """A callback that will run once at `when` (monotonic seconds), unless cancelled before."""

    __slots__ = ("args", "fn", "when")

    def __init__(self, when: float, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.when = when
        self.fn: Callable[..., object] | None = fn
        self.args = args

    def cancel(self) -> None:
        self.fn = None
        self.args = ()

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class _HeldSignals:
    """Holds back the Python signal handlers of the main thread while it drives the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._saved: dict[int, Any] = {}
        self._handlers: dict[int, Any] = {}
        self.arrived: list[tuple[int, FrameType | None]] = []

    def hold(self) -> None:
        for number in _HELD:
            handler = signal.getsignal(number)
            if callable(handler):
                self._saved[number] = self._handlers[number] = handler
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._loop.telling and any(number == before for before, _ in self.arrived):
            self._loop.broke_in = True
            self._handlers[number](number, frame)
            return
        self.arrived.append((number, frame))
        self._loop.wake()

    def release(self) -> None:
        """Put the handlers back, all of them, although one that is back may raise already."""
        try:
            while self._saved:
                number, handler = self._saved.popitem()  # SIGINT, held first, comes last
                signal.signal(number, handler)
        finally:
            if self._saved:
                self.release()

    def finish(self) -> None:
        """Release, then call the handlers whose signal came; they may raise."""
        try:
            self.release()
        finally:
            self._call()

    def _call(self) -> None:
        arrived, self.arrived = self.arrived, []
        raised = None
        for number, frame in arrived:
            try:
                self._handlers[number](number, frame)
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised


class _Entered:
    """See `Loop.entered`."""

    __slots__ = ("_held", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._held: _HeldSignals | None = None

    def __enter__(self) -> None:
        if threading.get_ident() == _main_ident:
            self._held = _HeldSignals(self._loop)
            try:
                self._held.hold()
            except BaseException:
                self._held.release()
                raise
        self._loop.lock.acquire()
        self._loop.depth += 1

    def __exit__(self, *_: object) -> None:
        loop, held = self._loop, self._held
        loop.depth -= 1
        inner = loop.depth or loop.turner == threading.get_ident()
        loop.lock.release()
        try:
            if not inner:  # else whoever released the lock last does
                loop.run_after()
        finally:
            if held is not None:
                held.finish()


class Loop:
    """Waits for channels and timers, and calls back; see the rules on top of this file.

    With `spin` a driver looks a little before it sleeps: only where tasks run in other processes,
    for in this one it would take the interpreter from them. `on_error` is called, with the lock
    held, when a callback raises: a fault of ours, which must fail what is waiting rather than
    leave it waiting.
    """

    def __init__(self, name: str = "piecework", *, spin: bool = False) -> None:
        self.name = name
        self._spin = Spin() if spin else None
        self.lock = threading.RLock()
        self.on_error: Callable[[BaseException], None] = _reraise
        self.on_fork: Callable[[], None] = _nothing
        self.closed = False
        self._inner = selectors.DefaultSelector()
        self._outer = selectors.DefaultSelector()
        self._wake_read, self._wake_write = _wake_pair()
        self._inner.register(self._wake_read, READ, self._drain_wake)
        self._inner_fd: int = self._inner.fileno()  # epoll and kqueue have one
        self._outer.register(self._inner_fd, READ)
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._after: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._timers: list[Timer] = []
        self._driven = 0  # the thread that drives
        self.patience = 0.0  # seconds that the background thread leaves to a driver to come back
        self._turned = threading.Condition(self.lock)
        self._others = 0  # threads that wait while another one drives
        self._awake = False  # a wake-up is on its way: no second one is needed
        self.depth = 0  # of `entered`, in the thread that has the lock
        self.broke_in = False  # a signal handler ran, and may have raised, in a callback of users
        self._in_after = False  # of the main thread
        self.turner = 0  # thread that runs callbacks now: it needs no wake-up
        self._thread: threading.Thread | None = None
        self._thread_until = _FOREVER  # when the background thread wakes by itself
        _loops.add(self)

    # -- what callbacks and other threads ask for ---------------------------------------------

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run `fn` in the next turn, with the lock held; from any thread."""
        self._soon.append((fn, args))
        if self.turner != threading.get_ident():
            self.wake()

    def call_later(self, seconds: float, fn: Callable[..., object], *args: Any) -> Timer:
        """Run `fn` after that many seconds, with the lock held, unless the timer is cancelled."""
        timer = Timer(time.monotonic() + seconds, fn, args)
        with self.lock:
            heapq.heappush(self._timers, timer)
            if (
                self._timers[0] is timer
                and self.turner != threading.get_ident()
                and (self._driven or timer.when < self._thread_until)
            ):
                self.wake()
        return timer

    def after(self, fn: Callable[..., object], *args: Any) -> None:
        """Run `fn` as soon as the lock is released: for what users may see and hook into."""
        self._after.append((fn, args))
        if self.turner != threading.get_ident():
            self.wake()

    def register(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        self._inner.register(fd, events, callback)

    def modify(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        self._inner.modify(fd, events, callback)

    def unregister(self, fd: int) -> None:
        self._inner.unregister(fd)

    def wake(self) -> None:
        """Make whoever waits in the selector look again; cheap, from any thread."""
        if not self._awake and not self.closed:
            self._awake = True
            with suppress(OSError):  # closed meanwhile: nobody waits
                os.write(self._wake_write, b"\1\0\0\0\0\0\0\0")

    def entered(self) -> _Entered:
        """A context: the lock is held, and the main thread's signal handlers are held back.

        Every change to what the lock guards is made inside one, or in a callback: an interrupt
        in the middle of one would leave it half done. At its end `after` is run, without the
        lock, and then the handlers whose signal came, which may raise.
        """
        return _Entered(self)

    # -- turning ------------------------------------------------------------------------------

    def drive(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Turn the loop in this thread until `done()`; False where the timeout came first.

        Any number of threads may wait this way: one turns, the others wait for its turns.
        Signal handlers may raise out of here, always between two turns.
        """
        until = _FOREVER if timeout is None else time.monotonic() + timeout
        if threading.get_ident() != _main_ident:
            return self._drive(done, until, None)
        while True:
            held = _HeldSignals(self)
            try:
                held.hold()
                over = self._drive(done, until, held.arrived)
                again = held.arrived and not over
            finally:
                held.finish()
            if not again:
                return over

    def _drive(self, done: Callable[[], bool], until: float, stop: list[Any] | None) -> bool:
        """Wait, as the driver or for another one's turns; something in `stop` ends it early."""
        while not done() and not stop:
            with self.lock:
                if self.closed:
                    break
                mine = not self._driven
                nested = self._driven == threading.get_ident()
                if mine:
                    self._driven = threading.get_ident()
                    self._outer.unregister(self._inner_fd)
                elif not nested and not self._wait_for_turn(done, until):
                    break
            if nested and not self._turn_on(done, until, stop):
                break  # a callback of the user waits: nobody else would turn
            if mine and not self._turn_until(done, until, stop):
                break
        return done()

    def _turn_until(self, done: Callable[[], bool], until: float, stop: list[Any] | None) -> bool:
        try:
            return self._turn_on(done, until, stop)
        finally:
            self._stop_driving()

    def _turn_on(self, done: Callable[[], bool], until: float, stop: list[Any] | None) -> bool:
        while not done() and not stop:
            left = until - time.monotonic()
            if left <= 0 or self.closed:
                return False
            self._turn(left, self._spin)
        return True

    def _wait_for_turn(self, done: Callable[[], bool], until: float) -> bool:
        self._others += 1
        try:
            if done():
                return True
            left = until - time.monotonic()
            # Bounded all the same: a driver that leaves hands over to the background thread.
            return left > 0 and (self._turned.wait(min(left, 0.5)) or left > 0.5)
        finally:
            self._others -= 1

    def _stop_driving(self) -> None:
        with self.lock:
            self._driven = 0
            self._outer.register(self._inner_fd, READ)  # a wake-up of close() shows now
            if self._others or self.closed:
                self._turned.notify_all()
            if self.closed:
                if self._thread is None:
                    self._free()
            elif self._timers and self._timers[0].when < self._thread_until - _SLACK:
                self.wake()

    def _turn(self, longest: float, spin: Spin | None = None) -> None:
        """Wait at most `longest` seconds for something to do, and do it."""
        events = self._look(spin) if spin is not None else None
        if not events:
            events = self._inner.select(self._wait_seconds(longest))
        with self.lock:
            outer, self.turner = self.turner, threading.get_ident()
            try:
                if not self.closed:
                    for key, mask in events:
                        if key.fd in self._inner.get_map():
                            key.data(mask)
                    self._run_timers()
                while self._soon:
                    fn, args = self._soon.popleft()
                    fn(*args)
            except BaseException as error:
                self.on_error(error)
            finally:
                self.turner = outer
        self.run_after()
        if self._others:
            with self.lock:
                self._turned.notify_all()

    def _look(self, spin: Spin) -> list[tuple[selectors.SelectorKey, int]]:
        """Look without sleeping."""
        select = self._inner.select
        spin.begin()
        while not (events := select(0)) and not self._soon and spin.goes_on():
            pass
        return events

    def run_after(self) -> None:
        """Run what waits for the lock to be released: only without the lock."""
        if not self._after:
            return
        main = threading.get_ident() == _main_ident
        ran = False
        while self._after:
            try:
                fn, args = self._after.popleft()
            except IndexError:  # another thread took it
                break
            ran = True
            self._in_after = self._in_after or main
            try:
                fn(*args)
            except BaseException:  # of the user: the next ones are waited for all the same
                if main and self.broke_in:  # the first such signal is raised when all is told
                    self.broke_in = False
                    continue
                error = sys.exc_info()
                threading.excepthook(threading.ExceptHookArgs((*error, threading.current_thread())))
            finally:
                if main:
                    self._in_after = False
        if ran and self._driven not in (0, threading.get_ident()):
            self.wake()  # the driver may wait for what was just done, and found nothing to run

    @property
    def telling(self) -> bool:
        """Whether the main thread runs what `after` was asked for, and holds nothing."""
        return self._in_after and not self.depth and self.turner != _main_ident

    def _wait_seconds(self, longest: float) -> float | None:
        if self._soon or self._after:
            return 0
        with self.lock:
            if self._timers:
                longest = min(longest, self._timers[0].when - time.monotonic())
        return None if longest == _FOREVER else max(longest, 0)

    def _run_timers(self) -> None:
        while self._timers and self._timers[0].when <= time.monotonic():
            timer = heapq.heappop(self._timers)
            if timer.fn is not None:
                timer.fn(*timer.args)

    def _drain_wake(self, _mask: int) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        # After the read: a wake-up that is skipped from here on would be for what this turn does.
        self._awake = False

    # -- the background thread ----------------------------------------------------------------

    def start(self) -> None:
        """Start the background thread, once: it turns the loop whenever nobody drives it."""
        with self.lock:
            if self._thread is None and not self.closed:
                self._thread = threading.Thread(
                    target=self._run, name=f"{self.name}-control", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while not self.closed:
            with self.lock:
                self._thread_until = self._timers[0].when if self._timers else _FOREVER
                if self._driven:  # timers are the driver's; this thread only must not be far
                    self._thread_until = max(self._thread_until, time.monotonic() + _SLACK)
            wait = self._thread_until - time.monotonic()
            with suppress(OSError, ValueError):  # closed while waiting
                self._outer.select(None if wait == _FOREVER else max(wait, 0))
            if self.patience and not self._driven:
                time.sleep(self.patience)
            if not self._driven and not self.closed:
                self._turn(0)
                self._wake_driver()
        self._free()

    def _wake_driver(self) -> None:
        """One that took over meanwhile waits for what was done just now."""
        if self._driven:
            self.wake()

    def close(self) -> None:
        """Stop the background thread and free the selectors; callbacks are not run any more."""
        with self.lock:
            if self.closed:
                return
            self._awake = False
            self.wake()
            self.closed = True
            self._turned.notify_all()
            if self._thread is None and not self._driven:
                self._free()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the background thread to end; at once from that thread itself."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _free(self) -> None:
        with self.lock:
            while self._driven:  # a driver may still be in the selector
                self._turned.wait(0.05)
            self._outer.close()
            self._inner.close()
            for fd in {self._wake_read, self._wake_write}:
                with suppress(OSError):
                    os.close(fd)

    def __del__(self) -> None:
        if not self.closed and self._thread is None:  # nobody closed it, nobody can any more
            self._free()

    def abandon(self) -> None:
        """In a forked child: close what the parent's loop has open; it lives on in the parent."""
        self.lock = threading.RLock()
        self.closed = True
        self._thread = None
        self._outer.close()
        self._inner.close()
        for fd in {self._wake_read, self._wake_write}:
            with suppress(OSError):
                os.close(fd)
        self.on_fork()


def _wake_pair() -> tuple[int, int]:
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return fd, fd
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _reraise(error: BaseException) -> None:
    raise error


def _nothing() -> None:
    return None


_loops: weakref.WeakSet[Loop] = weakref.WeakSet()
_main_ident = threading.main_thread().ident


def _abandon_all() -> None:
    global _main_ident
    _main_ident = threading.get_ident()
    for loop in list(_loops):
        if not loop.closed:
            loop.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
