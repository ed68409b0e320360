"""What comes out of a worker's pipe, taken apart: records, what lies between them, whole lines.

Pure: bytes in, parts out. Nothing here reads, waits or knows what a task is.
"""

from __future__ import annotations

from collections.abc import Iterator

from piecework.executors.printing import HEADER, NO_SLOT, RAW
from piecework.record import record

LINE_MAX = 1 << 20  # bytes; a longer line is handed on in pieces, or memory would grow with it
OPEN_MAX = 8 << 20  # bytes of all lines of a worker that have no end yet

Source = tuple[int, ...]


@record(slots=True)
class Part:
    """A record, or with kind RAW what lies before the next one."""

    kind: int
    data: bytes
    more: bool = False
    slot: int = NO_SLOT
    number: int = 0
    who: int = 0


class Unpacker:
    """Cuts what is read, in pieces of any size, into parts; nothing is lost or added."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._rest = b""

    def feed(self, data: bytes) -> list[Part]:
        data = self._rest + data if self._rest else data
        parts: list[Part] = []
        at, token = 0, self._token
        while True:
            start = data.find(token, at)
            if start < 0:
                end = len(data) - _begun(data, at, token)
                if end > at:
                    parts.append(Part(RAW, data[at:end]))
                self._rest = data[end:]
                return parts
            if start > at:
                parts.append(Part(RAW, data[at:start]))
            if len(data) - start < HEADER.size:
                break
            _, kind, more, size, slot, number, who = HEADER.unpack_from(data, start)
            at = start + HEADER.size + size
            if at > len(data):
                break
            body = data[start + HEADER.size : at]
            parts.append(Part(kind, body, bool(more), slot, number, who))
        self._rest = data[start:]
        return parts

    def end(self) -> bytes:
        """What is left of a record that was never finished."""
        rest, self._rest = self._rest, b""
        return rest


def _begun(data: bytes, at: int, token: bytes) -> int:
    """How many bytes at the end may be the beginning of a token."""
    for length in range(min(len(token) - 1, len(data) - at), 0, -1):
        if data.endswith(token[:length]):
            return length
    return 0


class Lines:
    """Whole lines from pieces, each source by itself."""

    def __init__(self) -> None:
        self.open: dict[Source, bytearray] = {}
        self._size = 0

    def feed(self, source: Source, data: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends."""
        whole, newline, rest = data.rpartition(b"\n")
        lines = whole.split(b"\n") if newline else []
        begun = self.open.get(source)
        if begun is not None and newline:
            lines[0] = bytes(begun) + lines[0]
            self._drop(source)
            begun = None
        if rest:
            if begun is None:
                begun = self.open[source] = bytearray()
            begun += rest
            self._size += len(rest)
            if len(begun) > LINE_MAX or self._size > OPEN_MAX:
                lines.append(bytes(begun))
                self._drop(source)
        return lines

    def end(self, source: Source) -> Iterator[bytes]:
        """The line that this source has begun and will not end; if there is one."""
        begun = self.open.get(source)
        if begun is not None:
            self._drop(source)
            yield bytes(begun)

    def _drop(self, source: Source) -> None:
        self._size -= len(self.open.pop(source))
