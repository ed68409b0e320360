"""The master's side of one worker process: its lines (one a slot), its memory, its control.

Line: what was sent to a slot and not yet reported, in order, numbered
WorkerProcess: the lines that live and die together
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

from piecework.executors import channel, shared
from piecework.executors.printed import Printed
from piecework.executors.slot import CHECKED, CLAIMED, CURRENT, SKIP_FROM, SKIP_TO, WORDS
from piecework.executors.work import Call, Sent, Stretch, Work
from piecework.lean import pickle, socket, suppress
from piecework.loop import READ, WRITE, Loop, Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFETCH_SECONDS = 0.01


class Line:
    """The master's end of one slot: never blocks, keeps what is outstanding."""

    def __init__(self, worker: WorkerProcess, number: int, sock: socket.socket) -> None:
        self.worker = worker
        self.number = number
        self.sock = sock
        self.words = worker.memory.words(number * WORDS, WORDS)
        self.frames = channel.FrameReader(sock, worker.memory.reader(shared.RESULTS))
        self.outbox = channel.Outbox(sock)
        self.sent: deque[Sent] = deque()
        self.frame_ends: deque[int] = deque()
        self.next = 1  # number of the next task
        self.known: set[int] = set()  # calls that the slot has
        self.seen = 0  # the task that ran when the watch last looked, and since when
        self.seen_at = 0.0
        self.asked = 0  # the task under which it was asked to flush
        self.open = True

    @property
    def outstanding(self) -> int:
        return self.sent[-1].end - self.sent[0].first if self.sent else 0

    @property
    def unstarted(self) -> int:
        """Tasks that the slot has not claimed yet, so that may be taken back."""
        if not self.sent:
            return 0
        return max(0, self.sent[-1].end - max(self.words[CLAIMED], self.sent[0].first))

    def seconds_left(self) -> float | None:
        """How long what is outstanding will take, as far as is known."""
        total = 0.0
        for sent in self.sent:
            mean = sent.work.call.seconds
            if mean is None:
                return None
            total += mean * sent.count
        return total

    def soon_done(self, seconds: float) -> bool:
        """True where taking anything back would take longer than doing it."""
        left = self.seconds_left()
        return left is not None and left < seconds and self.seen != self.running()

    def has_room(self) -> bool:
        """True for an idle slot, and for one that will be idle before more could reach it."""
        if not self.sent:
            return True
        if len(self.frame_ends) > 1:
            return False
        left = self.seconds_left()
        return left is not None and left < PREFETCH_SECONDS

    # -- sending ------------------------------------------------------------------------------

    def teach(self, call: Call) -> None:
        """Send the function unless the slot has it."""
        if call.id not in self.known:
            self.known.add(call.id)
            self._post(channel.encode(channel.CALL, call.data, call=call.id))

    def note(self, work: Work, start: int, count: int) -> int:
        """Number tasks that are about to be sent; returns the first number."""
        first = self.next
        self.next += count
        self.sent.append(Sent(first, work, start, count))
        return first

    def post_tasks(
        self, call: Call, body: bytes, first: int, count: int, buffers: list[memoryview]
    ) -> None:
        self.frame_ends.append(first + count)
        self._post(
            channel.encode(
                channel.TASKS,
                body,
                flags=channel.STAR if call.star else 0,
                count=count,
                call=call.id,
                first=first,
                buffers=buffers,
                arena=self.worker.arena,
            )
        )

    def post_singles(self, data: list[bytes], first: int) -> None:
        self.frame_ends.append(first + len(data))
        body = pickle.dumps(data, 5)
        self._post(channel.encode(channel.SINGLES, body, count=len(data), first=first))

    def post(self, kind: int, body: bytes = b"", **header: Any) -> None:
        self._post(channel.encode(kind, body, **header))

    def _post(self, pieces: list[bytes | memoryview]) -> None:
        if not self.open:
            return
        self.outbox.put(pieces)
        self.push()

    def push(self) -> None:
        """Send what the socket takes; the rest when it is writable. A dead end is noticed by
        reading, which also gives the last results."""
        loop = self.worker.loop
        try:
            done = self.outbox.send()
        except OSError:
            done = True
        events = READ if done else READ | WRITE
        if events != self.worker.events.get(self.number):
            self.worker.events[self.number] = events
            loop.modify(self.sock.fileno(), events, self.worker.on_ready[self.number])

    # -- reports and taking back ---------------------------------------------------------------

    def settle(self, count: int) -> list[tuple[Sent, int, int]]:
        """Take the first `count` tasks off the books: (sent, its start, how many) in order."""
        parts = []
        while count:
            sent = self.sent[0]
            part = min(sent.count, count)
            parts.append((sent, sent.start, part))
            sent.shift(part)
            count -= part
            if not sent.count:
                self.sent.popleft()
        self._trim_frames()
        return parts

    def cut(self, low: int, high: int) -> list[Stretch]:
        """Take the numbers from `low` to `high` off the books: they will be sent elsewhere."""
        taken, kept = [], deque[Sent]()
        for sent in self.sent:
            a, b = max(low, sent.first), min(high, sent.end)
            if a >= b:
                kept.append(sent)
                continue
            taken.append(sent.stretch(a, b))
            if sent.first < a:
                kept.append(Sent(sent.first, sent.work, sent.start, a - sent.first))
            if b < sent.end:
                kept.append(Sent(b, sent.work, sent.start + b - sent.first, sent.end - b))
        self.sent = kept
        self._trim_frames()
        return taken

    def holds(self, first: int, count: int) -> bool:
        """True where these numbers are the next on the books, without a gap."""
        for sent in self.sent:
            if sent.first != first:
                return False
            if sent.count >= count:
                return True
            first, count = first + sent.count, count - sent.count
        return False

    def count_repeats(self, end: int) -> None:
        """What is numbered below `end` had been started, and will be again."""
        for sent in self.sent:
            lost = min(sent.end, end) - sent.first
            if lost > 0:
                sent.work.repeats += lost

    def _trim_frames(self) -> None:
        ends = self.frame_ends
        first = self.sent[0].first if self.sent else self.next
        while ends and ends[0] <= first:
            ends.popleft()
        last = self.sent[-1].end if self.sent else 0
        while len(ends) > 1 and ends[-2] >= last:
            ends.pop()

    def forbid(self, count: int) -> tuple[int, int] | None:
        """Tell the slot not to start its last `count` tasks: the range of numbers to take back.

        None where an earlier range is still ahead of the slot: it can only know one.
        """
        if not self.sent:
            return None
        words, end = self.words, self.sent[-1].end
        low = max(end - count, self.sent[0].first)
        old_to = words[SKIP_TO]
        if words[CHECKED] < old_to and old_to != self.next:
            return None
        if old_to != self.next:
            words[SKIP_FROM] = low  # this order: never a wider range than meant
            words[SKIP_TO] = self.next
        else:
            words[SKIP_FROM] = min(low, words[SKIP_FROM])
        return low, end

    def running(self) -> int:
        """The number of the task that runs now, 0 where none of ours does."""
        current = self.words[CURRENT]
        if self.sent and self.sent[0].first <= current < self.sent[-1].end:
            return current
        return 0

    def find(self, number: int) -> Sent | None:
        for sent in self.sent:
            if sent.first <= number < sent.end:
                return sent
        return None


