"""The state of every task in one byte, forgotten where nothing more can happen to it.

    block 0 (settled: forgotten)   block 1: ░▒░░▒▒░   block 2: ▒▒▒▒······ not drawn yet

A stretch of equal states is compared and written in one step: a batch without failures costs
microseconds however many tasks it has. A block whose tasks are all settled is dropped, so an
endless input needs no more memory than what is in flight.
"""

from __future__ import annotations

from collections.abc import Iterator

PENDING, RUNNING, DONE, FAILED, QUARANTINED, CANCELLED = range(6)
SETTLED = frozenset({DONE, FAILED, QUARANTINED, CANCELLED})
FORGOTTEN = 255  # settled long ago: which of the four, nobody needs to know any more

BLOCK = 65_536
_RUNS = tuple(bytes([state]) * BLOCK for state in range(6))


class States:
    """States by index; the first states of a task are written by `draw`."""

    def __init__(self) -> None:
        self.drawn = 0
        self._blocks: dict[int, bytearray] = {}
        self._open: dict[int, int] = {}  # tasks of the block that are not settled or not drawn

    def draw(self, count: int, state: int = PENDING) -> range:
        """The next `count` tasks come into being."""
        start = self.drawn
        self.drawn = start + count
        for number, low, high in _pieces(start, self.drawn):
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = bytearray(BLOCK)
                self._open[number] = BLOCK
            block[low:high] = _RUNS[state][: high - low]
        return range(start, self.drawn)

    def get(self, index: int) -> int:
        """The state, or FORGOTTEN; the index has been drawn."""
        block = self._blocks.get(index // BLOCK)
        return FORGOTTEN if block is None else block[index % BLOCK]

    def set(self, index: int, state: int) -> None:
        """Write the state of one task that is not settled yet."""
        number = index // BLOCK
        self._blocks[number][index % BLOCK] = state
        if state in SETTLED:
            self._settle(number, 1)

    def move(self, start: int, stop: int, before: int, after: int) -> bool:
        """Write a whole stretch; False, and nothing is written, unless all were `before`."""
        pieces = list(_pieces(start, stop))
        for number, low, high in pieces:
            block = self._blocks.get(number)
            if block is None or not block.startswith(_RUNS[before][: high - low], low):
                return False
        for number, low, high in pieces:
            self._blocks[number][low:high] = _RUNS[after][: high - low]
            if after in SETTLED:
                self._settle(number, high - low)
        return True

    def _settle(self, number: int, count: int) -> None:
        left = self._open[number] = self._open[number] - count
        if not left:
            del self._blocks[number], self._open[number]

    @property
    def unsettled(self) -> int:
        """How many drawn tasks may still change; counted from the bytes, for the audit."""
        count = 0
        for number, block in self._blocks.items():
            drawn = min(self.drawn - number * BLOCK, BLOCK)
            count += block.count(PENDING, 0, drawn) + block.count(RUNNING, 0, drawn)
        return count


def _pieces(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """The stretch cut at block ends: (block number, from, to) inside the block."""
    while start < stop:
        number, low = divmod(start, BLOCK)
        high = min(BLOCK, low + stop - start)
        yield number, low, high
        start += high - low
