"""Standard input cut into blocks at the ends of records, each fed to one command (`--pipe`).

...record\nrecord\nreco│rd\n...      what is left over begins the next block
◀────── block ───────▶
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from piecework.errors import UsageError

BLOCK_BYTES = 1 << 20
RECORD_BYTES_MAX = 1 << 30
READ_BYTES = 1 << 16


def blocks(
    read: Callable[[int], bytes],
    size: int = BLOCK_BYTES,
    *,
    end: bytes = b"\n",
    start: bytes = b"",
    count: int | None = None,
) -> Iterator[bytes]:
    """Blocks of whole records, at most `size` bytes each unless one record is longer.

    A record ends with `end` and, where `start` is given, the next begins with it. With `count` a
    block has so many records instead. Nothing is read before it is asked for.
    """
    mark = end + start
    if not mark:
        raise UsageError("--recend '' needs --recstart TEXT: something must tell records apart.")
    cut = _Cutter(mark, len(end), size, count)
    while data := read(READ_BYTES):
        yield from cut.add(data)
        if cut.held > max(RECORD_BYTES_MAX, size):
            raise UsageError(
                f"a record is longer than 1 GiB: {mark!r} does not come. "
                "Say what ends it with --recend."
            )
    yield from cut.rest()


class _Cutter:
    """Holds what is not a whole block yet. Pure: bytes in, blocks out."""

    def __init__(self, mark: bytes, keep: int, size: int, count: int | None) -> None:
        self.held = 0
        self._mark = mark
        self._keep = keep  # of the mark, what belongs to the record before it
        self._size = size
        self._count = count
        self._data = bytearray()
        self._searched = 0  # no mark begins before it
        self._ends: list[int] = []  # with `count`: where the records held end

    def add(self, data: bytes) -> Iterator[bytes]:
        self._data += data
        while block := self._next():
            yield block
        self.held = len(self._data)

    def rest(self) -> Iterator[bytes]:
        """What is held at the end of the input."""
        if self._data:
            yield bytes(self._data)
            self._data.clear()

    def _next(self) -> bytes:
        end = self._by_count() if self._count else self._by_size()
        if end <= 0:
            return b""
        block = bytes(self._data[:end])
        del self._data[:end]
        self._searched = 0
        return block

    def _by_size(self) -> int:
        """Where the last record ends that still fits; else the first, however long it is."""
        if len(self._data) < self._size:
            return 0
        # A mark may reach beyond the block with what belongs to the next record.
        begin = 0 if self._keep else 1  # else a block of nothing
        last = self._data.rfind(self._mark, begin, self._size - self._keep + len(self._mark))
        if last >= 0:
            return last + self._keep
        first = self._data.find(self._mark, max(begin, self._searched))
        if first >= 0:
            return first + self._keep
        self._searched = max(0, len(self._data) - len(self._mark) + 1)
        return 0

    def _by_count(self) -> int:
        assert self._count is not None
        while len(self._ends) < self._count:
            found = self._data.find(self._mark, max(self._searched, 1 - self._keep))
            if found < 0:
                self._searched = max(self._searched, len(self._data) - len(self._mark) + 1)
                return 0
            self._ends.append(found + self._keep)
            self._searched = found + max(1, self._keep)
        end = self._ends[-1]
        self._ends.clear()
        return end