class WorkerProcess:
    """One worker process as the master sees it. `lost` is called once, when a line ends."""

    def __init__(self, number: int, loop: Loop, slots: int) -> None:
        self.number = number
        self.loop = loop
        self.pid = 0
        self.ready = False
        self.retiring = False  # gets no more tasks, and STOP when it has none
        self.stopped = False  # got STOP
        self.exclusive = False  # runs one suspect, alone
        self.reserved = False  # gets no more tasks until it is idle, for a suspect
        self.dying = False  # a line has ended: it runs nothing any more
        self.lost = False
        self.taken = 0  # tasks ever sent to it
        self.doomed: str = ""  # why we end it: timeout, memory, cancelled, terminated, disowned
        self.timed_out = (0, 0)  # line and number of the task that passed its limit
        self.exact_at = 0.0  # not before then is its memory looked at exactly again
        self.over_memory = (0, 0)  # bytes that it held when it was ended for that, and the limit
        self.stacks = ""
        self.stop_timer: Timer | None = None
        self.status: int | None = None
        self.peak = 0
        self.exited = False
        self._memory_fd = shared.create()
        self.memory = shared.Memory(self._memory_fd, owner=True)
        self.arena = self.memory.writer(shared.ARGUMENTS)
        pairs = [socket.socketpair() for _ in range(slots + 1)]
        self.control = pairs[0][0]
        self.control.setblocking(False)
        self.lines: list[Line] = []
        self.events: dict[int, int] = {}
        self.on_ready: dict[int, Callable[[int], None]] = {}
        self.printed = Printed(self)
        self.theirs = [pairs[0][1], *(pair[1] for pair in pairs[1:])]
        for index, (ours, _) in enumerate(pairs[1:]):
            ours.setblocking(False)
            self.lines.append(Line(self, index, ours))

    @property
    def descriptors(self) -> list[int]:
        """What the worker is started with; `started` closes our copies."""
        return [self._memory_fd, *self.printed.theirs, *(sock.fileno() for sock in self.theirs)]

    def started(self) -> None:
        for sock in self.theirs:
            sock.close()
        self.theirs = []
        self.printed.started()

    @property
    def name(self) -> str:
        return f"process {self.pid}" if self.pid else f"process #{self.number}"

    @property
    def idle(self) -> bool:
        return not any(line.sent for line in self.lines)

    @property
    def serving(self) -> bool:
        """False where another worker may take its place."""
        return not (self.retiring or self.stopped or self.dying or self.lost)

    @property
    def usable(self) -> bool:
        gone = self.stopped or self.dying or self.lost or self.doomed
        return not (gone or self.retiring or self.exclusive)

    def watch(self, on_line: Callable[[Line], None]) -> None:
        for line in self.lines:

            def ready(events: int, line: Line = line) -> None:
                if events & WRITE and line.open:
                    line.push()
                if events & READ and line.open:
                    on_line(line)

            self.on_ready[line.number] = ready
            self.events[line.number] = READ
            self.loop.register(line.sock.fileno(), READ, ready)

    def tell(self, control: bytes) -> None:
        with suppress(OSError):
            self.control.send(control)

    def read_stacks(self) -> None:
        """Take the stacks that the worker dumped when it was asked, if it still could."""
        with suppress(OSError):
            self.stacks += self.control.recv(65536).decode("utf-8", "replace")

    def close_line(self, line: Line) -> None:
        if line.open:
            line.open = False
            self.loop.unregister(line.sock.fileno())
            line.sock.close()

    def close(self) -> None:
        """Close our ends; views of its memory that a user still holds stay valid."""
        if self.stop_timer is not None:
            self.stop_timer.cancel()
        for line in self.lines:
            self.close_line(line)
            line.words.release()
        self.printed.words.release()
        if not self.printed.heard:
            self.printed.forget()
        self.on_ready.clear()  # no cycle: what is left goes now, not with the next collection
        self.memory.close()
        self.started()
        self.control.close()
        with suppress(OSError):
            os.close(self._memory_fd)

    def forked(self) -> None:
        """In a forked child: close our copies, without a word to the selector of the parent."""
        for line in self.lines:
            line.open = False
            line.sock.close()
        self.started()
        self.control.close()
        os.close(self._memory_fd)

    def look(self) -> None:
        """Remember since when each line runs what it runs now."""
        now = time.monotonic()
        for line in self.lines:
            running = line.running()
            # While nobody reads what it prints it may be waiting for that: it is not its own time.
            if running != line.seen or self.printed.held:
                line.seen, line.seen_at = running, now
