"""Who listens to the worker processes of one executor: reads their pipes, hands on whole lines.

    pipe readable, or a result comes ──▶ Printed.read ──▶ console ── full? ──▶ hold: nobody prints
                                                             └─ room again ──▶ go on

While the console is full the workers' prints wait and the pipes are not read, so output that
nobody takes stops those who print and grows nowhere. Results are read all the same: whoever does
not print goes on.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from piecework.loop import READ, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from piecework.executors.printed import Printed
    from piecework.executors.results import Outcome
    from piecework.executors.work import Work
    from piecework.executors.worker_process import Line, WorkerProcess

LITTLE_BYTES = 1 << 14  # less than this at once: the pipe fills for a while before it is looked at
REST_SECONDS = 0.005
LEFT_OVER_MAX = 32  # pipes of dead workers that something they had started may still write to


class Hearing:
    """All methods with the loop's lock held."""

    def __init__(self, loop: Loop, *, one_slot: bool) -> None:
        self.held = False
        self._loop = loop
        self._one_slot = one_slot
        self._tagged = False
        self._open: list[Printed] = []
        self._left_over: list[Printed] = []

    def tag(self) -> None:
        """The executor runs a map: what no task has printed is marked with its worker."""
        if not self._tagged:
            self._tagged = True
            for printed in self._open:
                printed.tagged = True

    def listen(self, worker: WorkerProcess) -> None:
        """A worker has been made; from here on its pipes are read."""
        printed = worker.printed
        printed.tagged, printed.one_slot, printed.heard = self._tagged, self._one_slot, True
        self._open.append(printed)
        if self.held:
            printed.hold(True)
        else:
            self._watch(printed)

    def _watch(self, printed: Printed) -> None:
        if not printed.watched and not self.held:
            printed.watched = True
            for fd in printed.fds:
                if fd >= 0:
                    self._loop.register(fd, READ, partial(self._on_readable, printed))

    def _unwatch(self, printed: Printed) -> None:
        if printed.watched:
            printed.watched = False
            for fd in [*printed.fds, *printed.ended]:
                if fd >= 0:
                    self._loop.unregister(fd)

    def _on_readable(self, printed: Printed, _events: int) -> None:
        size = 0
        if printed.named:
            size = printed.read()
            self._hand_on(printed)
        # A turn for every line would cost more than the line; but whose it is what was written past
        # the records, only the moment tells.
        if size < LITTLE_BYTES and not printed.raw:
            self._unwatch(printed)
            self._loop.call_later(REST_SECONDS, self._watch, printed)

    def hear(self) -> None:
        """Read what is there."""
        for printed in [*self._open, *self._left_over]:
            printed.read()
            self._hand_on(printed)

    def results_came(self, line: Line, outcome: Outcome) -> None:
        """Before a result is handed on: what its task has printed."""
        printed = line.worker.printed
        if printed.behind or outcome.failures or not printed.watched:
            printed.read()
        if printed.active:
            printed.settle(line, outcome)
        if printed.said or printed.ended:
            self._hand_on(printed)

    def died(self, worker: WorkerProcess) -> dict[tuple[Work, int], str]:
        """What the tasks of a dead worker have printed last, by work and position."""
        printed = worker.printed
        words = printed.last_words()
        self._hand_on(printed)
        self._open.remove(printed)
        if max(printed.fds) >= 0:  # something that it has started lives on
            self._left_over.append(printed)
            if len(self._left_over) > LEFT_OVER_MAX:
                self._close(self._left_over[0])
        return words

    def _close(self, printed: Printed) -> None:
        printed.ended += [fd for fd in printed.fds if fd >= 0]
        printed.fds = [-1, -1]
        self._hand_on(printed)

    def _hand_on(self, printed: Printed) -> None:
        while printed.ended:
            fd = printed.ended.pop()
            if printed.watched:
                self._loop.unregister(fd)
            os.close(fd)
            if printed.over and max(printed.fds) < 0 and printed in self._left_over:
                self._left_over.remove(printed)
        said, printed.said = printed.said, []
        if not said:
            return
        from piecework.console import CONSOLE

        for kind, item in said:
            if kind == "log":
                CONSOLE.log(*item)
            else:
                CONSOLE.put(kind, item)
        if CONSOLE.full and not self.held:
            self._hold()
            CONSOLE.when_room(partial(self._loop.call_soon, self._go_on))

    def _hold(self) -> None:
        self.held = True
        for printed in self._open:
            printed.hold(True)
        for printed in self._open + self._left_over:
            self._unwatch(printed)

    def _go_on(self) -> None:
        if not self.held or self._loop.closed:
            return
        self.held = False
        for printed in self._open:
            printed.hold(False)
        for printed in self._open + self._left_over:
            self._watch(printed)

    @staticmethod
    def written() -> None:
        """Return when all that was heard is written; without the lock."""
        console = sys.modules.get("piecework.console")
        if console is not None:
            console.CONSOLE.flush()

    def close(self) -> None:
        """The executor has ended: what is left over has nobody to speak to."""
        for printed in list(self._left_over):
            printed.read()
            self._close(printed)

    def forked(self) -> None:
        """In a forked child: the pipes are the parent's."""
        for printed in self._open + self._left_over:
            printed.forget()
