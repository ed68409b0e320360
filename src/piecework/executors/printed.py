"""The master's side of what one worker process prints: whole lines, and whose they are.

    pipes of fd 1 and 2 ── read ──▶ Unpacker ──▶ Lines ──▶ Speaker of the task ──▶ console
                                                             └──▶ its Tail ──▶ Failure.output

A line is its task's by the number in its record. What was written past the records (by C, by
children) is the task's that ran, where the worker has one slot; else it is only the worker's.

What a task has printed is read before its result is looked at, and after a death all that was
written: so nothing comes too late for a failure.
"""

from __future__ import annotations

import os

from piecework.executors.marked import Lines, Part, Unpacker
from piecework.executors.printing import ERR, HOLD, LOG, MARK, MARKS, OUT, PRINTED, RAW, TOKEN
from piecework.executors.work import BatchWork
from piecework.failures import with_output
from piecework.tail import Tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.executors.results import Outcome
    from piecework.executors.work import Work
    from piecework.executors.worker_process import Line, WorkerProcess

READ_BYTES = 1 << 16
_READS = 4  # of a pipe in one go: more than one holds, and then others have their turn
_LAST_READS = 64
_STREAMS = {OUT: "stdout", ERR: "stderr"}


class Speaker:
    """A task that has printed something, or with no work the worker as such."""

    __slots__ = ("marks", "position", "prefix", "tail", "work")

    def __init__(self, worker: WorkerProcess, work: Work | None, position: int, tagged: bool):
        self.work = work
        self.position = position
        self.tail = Tail()
        self.marks: dict[str, Any] = {"task": None, "worker": worker.name}
        label = work.call.label if work is not None else None
        if isinstance(work, BatchWork) and label is not None:
            index = work.batch.indexes[position]
            self.marks["task"] = index
            self.prefix = f"[{label} {index} | {worker.name}] "
        else:
            self.prefix = f"[{worker.name}] " if tagged and work is None else ""


