"""Journal: what the master tells of a run while it goes, and what the output file tells.

    Master ── drew, settled ──▶ Journal ── entries ──▶ Writer
    Output ── commit_output ──▶    │
                                   └── Lock: how many tasks were handed out, exact at any kill

Values are pickled here, in the control loop and before the reader has them: they may be changed
afterwards. Everything else is the writer's.

What is recorded stays as it is: a task that is done or has failed for good. Not recorded, so that
a resumed run does it again: what was cancelled, what ran when we ended it ourselves, and what had
attempts left when the run was stopped. A value that cannot be pickled counts as done and is not
kept: a resumed run does that task again, and the new record takes the place of the old one.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from piecework.delivery import Piece
from piecework.errors import JournalError
from piecework.journal.again import done_at, failed_at
from piecework.journal.directory import forget_cancel, name_of
from piecework.journal.entries import Done, Drawn, Entry, Failed, Statement
from piecework.journal.identity import all_atomic, digests
from piecework.journal.opening import Opened
from piecework.journal.rows import stored
from piecework.journal.segments import Fresh, pickled
from piecework.journal.store import carry_out
from piecework.journal.writer import Writer
from piecework.journal.written import Written
from piecework.run import RunState
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ENTRY_BYTES = 200  # what an entry takes beside what is pickled in it


class Journal:
    """The journal of a run that is under way; `run.journal`."""

    def __init__(self, opened: Opened, state: RunState) -> None:
        path, begun = opened.path, opened.begun
        self.path = path
        self.name = name_of(path)
        self.in_flight = begun.again  # tasks, when earlier sessions were killed: they run again
        self.error: JournalError | None = None
        self.written = Written(path, begun.session)
        self.fixed_inputs = False  # nobody can change an input: their type says so
        self._session = begun.session
        self._lock = opened.lock
        self._state = state
        self._handed_out = 0
        self._places: dict[int, int] = {}  # index -> the place of its record, old and new
        self._before: tuple[str, int | None, int, int] | None = None  # see `try_again`
        self._replaces: dict[int, int] = {}  # index -> the place of the record it replaces
        self._unkept = 0
        self._writer = Writer(
            begun.db,
            path,
            begun.session,
            counts=self._counts,
            on_error=self._failed,
            on_room=lambda: self.on_change(),
            on_cancel=lambda how: self.on_cancel(how),
            on_end=self._closed,
        )
        self._started = False
        self._begun = time.monotonic()
        self._output = threading.RLock()
        self._over = False
        self.on: Callable[[], str] = str  # who works, as the summary says it
        self.on_change: Callable[[], object] = lambda: None  # there is room, or it has ended
        self.on_error: Callable[[JournalError], object] = lambda error: None
        self.on_cancel: Callable[[str], object] = lambda how: None  # "stop" or "kill"
        self.on_unkept: Callable[[str], object] = lambda kind: None  # the type of the first one

    # -- the master's side --------------------------------------------------------------------

    def try_again(self, why: str, inputs: int | None, drawn: int, others: int) -> None:
        """This session tries only what failed. How the run stood: why the session before ended, how
        many inputs there are, how many it drew, and how many failed ones are left out now."""
        self._before = why, inputs, drawn, others

    def start(self) -> None:
        self._started = True
        self._writer.start()

    @property
    def full(self) -> bool:
        """The disk is behind: nothing new should begin. `on_change` is called when it is not."""
        return self._writer.full

    def identify(self, payloads: list[Any]) -> Fresh | None:
        """What is stored of inputs that could be changed; UsageError where they have no name."""
        if self.fixed_inputs or all_atomic(payloads):
            return None
        return Fresh(payloads, digests(payloads), pickled(payloads), {})

    def drew(self, indexes: range, payloads: list[Any], known: Fresh | None) -> None:
        """These are handed out now: a kill from here on may have run them."""
        count = len(indexes)
        if known is not None and known.in_place:
            for position, at in known.instead.items():
                self._places[indexes.start + position] = at
                self.written.keep_place(indexes.start + position, at)
        self._handed_out += count
        self._lock.note(self._session, self._handed_out)
        if known is not None and known.in_place:
            return  # its place says what was handed out there
        if known is None or known.ids is None:
            self._put(Drawn(indexes.start, count, payloads, None, None), 64 * count)
        else:
            entry = Drawn(indexes.start, count, None, known.pickled, known.ids)
            self._put(entry, len(known.pickled or b"") + len(known.ids))
        if known is not None:
            for position, at in known.instead.items():
                self._replaces[indexes.start + position] = at

    def settled(self, piece: Piece) -> None:
        """Record what of a piece is settled for good."""
        if piece.recalled:
            return
        if self._places:
            self._settled_in_place(piece)
            return
        if self._replaces:
            self._replace(piece)
        if not piece.failures:
            self._done(piece)
            return
        for part in piece.split():
            if not part.failures:
                self._done(part)
            elif part.failures[0].cause != "cancelled" and part.start not in self._state.unfinal:
                self._fail(part)

    def _settled_in_place(self, piece: Piece) -> None:
        """Of a session that tries again what failed: every task has its place already."""
        for part in piece.split():
            for position in range(len(part)):
                one = part.part(position, position + 1) if len(part) > 1 else part
                failure = part.failures.get(position)
                if failure is None:
                    statements = done_at(self._places.pop(one.start), one, _pickled_value(one))
                elif failure.cause == "cancelled" or one.start in self._state.unfinal:
                    continue
                else:
                    statements = failed_at(self._places.pop(one.start), self._failure(one, failure))
                for sql, values in statements:
                    nbytes = sum(len(v) for v in values if isinstance(v, bytes))
                    self._put(Statement(sql, values), nbytes)

    def _done(self, piece: Piece) -> None:
        try:
            values = pickle.dumps(piece.values, 5)
        except Exception:
            self._done_each(piece)
            return
        self._put_done(piece, values)

    def _done_each(self, piece: Piece) -> None:
        """Values one by one: at least one of them cannot be pickled."""
        if len(piece) > 1:
            for position in range(len(piece)):
                self._done(piece.part(position, position + 1))
            return
        self._unkept += 1
        if self._unkept == 1:
            self.on_unkept(type(piece.values[0]).__qualname__)
        self._put_done(piece, None)

    def _put_done(self, piece: Piece, values: bytes | None) -> None:
        count = len(piece.values)
        entry = Done(piece.start, count, values, piece.timings, piece.attempt, piece.worker)
        self._put(entry, len(values or b"") + 48 * len(piece.timings))

    def _fail(self, piece: Piece) -> None:
        entry = self._failure(piece, piece.failures[0])
        self._put(entry, len(entry.failure) + len(entry.input or b""))

    def _failure(self, piece: Piece, failure: Failure) -> Failed:
        state = "quarantined" if piece.start in self._state.in_quarantine else "failed"
        seconds = sum(took for _, took in piece.timings)
        return Failed(
            piece.start,
            state,
            piece.attempt,
            piece.worker,
            seconds,
            stored(failure.type),
            stored(failure.message),
            failure.cause,
            pickle.dumps(failure, 5),
            _pickled_input(piece.inputs),
        )

    def _replace(self, piece: Piece) -> None:
        """What was recorded of these tasks goes in the transaction that records them anew."""
        failures = piece.failures
        for index in range(piece.start, piece.start + len(piece)):
            failure = failures.get(index - piece.start)
            if failure is not None and (
                failure.cause == "cancelled" or index in self._state.unfinal
            ):
                continue
            at = self._replaces.pop(index, None)
            if at is not None:
                for sql in _FORGET:
                    self._put(Statement(sql, (at,)), 0)

    def _put(self, entry: Entry, nbytes: int) -> None:
        self._writer.put(entry, _ENTRY_BYTES + nbytes)

    # -- the output file's side ---------------------------------------------------------------

    @property
    def output(self) -> tuple[str, int, bytes] | None:
        """Path, length and tail of the output file as it was last committed."""
        return self.written.output()

    def commit_output(self, path: str, length: int, tail: bytes, indexes: Sequence[int]) -> None:
        """The results of `indexes` are in the file, which is `length` bytes long with them."""
        self._of_output(lambda: self.written.add(path, length, tail, indexes))

    def forget_output(self) -> None:
        """Nothing of what was written before counts: the file is written anew."""
        self._of_output(self.written.forget)

    def _of_output(self, make: Callable[[], Iterable[tuple[str, Sequence[Any]]]]) -> None:
        """Have it written; the last results are read when the run is over and the journal closed,
        and with nothing to run that may be before the first one is."""
        with self._output:
            statements = list(make())
            if not self._over:
                for sql, values in statements:
                    self._put(Statement(sql, values), 0)
                return
        self._writer.join()
        if self._writer.error is None:  # else some of these are not recorded and run again
            carry_out(self.path, statements)

    def is_open(self, index: int) -> bool:
        """Whether a task that failed is not recorded: it was ended with the run, and runs again."""
        return index in self._state.unfinal

    def is_written(self, index: int) -> bool:
        """Whether this recalled result is in the file already."""
        return self.written.has(index)

    # -- the end ------------------------------------------------------------------------------

    def end(self) -> None:
        """Commit everything, then close; `ended` is True afterwards and `on_change` is called."""
        with self._output:
            self._over = True
        state = self._state
        over = state.ended and state.finished and not state.stopped
        complete = over and state.done == state.drawn and not self._unkept
        why = state.stopped or ("" if over else "cancelled")
        if self._before is not None:  # that what failed is done now does not end the run
            why, others = why or self._before[0], self._before[3]
            complete = complete and not why and not others
        values = {"why": why, "complete": complete}
        if not self._started:
            self.start()
        self._writer.end(values)

    @property
    def ended(self) -> bool:
        return self._writer.ended

    def join(self, timeout: float | None = None) -> None:
        """Wait until it is closed; `end` must have been called."""
        self._writer.join(timeout)

    def _closed(self) -> None:
        forget_cancel(self.path)
        self._lock.free()
        self.on_change()

    def _failed(self, error: Exception) -> None:
        assert isinstance(error, JournalError)
        self.error = error
        self.on_error(error)

    def _counts(self) -> dict[str, Any]:
        state = self._state
        total, drawn = state.total, state.drawn
        if self._before is not None:
            total, drawn = self._before[1:3]
        return {
            "inputs": total,
            "run_on": self.on(),
            "seconds": time.monotonic() - self._begun,
            "drawn": drawn,
            "fresh": self._handed_out,
            "done": state.done,
            "failed": state.failed,
            "quarantined": state.quarantined,
            "cancelled": state.cancelled,
            "recalled": state.recalled,
            "executions": state.executions,
            "retries": state.retries,
            "repeats": state.repeats,
            "losses": state.losses,
        }


_FORGET = (
    "DELETE FROM failures WHERE place = ?",
    "DELETE FROM pieces WHERE place = ? AND vals IS NULL",
)


def _pickled_value(piece: Piece) -> bytes | None:
    try:
        return pickle.dumps(piece.values, 5)
    except Exception:  # done, and not kept
        return None


def _pickled_input(inputs: Sequence[Any]) -> bytes | None:
    try:
        return pickle.dumps(inputs[0], 5)
    except Exception:
        return None
