"""CommandExecutor: child commands as tasks, as many at once as there are slots, in one thread.

    submit_batch ──▶ Work ── a slot is free, the gate is open ──▶ Child ── posix_spawn ──▶ process
                                                                   │ ▲                    group
         report ◀── CommandResult or Failure ◀── _settle ◀─ exited ┘ └── pidfd, pipes ◀──┘

Nothing here waits: starting, feeding, listening and ending are events of the control loop. Every
command has a process group of its own, so that all of it can be ended, and a Guard ends them all
should this process be killed.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable

from piecework.captured import Folder
from piecework.commands import Command
from piecework.errors import UsageError
from piecework.executors import command_spawn
from piecework.executors.command_child import Child
from piecework.executors.command_ends import Ends
from piecework.executors.command_fan import Fan
from piecework.executors.command_guard import Guarded
from piecework.executors.command_start import Starter
from piecework.executors.command_stream import pipe_bytes
from piecework.executors.command_verdict import Verdicts, hit_with_us, result_of
from piecework.executors.command_watcher import Told
from piecework.executors.command_work import NEVER_STARTED, Call, Work
from piecework.executors.cores import cores
from piecework.failures import failure_from
from piecework.loop import Loop, Timer
from piecework.task import Batch, Failure, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

_AGAIN_SECONDS = 0.05  # where no descriptor or process is to be had and nothing of ours runs
_PATIENCE_SECONDS = 0.001
_TRIES_MAX = 60  # then it is a failure


class CommandExecutor:
    """Runs commands made by `piecework.command`, `max_workers` at once (as many as cores).

    `watcher` is told of every start and end, and of the output in whole lines if it has a method
    `output`. `gate(running)` is asked before each start: after how many seconds to ask again, 0
    to start now. `time_limit()` gives the seconds that a command may take, and is asked again while
    they run. With `inherit` they print where this process prints, and nothing is captured; without
    `capture` only the end of standard error is kept.
    """

    name = "commands"

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        watcher: Any = None,
        gate: Callable[[int], float] | None = None,
        time_limit: Callable[[], float | None] | None = None,
        inherit: bool = False,
        capture: bool = True,
    ) -> None:
        self.slots = cores() if max_workers is None else max_workers
        if self.slots < 1:
            raise UsageError(f"max_workers is {max_workers!r}. Give a number of at least 1.")
        self.loop = Loop("piecework-commands")
        # Starting a command holds the interpreter for as long as a switch of threads takes: a
        # consumer that comes straight back does it itself.
        self.loop.patience = _PATIENCE_SECONDS
        self.loop.on_error = self._broke
        self.loop.on_fork = self._forked
        self._gate = gate
        self._told = Told(watcher)
        self._token = os.urandom(12).hex()
        self._fan = Fan(self.loop)
        self._folder = Folder()
        self._ends = Ends(self._fan, self._changed, self._free_if_over, time_limit)
        self._verdicts = Verdicts()
        self._starter = Starter(
            self._fan, self._folder, self._told, self._changed, inherit=inherit, capture=capture
        )
        self._guard = Guarded(self._fan, self.slots, self._token, self._folder)
        self._open: deque[Work] = deque()  # with positions that wait
        self._works: set[Work] = set()
        self._running: dict[int, Child] = {}  # by slot
        self._free = list(range(1, self.slots + 1))
        self._again: Timer | None = None
        self._tries = 0  # to start one where none ran, in a row
        self._submitted = itertools.count()
        self._calls = itertools.count(1)
        self._scheduled = False
        self._closed = self._freed = False
        _live.add(self)

    def __enter__(self) -> CommandExecutor:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Waits for all work, as the standard library does; after Ctrl-C only for what runs."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.shutdown(wait=True, cancel_futures=interrupted)

    # -- the standard contract ----------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run one command for one input; the future's result is its CommandResult."""
        if len(args) != 1 or kwargs:
            raise TypeError(f"a command takes one input, and got {len(args) + len(kwargs)}")
        call = self.prepare(fn)
        number = next(self._submitted)
        from piecework.executors.future import TaskFuture  # its import costs what a run saves

        future = TaskFuture(self.loop)

        def settle(report: Report) -> None:
            if not future.set_running_or_notify_cancel():
                return
            failure = report.failures.get(0)
            if failure is None:
                self.loop.after(future.set_result, report.values[0])
            else:
                self.loop.after(future.fail, failure)

        self.submit_batch(call, Batch(number, range(number, number + 1), list(args)), settle)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self.loop.entered():
            self._closed = True
            if cancel_futures:
                for work in list(self._works):
                    work.give_up()
                    self._check_over(work)
            self._free_if_over()
        if wait:
            self.loop.drive(lambda: self._freed)

    # -- batches ------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """Commands that run."""
        return len(self._running)

    @property
    def running(self) -> list[tuple[int, int, float, list[str]]]:
        """Index, process id, seconds since 1970 and words of the commands that run, by slot."""
        with self.loop.lock:
            return [
                (child.index, child.pid, child.started, child.words)
                for _, child in sorted(self._running.items())
            ]

    def prepare(
        self,
        fn: Callable[..., Any],
        *,
        star: bool = False,
        task_timeout: float | None = None,
        max_memory: int | str | None = None,
    ) -> Call:
        """UsageError for what is no Command, and for a program that does not exist."""
        if not isinstance(fn, Command):
            raise UsageError(
                f'on="commands" runs a child command, and {fn!r} is none. Give '
                'piecework.command("gzip -k {}"), or choose another way to run it.'
            )
        env = {os.fsencode(k): os.fsencode(v) for k, v in fn.environment().items()}
        program = command_spawn.check(fn, env)
        token = f"{self._token}.{next(self._calls)}."
        memory = None
        if max_memory is not None:
            from piecework.options import memory_from

            memory = memory_from(max_memory)
        call = Call(fn, program, env, task_timeout, token, memory)
        call.pipe_bytes = pipe_bytes(self.slots)
        return call

    def room(self) -> int:
        return max(0, 2 * self.slots - len(self._works))

    def submit_batch(self, call: Call, batch: Batch, report: Callable[[Report], None]) -> None:
        """Open the batch to every slot; `report` is called in the control loop, once a command."""
        work = Work(call, batch, report)
        with self.loop.entered():
            if self._closed:
                raise RuntimeError("cannot schedule new batches after shutdown")
            self._works.add(work)
            call.works.add(work)
            self._open.append(work)
            self._soon()
        self.loop.start()

    def cancel(self, call: Call, *, kill: bool = False) -> None:
        """What has not started is cancelled; with `kill` what runs is ended with all it started."""
        with self.loop.entered():
            for work in list(call.works):
                work.give_up()
                self._check_over(work)
            if kill:
                for child in [c for c in self._running.values() if c.work.call is call]:
                    self._ends.end(child, "cancelled")
                self._ends.sweep(call.token, lambda: _runs(self._running, call))

    def give_back_youngest(self) -> bool:
        """End the command that was started last, to run it again later; False where none runs."""
        with self.loop.entered():
            found = [child for child in self._running.values() if not child.why]
            if not found:
                return False
            self._ends.end(max(found, key=lambda child: child.began), "back")
            return True

    # -- starting -----------------------------------------------------------------------------

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._fill)

    def _fill(self) -> None:
        """Start what waits, as far as there are slots and the gate is open."""
        self._scheduled = False
        while self._free:
            while self._open and not self._open[0].waiting:
                self._open.popleft()
            if not self._open:
                return
            if self._gate is not None and (seconds := self._gate(len(self._running))) > 0:
                self._fill_later(seconds)
                return
            if not self._start(self._open[0]):
                return

    def _fill_later(self, seconds: float) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = self.loop.call_later(seconds, self._soon)

    def _start(self, work: Work) -> bool:
        """Start the next command of this batch; False where that must wait for another's end."""
        slot = heapq.heappop(self._free)
        position = work.waiting.popleft()
        child = Child(work, position, slot, self._fan)
        try:
            self._guard.begin()
            self._starter.start(child, len(self._running))
        except OSError as error:
            heapq.heappush(self._free, slot)
            if command_spawn.not_now(error) and (self._running or self._tries < _TRIES_MAX):
                work.waiting.appendleft(position)
                if not self._running:
                    self._tries += 1
                    self._fill_later(_AGAIN_SECONDS)
                return False
            self._refuse(child, command_spawn.cannot_run(child.name, error))
            return True
        except Exception as error:  # the input does not make a command
            heapq.heappush(self._free, slot)
            self._refuse(child, failure_from(error))
            return True
        self._guard.watch(slot, child.pid)
        self._running[slot] = child
        self._tries = 0
        self._ends.started(child)
        self._told.started(child)
        return True

    def _refuse(self, child: Child, failure: Failure) -> None:
        """It could not be started."""
        self._told.finished(child, None, failure)
        child.work.tell(child.position, None, failure, f"slot {child.slot}")
        self._check_over(child.work)

    # -- ending -------------------------------------------------------------------------------

    def _changed(self, child: Child) -> None:
        """It has exited, or printed its last, or cannot be listened to."""
        if child.ended:
            return
        if child.trouble and not child.why:
            self._ends.end(child, "trouble")
        elif self._ends.is_over(child):
            self._settle(child)

    def _settle(self, child: Child) -> None:
        child.ended = True
        self._guard.forget(child.slot)
        child.end()
        del self._running[child.slot]
        self._ends.forget(child)
        heapq.heappush(self._free, child.slot)
        if child.why == "back" or (hit_with_us(child) and child.position not in child.work.repeats):
            self._take_back(child)
        else:
            # The next one first: while it starts on another core, this one is told of. Not after
            # a failure, which may be the one that halts the run.
            if child.status in child.work.call.command.ok and not child.why:
                self._fill()
            self._tell(child)
        self._check_over(child.work)
        self._soon()

    def _take_back(self, child: Child) -> None:
        work = child.work
        if work.given_up:
            work.tell(child.position, None, NEVER_STARTED, "")
            return
        work.waiting.appendleft(child.position)
        work.repeats[child.position] = work.repeats.get(child.position, 0) + 1
        if work not in self._open:
            self._open.appendleft(work)

    def _tell(self, child: Child) -> None:
        """Report what came of it."""
        result = result_of(child)
        failure = self._verdicts.failure_of(child, result)
        self._told.finished(child, result, failure)
        child.work.tell(
            child.position,
            result if failure is None else None,
            failure,
            f"command {child.pid}",
            child.seconds,
            nbytes=result.out.weight + result.err.weight,
            cpu=result.cpu_seconds,
        )

    def _check_over(self, work: Work) -> None:
        if not work.left and work in self._works:
            self._works.discard(work)
            work.call.works.discard(work)
            self._free_if_over()

    # -- the end ------------------------------------------------------------------------------

    def _free_if_over(self) -> None:
        if self._closed and not self._works and not self._ends.sweeping and not self._freed:
            self._freed = True
            self._ends.close()
            self._starter.close()
            self._guard.close()
            self._fan.end()
            self._folder = self._starter.folder = None  # type: ignore[assignment]
            self.loop.after(self.loop.close)

    def _broke(self, error: BaseException) -> None:
        """A fault of ours: what is under way fails with it, rather than wait for ever."""
        failure = failure_from(error)
        for child in list(self._running.values()):
            child.why = child.why or "cancelled"
            child.ended = True
            child.hush()
            child.end()
            heapq.heappush(self._free, child.slot)
            child.work.tell(child.position, None, failure, f"command {child.pid}")
        self._running.clear()
        for work in list(self._works):
            while work.waiting:
                work.tell(work.waiting.popleft(), None, failure, "")
            self._check_over(work)

    def _forked(self) -> None:
        """In a forked child of this process: the commands are the parent's."""
        self._fan.forked()
        self._guard.forked()
        self._closed = self._freed = True
        self._running.clear()
        self._works.clear()


def _runs(running: dict[int, Child], call: Call) -> bool:
    return any(child.work.call is call for child in running.values())


_live: weakref.WeakSet[CommandExecutor] = weakref.WeakSet()


def _finish_all() -> None:
    for executor in list(_live):
        executor.shutdown()


threading._register_atexit(_finish_all)  # type: ignore[attr-defined]  # as the standard pools do
