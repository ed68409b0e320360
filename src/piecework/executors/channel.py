"""Frames between the master and one slot of a worker process, over a socket pair.

    header (32 bytes) │ table of buffers │ body (pickle) │ buffers that found no room in the arena

The channel belongs to one slot alone: there is no lock and no queue that a killed worker could
take with it. The worker blocks on it; the master never does.
"""

from __future__ import annotations

from _struct import Struct
from collections import deque

from piecework.executors.shared import ArenaReader, ArenaWriter
from piecework.lean import socket
from piecework.record import record
from piecework.spin import Spin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

HEADER = Struct("<BBHIIIQQ")  # kind, flags, buffers, count, call, -, first, body bytes
BUFFER = Struct("<IIQQ")  # block (INLINE: behind the body), -, start, bytes
INLINE = 0xFFFFFFFF

# to the worker
SETUP, CALL, TASKS, SINGLES, FORGET, STOP = range(1, 7)
# from the worker
READY, REFUSED, RESULTS, SKIPPED = range(11, 15)

PER_ITEM = 1  # flag of RESULTS: every value is pickled by itself
STAR = 2  # flag of TASKS: fn(*item)

FIRST_READ = 1 << 16


@record(slots=True)
class Frame:
    """One frame as it came; `body` is valid until the reader reads on."""

    kind: int
    flags: int
    count: int
    call: int
    first: int
    body: memoryview
    buffers: list[Any]


def encode(
    kind: int,
    body: bytes = b"",
    *,
    flags: int = 0,
    count: int = 0,
    call: int = 0,
    first: int = 0,
    buffers: list[memoryview] | None = None,
    arena: ArenaWriter | None = None,
) -> list[bytes | memoryview]:
    """The pieces of a frame, to be sent one after the other."""
    if not buffers:
        return [HEADER.pack(kind, flags, 0, count, call, 0, first, len(body)) + body]
    table, behind = bytearray(), []
    for buffer in buffers:
        place = arena.put(buffer) if arena is not None else None
        if place is None:
            behind.append(buffer)
            table += BUFFER.pack(INLINE, 0, 0, buffer.nbytes)
        else:
            table += BUFFER.pack(place[0], 0, place[1], buffer.nbytes)
    head = HEADER.pack(kind, flags, len(buffers), count, call, 0, first, len(body))
    return [head + table, body, *behind]


class FrameReader:
    """Cuts what a socket delivers into frames; a frame's body is valid until the next `frames`."""

    def __init__(self, sock: socket.socket, arena: ArenaReader) -> None:
        self._sock = sock
        self._arena = arena
        self._data = bytearray(FIRST_READ)
        self._view = memoryview(self._data)
        self._start = self._end = 0
        self.drained = False  # the last `fill` took all that was there

    def fill(self) -> int:
        """Read once from the socket: the number of bytes, 0 at its end.

        Raises BlockingIOError on a non-blocking socket with nothing to read, and OSError
        where the other side is gone.
        """
        self._make_room()
        room = self._view[self._end :]
        count = self._sock.recv_into(room)
        self.drained = count < len(room)
        self._end += count
        return count

    def await_more(self, spin: Spin) -> int:
        """As `fill`, on a blocking socket, but look for a little before sleeping."""
        self._make_room()
        room = self._view[self._end :]
        receive = self._sock.recv_into
        spin.begin()
        while True:
            try:
                count = receive(room, 0, socket.MSG_DONTWAIT)
                break
            except BlockingIOError:
                if not spin.goes_on():
                    count = receive(room)
                    break
        self._end += count
        return count

    def _make_room(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._data) > 16 * FIRST_READ:  # one large frame: give its room back
                self._resize(FIRST_READ)
            return
        wanted = self._wanted()
        if self._start and self._start + wanted > len(self._data):
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        if wanted > len(self._data):
            self._resize(wanted)

    def _resize(self, size: int) -> None:
        rest = bytes(self._view[self._start : self._end])
        self._data = bytearray(max(size, len(rest)))
        self._view = memoryview(self._data)
        self._view[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

    def _wanted(self) -> int:
        """Bytes from `_start` that the next frame takes, as far as they are known."""
        have = self._end - self._start
        if have < HEADER.size:
            return HEADER.size
        _, _, buffers, _, _, _, _, length = HEADER.unpack_from(self._data, self._start)
        fixed = HEADER.size + buffers * BUFFER.size
        if buffers and have >= fixed:
            length += sum(
                size
                for block, _, _, size in self._table(self._start + HEADER.size, buffers)
                if block == INLINE
            )
        return int(fixed + length)

    def _table(self, start: int, buffers: int) -> list[tuple[int, int, int, int]]:
        end = start + buffers * BUFFER.size
        return list(BUFFER.iter_unpack(self._view[start:end]))

    def frames(self) -> Iterator[Frame]:
        """The frames that have arrived whole."""
        while self._end - self._start >= HEADER.size:
            wanted = self._wanted()
            if self._end - self._start < wanted:
                return
            at = self._start
            kind, flags, n, count, call, _, first, length = HEADER.unpack_from(self._data, at)
            table = at + HEADER.size
            body = table + n * BUFFER.size
            buffers = self._buffers(table, n, body + length) if n else []
            self._start = at + wanted
            yield Frame(kind, flags, count, call, first, self._view[body : body + length], buffers)

    def _buffers(self, table: int, count: int, behind: int) -> list[Any]:
        found: list[Any] = []
        for block, _, start, size in self._table(table, count):
            if block == INLINE:
                found.append(memoryview(bytearray(self._view[behind : behind + size])))
                behind += size
            else:
                found.append(self._arena.buffer(block, start, size))
        return found


class Outbox:
    """What waits to be sent on a non-blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pieces: deque[memoryview] = deque()

    def put(self, pieces: list[bytes | memoryview]) -> None:
        self._pieces.extend(memoryview(piece).cast("B") for piece in pieces if len(piece))

    def send(self) -> bool:
        """Send what the socket takes; True where nothing is left. Raises OSError at its end."""
        while self._pieces:
            pieces = [self._pieces[i] for i in range(min(len(self._pieces), 64))]
            try:
                sent = self._sock.sendmsg(pieces)
            except BlockingIOError:
                return False
            while self._pieces and sent >= self._pieces[0].nbytes:
                sent -= self._pieces.popleft().nbytes
            if sent:
                self._pieces[0] = self._pieces[0][sent:]
        return True


def send_all(sock: socket.socket, pieces: list[bytes | memoryview]) -> None:
    """Send the pieces on a blocking socket."""
    if len(pieces) == 1:
        sock.sendall(pieces[0])
        return
    outbox = Outbox(sock)
    outbox.put(pieces)
    outbox.send()
