"""Inputs of a run that goes on, or that names them itself: what is done is told from what is not.

    Swift or Feeder ── take ──▶ Recall.match ──▶ segments ── recalled(), take() ──▶ Master

In a thread of its own, for it reads the disk and may call the user's `key`; where tasks run in the
caller, there. It keeps ahead of the master by what that asks for, and no more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from piecework.feeder import Feeder, Swift, is_swift
from piecework.journal.again import Again
from piecework.journal.identity import digests
from piecework.journal.recall import Recall
from piecework.journal.segments import Fresh, Known, Segment, inputs_of, pickled, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_AT_ONCE = 4096
_AT_FIRST = 8  # nobody knows yet how large the values are
_GROWTH = 4
_AT_ONCE_BYTES = 16 << 20
_AHEAD_BYTES = 32 << 20
_IDLE_SECONDS = 60.0


class Recalling:
    """A Source whose head is either a piece that is known, or inputs that are to be run."""

    def __init__(
        self,
        inputs: Iterable[Any],
        recall: Recall | Again | None,
        key: Callable[[Any], object] | None,
        tell: Callable[[], object],
    ) -> None:
        self.error: BaseException | None = None
        self.taken: Fresh | None = None  # what `take` gave last, with its ids
        self.poll_seconds = None
        self._recall = recall
        self._key = key
        self._tell = tell
        self._told = False
        self._feeder = None if is_swift(inputs) else Feeder(inputs, self._wake)
        self._inner = self._feeder or Swift(inputs)
        self.total = self._inner.total
        self._segments: deque[Segment] = deque()
        self._held: deque[Segment] = deque()  # nobody knows yet if these inputs are the right ones
        self._have = 0
        self._wanted = 0
        self._bytes = 0  # of the values that are known and not taken
        self._pace = _AT_FIRST
        self._over = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Draw in a thread; without it, whoever waits calls `step`."""
        if self._feeder is not None:
            self._feeder.start()
        self._thread = threading.Thread(target=self._run, name="piecework-recall", daemon=True)
        self._thread.start()

    # -- the master's side --------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        return self._over and not self._segments

    @property
    def ahead(self) -> int:
        return max(self._have, 0 if self._over else self._wanted)

    def recalled(self) -> Known | None:
        """What comes next, if that is known; its inputs are drawn with it."""
        with self._changed:
            if self._segments and type(self._segments[0]) is Known:
                known = self._segments.popleft()
                assert type(known) is Known
                self._have -= len(known.piece)
                if self._bytes > _AHEAD_BYTES >= self._bytes - known.piece.nbytes:
                    self._changed.notify()
                self._bytes -= known.piece.nbytes
                return known
            return None

    def take(self, most: int, more: int = 0) -> list[Any]:
        with self._changed:
            self._want(most + more)
            head = self._segments[0] if self._segments else None
            if head is None or type(head) is not Fresh:
                return []
            if len(head.inputs) <= most:
                self._segments.popleft()
                self.taken = head
            else:
                self.taken, self._segments[0] = split(head, most)
            self._have -= len(self.taken.inputs)
            return self.taken.inputs

    def _want(self, number: int) -> None:
        self._wanted = number
        if self._have < number:
            self._changed.notify()

    def close(self) -> list[Any]:
        with self._changed:
            self._closed = self._over = True
            rest = [item for segment in self._segments for item in inputs_of(segment)]
            rest += [item for segment in self._held for item in inputs_of(segment)]
            self._segments.clear()
            self._held.clear()
            self._have = self._bytes = 0
            self._changed.notify()
        rest += self._inner.close()
        if self._thread is None:
            self._free()
        return rest

    # -- the drawing side ---------------------------------------------------------------------

    def _wake(self) -> None:
        """The feeder has something."""
        with self._changed:
            self._told = True
            self._changed.notify()
        if self._thread is None:
            self._tell()

    def _run(self) -> None:
        while not self._over:
            with self._changed:
                while not self.wanting and not self._over:
                    self._changed.wait(_IDLE_SECONDS)
            if not self._draw() and not self._over:
                self._await_feeder()
        self._free()

    def _await_feeder(self) -> None:
        seconds = self._inner.poll_seconds
        with self._changed:
            if not self._told and not self._over:
                self._changed.wait(_IDLE_SECONDS if seconds is None else seconds)
            self._told = False

    @property
    def wanting(self) -> bool:
        """Whether `step` has something to do."""
        if self._over or self._bytes > _AHEAD_BYTES:
            return False
        return self._have < self._wanted or bool(self._held)

    def step(self) -> bool:
        """Draw some of what is wanted; False where nothing is."""
        if not self.wanting:
            return False
        if self._feeder is not None:
            self._feeder.step()
        return self._draw() or self._over

    def _draw(self) -> bool:
        """Take from the inner source and look what is known of it; False where it had nothing."""
        wanted = _AT_ONCE if self._held else self._wanted - self._have
        items = self._inner.take(min(max(1, wanted), self._pace))
        ended = self._inner.ended
        if not items and not ended:
            return False
        try:
            segments = self._examined(items)
            if self._recall is not None:
                self._recall.check(ended=ended)
        except BaseException as error:
            self._fail(error)
            return True
        if ended:
            self._free()  # before the run can end: who still reads keeps a log beside the journal
        with self._changed:
            if not self._closed:
                self._add(segments, ended)
        self._tell()
        return True

    def _examined(self, items: list[Any]) -> list[Segment]:
        if not items:
            return []
        if self._recall is not None:
            return self._recall.match(items)
        return [Fresh(items, digests(items, self._key), pickled(items), {})]

    def _add(self, segments: list[Segment], ended: bool) -> None:
        if ended:
            self.error = self._inner.error
        self._held.extend(segments)
        count = sum(len(inputs_of(segment)) for segment in segments)
        nbytes = sum(segment.piece.nbytes for segment in segments if type(segment) is Known)
        self._have += count
        self._bytes += nbytes
        most = min(_AT_ONCE, count * _AT_ONCE_BYTES // nbytes if nbytes else _AT_ONCE)
        self._pace = max(1, min(self._pace * _GROWTH, most))
        recall = self._recall
        if recall is None or not recall.undecided:
            self._segments.extend(self._held)
            self._held.clear()
        self._over = ended

    def _fail(self, error: BaseException) -> None:
        if self._thread is None and isinstance(error, KeyboardInterrupt):
            raise error
        self._free()
        with self._changed:
            self._held.clear()
            self.error = error
            self._over = True
        self._tell()

    def _free(self) -> None:
        recall, self._recall = self._recall, None
        if recall is not None:
            recall.close()
