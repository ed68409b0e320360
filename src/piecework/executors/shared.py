"""The memory that the master shares with one worker process: words, and room for large buffers.

One anonymous file (a memfd on Linux, an unlinked temporary file elsewhere), mapped by both sides:
nothing has a name, so nothing can be left behind.

    page 0 to 3       words of the slots (see slot.py)
    page 4, page 5    block flags of the two arenas: 1 in use, 0 free again
    page 6            words about output (see printing.py)
    ARENA ...         arguments, then results: sparse, only what is used takes memory

A sender copies a large buffer into a block of its arena, once; the receiver uses it in place.
The block is free again when nobody on the receiver's side holds a view of it any more: the object
that all views keep alive says so when it dies. No message is needed for that.
"""

from __future__ import annotations

import mmap
import os
import sys
from _weakref import ref

from piecework.lean import suppress
from piecework.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGE = 4096
ARGUMENTS, RESULTS = 0, 1
ARENA_BYTES = 512 << 20 if sys.maxsize > 2**32 else 64 << 20
"""What an arena holds at most: past that, buffers travel on the channel."""
BLOCKS_MAX = 64
_WORDS, _FLAGS, _OUTPUT, _PAGES = 0, 4, 6, 7
_ARENA_START = 1 << 20
_BYTES = _ARENA_START + 2 * ARENA_BYTES


def create() -> int:
    """A new anonymous file of the right size; the caller closes the descriptor."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("piecework", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _BYTES)
    return fd


class Memory:
    """One side's mapping of the file. It lives as long as anybody holds a buffer in it.

    Where the address space is limited too tightly for the arenas, only the words are mapped,
    and both sides do without arenas: the file is cut to that size by its `owner`, who maps first.
    The other side raises where it cannot map what there is.
    """

    def __init__(self, fd: int, *, owner: bool = False) -> None:
        size = os.fstat(fd).st_size
        try:
            self.map = mmap.mmap(fd, size)
        except (OSError, ValueError, MemoryError):
            if not owner:
                raise
            size = _PAGES * PAGE
            os.ftruncate(fd, size)
            self.map = mmap.mmap(fd, size)
        self._arenas = size == _BYTES

        self._views: list[memoryview] = []

    def words(self, place: int, count: int) -> memoryview:
        return self._view(_WORDS, _FLAGS).cast("Q")[place : place + count]

    def output(self) -> memoryview:
        """The words about what the worker prints."""
        return self._view(_OUTPUT, _OUTPUT + 1).cast("Q")

    def writer(self, side: int) -> ArenaWriter | None:
        return ArenaWriter(self.map, self._flags(side), side) if self._arenas else None

    def reader(self, side: int) -> ArenaReader:
        return ArenaReader(self.map, self._flags(side))

    def _flags(self, side: int) -> memoryview:
        return self._view(_FLAGS + side, _FLAGS + side + 1)

    def _view(self, page: int, end: int) -> memoryview:
        view = memoryview(self.map)[page * PAGE : end * PAGE]
        self._views.append(view)
        return view

    def close(self) -> None:
        """Unmap at once, unless somebody holds a buffer in it: then when the last one has died."""
        with suppress(BufferError):
            for view in self._views:
                view.release()
            self.map.close()


@record(slots=True)
class _Block:
    number: int
    start: int
    size: int


class ArenaWriter:
    """The sending side of an arena: finds a free block, copies into it."""

    def __init__(self, memory: mmap.mmap, flags: memoryview, side: int) -> None:
        self._memory = memory
        self._start = _ARENA_START + side * ARENA_BYTES
        self._flags = flags
        self._blocks: list[_Block] = []
        self._end = 0

    def put(self, buffer: memoryview) -> tuple[int, int] | None:
        """Copy the buffer in: (block, start), or None where there is no room."""
        block = self._free_block(buffer.nbytes)
        if block is None:
            return None
        start = self._start + block.start
        self._memory[start : start + buffer.nbytes] = buffer
        self._flags[block.number] = 1
        return block.number, start

    def _free_block(self, size: int) -> _Block | None:
        fitting = [
            block
            for block in self._blocks
            if size <= block.size <= 4 * size and not self._flags[block.number]
        ]
        if fitting:
            return min(fitting, key=lambda block: block.size)
        room = -(-size // PAGE) * PAGE
        if len(self._blocks) >= BLOCKS_MAX or self._end + room > ARENA_BYTES:
            return None
        block = _Block(len(self._blocks), self._end, room)
        self._blocks.append(block)
        self._end += room
        return block


class ArenaReader:
    """The receiving side of an arena: buffers in place, freed when nobody holds them any more."""

    def __init__(self, memory: mmap.mmap, flags: memoryview) -> None:
        self._memory = memory
        self._flags = flags
        self._held: dict[int, ref[Any]] = {}
        self._owner = os.getpid()

    def buffer(self, block: int, start: int, size: int) -> Any:
        """The block as a writable buffer object; its block is free again when it has died."""
        import ctypes  # only who gets large buffers pays for it

        # Whoever uses the memory holds this object, through whatever views: a memoryview of ours
        # would not do, for a view of a view is counted at neither.
        buffer = (ctypes.c_ubyte * size).from_buffer(self._memory, start)
        self._held[block] = ref(buffer, lambda _: self._free(block))
        return buffer

    def _free(self, block: int) -> None:
        self._held.pop(block, None)
        if os.getpid() == self._owner:  # a forked child drops its copy, the parent's lives on
            with suppress(ValueError):  # the worker has ended: nobody asks for blocks any more
                self._flags[block] = 0