class Printed:
    """Reads the pipes of one worker. What it says is taken with `said`, and handed on."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.tagged = False  # the worker runs tasks of a map
        self.one_slot = False
        self.raw = False  # something was written past the records
        self.ending = (
            0  # the task whose result has come: what is there to read is not of a later one
        )
        self.over = False  # the worker is dead, and what it had is not its own any more
        self.watched = False  # its descriptors are in the selector
        self.heard = False  # somebody reads it, and closes it in the end
        self.held = False  # it is not to print
        self.said: list[tuple[str, Any]] = []
        self.fds: list[int] = []
        self.theirs: list[int] = []  # what the worker is started with
        for _ in (1, 2):
            read, write = os.pipe()
            os.set_blocking(read, False)
            self.fds.append(read)
            self.theirs.append(write)
        self.ended: list[int] = []  # descriptors at their end, for whoever watches them to close
        self.words = worker.memory.output()
        token = os.urandom(8)
        self.words[TOKEN] = int.from_bytes(token, "little")
        self._worker = worker
        self._seen = self._bytes = 0
        self._unpackers = (Unpacker(token), Unpacker(token))
        self._lines = Lines()
        self._records: dict[tuple[int, int, int], bytearray] = {}
        self._speakers: dict[tuple[int, int], Speaker] = {}

    def started(self) -> None:
        """The worker has its ends."""
        while self.theirs:
            os.close(self.theirs.pop())

    def forget(self) -> None:
        """Close what is open: nobody reads it, or in a forked child the parent does."""
        self.started()
        for fd in self.fds + self.ended:
            if fd >= 0:
                os.close(fd)
        self.fds, self.ended = [-1, -1], []

    def hold(self, held: bool) -> None:
        """Have its prints wait, or go on."""
        self.held = held
        self.words[HOLD] = held

    @property
    def named(self) -> bool:
        """False while the word of its start is still on its way, and with it its process id."""
        return bool(self._worker.pid or self._worker.exited)

    @property
    def active(self) -> bool:
        """Whether anything is kept of what it has printed."""
        return bool(self._speakers or self._lines.open)

    @property
    def behind(self) -> bool:
        """Whether the worker has printed what was not read."""
        return bool(self.words[PRINTED] != self._seen)

    # -- reading -------------------------------------------------------------------------------

    def read(self, reads: int = _READS) -> int:
        """Read what is there; the number of bytes."""
        before = self._bytes
        if not self.over:
            self._seen = self.words[PRINTED]
        for which, fd in enumerate(self.fds):
            if fd >= 0 and not self._read(which, fd, reads):
                self.ended.append(fd)
                self.fds[which] = -1
        return self._bytes - before

    def _read(self, which: int, fd: int, reads: int) -> bool:
        """False at the end: nobody can write to it any more."""
        for _ in range(reads):
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._bytes += len(data)
            self._take(which, data)
        return True

    # -- parts ---------------------------------------------------------------------------------

    def _take(self, which: int, data: bytes) -> None:
        parts = self._unpackers[which].feed(data)
        for at, part in enumerate(parts):
            if part.kind == RAW:
                after = parts[at + 1] if at + 1 < len(parts) else None
                self._take_raw(which, part.data, after)
            elif part.kind == LOG:
                self._take_log(part)
            elif part.kind == MARK:
                if (RAW, which) in self._lines.open:
                    self._end((RAW, which), self._speaker(0, part.number), (OUT, ERR)[which])
            else:
                lines = self._lines.feed((part.kind, part.slot, part.number, part.who), part.data)
                if lines:
                    self._say(self._speaker(part.slot, part.number), part.kind, lines)

    def _take_raw(self, which: int, data: bytes, after: Part | None) -> None:
        """A record behind it is of the task that wrote it, or of a later one that is not far."""
        if not self.raw and not self.over:
            self.raw = True
            self.words[MARKS] = 1  # from here on the worker says where a task's part ends
        lines = self._lines.feed((RAW, which), data)
        if lines:
            number = self._running() if after is None else after.number
            speaker = self._speaker(0, number if self.one_slot else 0)
            self._say(speaker, (OUT, ERR)[which], lines)

    def _running(self) -> int:
        return 0 if self.over else self._worker.lines[0].running()

    def _take_log(self, part: Part) -> None:
        source = part.slot, part.number, part.who
        data = part.data
        if part.more or source in self._records:
            self._records.setdefault(source, bytearray()).extend(data)
            if part.more:
                return
            data = bytes(self._records.pop(source))
        speaker = self._speaker(part.slot, part.number)
        if speaker.work is not None:
            from piecework.console import log_line

            speaker.tail.add_text(log_line(data))
        self.said.append(("log", (data, speaker.marks, speaker.prefix)))

    def _speaker(self, slot: int, number: int) -> Speaker:
        speaker = self._speakers.get((slot, number))
        if speaker is None:
            lines = () if self.over else self._worker.lines
            sent = lines[slot].find(number) if number and slot < len(lines) else None
            if sent is None:
                return Speaker(self._worker, None, 0, self.tagged)
            position = sent.start + number - sent.first
            speaker = Speaker(self._worker, sent.work, position, self.tagged)
            self._speakers[slot, number] = speaker
        return speaker

    def _say(self, speaker: Speaker, kind: int, lines: list[bytes]) -> None:
        prefix, text = speaker.prefix, []
        for line in lines:
            decoded = line.decode("utf-8", "backslashreplace")
            speaker.tail.add(decoded)
            text.append(f"{prefix}{decoded}\n")
        self.said.append(("stderr" if prefix else _STREAMS[kind], "".join(text)))

    # -- ends ----------------------------------------------------------------------------------

    def settle(self, line: Line, outcome: Outcome) -> None:
        """These tasks have ended: their lines, too; failures get what was printed last."""
        slot, first = line.number, outcome.first
        last = first + len(outcome.values)
        for source in list(self._lines.open):
            if source[0] != RAW and source[1] == slot and first <= source[2] < last:
                self._end(source, self._speaker(slot, source[2]), source[0])
        if self._speakers:
            for number in range(first, last):
                speaker = self._speakers.pop((slot, number), None)
                if speaker is not None and number in outcome.failures:
                    failure = outcome.failures[number]
                    outcome.failures[number] = with_output(failure, speaker.tail.text)

    def _end(self, source: Any, speaker: Speaker, kind: int) -> None:
        for begun in self._lines.end(source):
            self._say(speaker, kind, [begun])

    def last_words(self) -> dict[tuple[Work, int], str]:
        """The worker is dead: read the rest; what its tasks have printed, by work and position."""
        self.read(_LAST_READS)
        for which in (0, 1):
            rest = self._unpackers[which].end()  # of a record that was never finished: none is
            if rest:
                self._take_raw(which, rest, None)
        running = self._speaker(0, self._running() if self.one_slot else 0)
        for source in list(self._lines.open):
            if source[0] == RAW:
                self._end(source, running, (OUT, ERR)[source[1]])
            else:
                self._end(source, self._speaker(source[1], source[2]), source[0])
        speakers, self._speakers = self._speakers, {}
        self.over = True
        return {
            (speaker.work, speaker.position): speaker.tail.text
            for speaker in speakers.values()
            if speaker.work is not None
        }
