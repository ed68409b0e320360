"""How commands end: by themselves, at their time limit, or because nobody wants them any more.

    running ── limit ──▶ SIGTERM to the group ── grace ──▶ SIGKILL ──▶ exited ─┐
            ── exits ────────────────────────────────────────────────▶ exited ─┤
                                                                               ▼
                           both pipes at their end, or DRAIN_SECONDS later ──▶ over

Who left its group, or was only just being started, is found by the token in its environment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from piecework.executors import command_guard
from piecework.executors.command_child import Child
from piecework.executors.command_fan import Fan
from piecework.lean import signal, suppress
from piecework.loop import Timer

DRAIN_SECONDS = 0.5  # after its exit, for others that hold its pipes: a daemon holds them for ever
KILL_SECONDS = 0.4  # from SIGTERM to SIGKILL where the whole run is to be gone
_LOOK_SECONDS = 0.1
_LOOK_SHARE = 100  # of the time, at most one part goes into looking
_OLD = 0.03  # seconds that a command runs before it is looked at
_NEVER = float("inf")


class Ends:
    """Ends commands in time. `over(child)` is called when time alone has changed one."""

    def __init__(
        self,
        fan: Fan,
        changed: Callable[[Child], object],
        swept: Callable[[], object],
        time_limit: Callable[[], float | None] | None,
    ) -> None:
        self._fan = fan
        self._loop = fan.loop
        self._changed = changed
        self._swept = swept
        self._time_limit = time_limit
        self._children: set[Child] = set()
        self._timer: Timer | None = None
        self._look_at = 0.0
        self._sweeps: set[int] = set()
        self._to_sweep: dict[str, Callable[[], bool]] = {}

    # -- what happens to a command ------------------------------------------------------------

    def started(self, child: Child) -> None:
        """Look after it from now on."""
        self._children.add(child)
        now = time.perf_counter()
        self._wake_at(min(now + _LOOK_SECONDS, self._deadline(child)))

    def forget(self, child: Child) -> None:
        """It is over, and settled."""
        self._children.discard(child)
        if child.why in ("timeout", "memory", "trouble", "back"):
            self.sweep(child.token)
        elif self._to_sweep:
            for token, busy in list(self._to_sweep.items()):
                if not busy():
                    del self._to_sweep[token]
                    self.sweep(token)

    def end(self, child: Child, why: str) -> None:
        """End it and all of its group: now asked to, after the grace made to."""
        grace = KILL_SECONDS
        if why == "timeout":
            grace = child.work.call.command.grace_seconds
        elif why == "memory":
            grace = 0.0  # it may be taking another GB a second
        kill_at = time.perf_counter() + grace
        if child.why:  # it is being ended already: at most sooner
            child.kill_at = min(child.kill_at, kill_at)
        else:
            child.why, child.kill_at = why, kill_at
            if child.exited:  # only its pipes are held; there is nothing left to signal
                child.deaf()
                self._changed(child)
                return
            child.watch()
            child.signal(signal.SIGTERM)
            child.signal(signal.SIGCONT)  # a stopped one would not notice
        self._wake_at(child.kill_at)

    def is_over(self, child: Child) -> bool:
        """Whether nothing more is to be expected of it."""
        if not child.exited:
            return False
        if child.why:
            # Others of its group may still be cleaning up; those who print are waited for.
            return child.silent
        if child.silent:
            return True
        if child.drain_until == _NEVER:
            child.drain_until = time.perf_counter() + DRAIN_SECONDS
            self._wake_at(child.drain_until)
        return False

    def _deadline(self, child: Child) -> float:
        """When something must be done about it, as things stand."""
        if child.exited:
            return child.kill_at if child.why else child.drain_until
        if child.why:
            return child.kill_at
        limit = self._limit(child)
        return _NEVER if limit is None else child.began + limit

    def _limit(self, child: Child) -> float | None:
        limit = child.work.call.time_limit
        if self._time_limit is not None:
            told = self._time_limit()
            limit = told if limit is None or told is None else min(limit, told)
        return limit

    # -- time ---------------------------------------------------------------------------------

    def _wake_at(self, when: float) -> None:
        timer, seconds = self._timer, when - time.perf_counter()
        if timer is not None and timer.fn is not None:
            if timer.when <= time.monotonic() + seconds:
                return
            timer.cancel()
        self._timer = self._loop.call_later(max(0.0, seconds), self._tick)

    def _tick(self) -> None:
        self._timer = None
        began, before = time.perf_counter(), time.thread_time()
        looking = began >= self._look_at
        for child in list(self._children):
            if self._deadline(child) <= began:
                self._late(child)
            elif looking and began - child.began > _OLD:
                child.watch()
                child.look()
                self._weigh(child)
        if looking:
            took = time.thread_time() - before
            self._look_at = began + max(_LOOK_SECONDS, _LOOK_SHARE * took)
        if self._children:
            self._wake_at(min(self._look_at, *map(self._deadline, self._children)))

    def _weigh(self, child: Child) -> None:
        """End it where it holds more, with all that it has started, than it may."""
        limit = child.work.call.memory
        if limit is None or child.why or child.exited:
            return
        from piecework.executors import memory  # few runs have a limit

        pids = memory.family(child.pid)
        if memory.rough(pids) <= limit:
            return
        held = memory.exact(pids, forked=False)
        if held > limit:
            child.peak = max(child.peak, held)
            child.over_memory = (held, limit)
            self.end(child, "memory")

    def _late(self, child: Child) -> None:
        if not child.why and not child.exited:
            child.limit = self._limit(child)
            self.end(child, "timeout")
        elif not child.why:
            child.deaf()
            self._changed(child)
        else:
            child.kill_at = _NEVER
            child.signal(signal.SIGKILL)
            if child.exited:
                child.deaf()
                self._changed(child)

    # -- who left its group -------------------------------------------------------------------

    @property
    def sweeping(self) -> bool:
        return bool(self._sweeps or self._to_sweep)

    def sweep(self, token: str, busy: Callable[[], bool] = lambda: False) -> None:
        """Kill whoever has this token in the environment, once it is not `busy` any more."""
        if busy():
            self._to_sweep[token] = busy
            return
        with suppress(OSError):  # no process can be started just now
            pid = command_guard.sweep(token)
            if pid is not None:
                self._sweeps.add(pid)
                self._watch(pid)

    def _watch(self, pid: int) -> None:
        try:
            fd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            self._check(pid, -1)
        else:
            self._fan.add(fd, lambda: self._check(pid, fd))

    def _check(self, pid: int, fd: int) -> None:
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:
            ended = pid
        if ended:
            if fd >= 0:
                self._fan.close(fd)
            self._sweeps.discard(pid)
            self._swept()
        elif fd < 0:
            self._loop.call_later(0.02, self._check, pid, fd)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
