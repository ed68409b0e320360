"""Large buffers in shared memory: in place, never overwritten while anybody holds them."""

from __future__ import annotations

import gc
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import piecework
from piecework.executors import shared
from piecework.executors.shared import ARENA_BYTES, ARGUMENTS, RESULTS, Memory


class Sides:
    """The sender and the receiver of one arena, each with its own mapping."""

    def __init__(self, side: int = RESULTS) -> None:
        fd = shared.create()
        writer = Memory(fd).writer(side)
        assert writer is not None
        self.writer = writer
        self.reader = Memory(fd).reader(side)
        os.close(fd)

    def send(self, content: bytes) -> Any:
        """What the receiver gets; None where there is no room."""
        place = self.writer.put(memoryview(content))
        return None if place is None else self.reader.buffer(*place, len(content))


@pytest.fixture
def sides() -> Iterator[Sides]:
    yield Sides()
    gc.collect()


def test_a_buffer_arrives_in_place_and_can_be_written(sides: Sides) -> None:
    buffer = sides.send(b"abc" * 1000)
    assert bytes(buffer) == b"abc" * 1000
    memoryview(buffer).cast("B")[0:1] = b"X"
    assert bytes(buffer)[:4] == b"Xbca"


def test_the_two_directions_and_the_words_do_not_touch_each_other() -> None:
    fd = shared.create()
    ours, theirs = Memory(fd), Memory(fd)
    os.close(fd)
    ours.words(0, 8)[7] = 2**63
    there, back = ours.writer(ARGUMENTS), theirs.writer(RESULTS)
    assert there is not None
    assert back is not None
    a, b = there.put(memoryview(b"a" * 5000)), back.put(memoryview(b"b" * 5000))
    assert a is not None
    assert b is not None
    assert bytes(theirs.reader(ARGUMENTS).buffer(*a, 5000)) == b"a" * 5000
    assert bytes(ours.reader(RESULTS).buffer(*b, 5000)) == b"b" * 5000
    assert theirs.words(0, 8)[7] == 2**63


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 60_000), st.integers(0, 9)), min_size=1, max_size=120))
def test_what_is_held_is_never_overwritten_and_what_is_dropped_is_used_again(
    sends: list[tuple[int, int]],
) -> None:
    """Sends of any size; each is kept until so many more were sent."""
    sides = Sides()
    held: list[tuple[int, Any, bytes]] = []
    for now, (size, keep) in enumerate(sends):
        held = [(until, buffer, content) for until, buffer, content in held if until > now]
        content = bytes([now % 251]) * size
        buffer = sides.send(content)
        if buffer is not None:
            held.append((now + keep, buffer, content))
        buffer = None
        for _, kept, expected in held:
            assert bytes(kept) == expected
    assert len(held) <= 10


def test_a_block_is_free_when_the_last_view_of_a_view_has_died(sides: Sides) -> None:
    first = sides.send(b"1" * 9000)
    view = memoryview(memoryview(first)[100:200]).cast("B")[10:]
    del first
    gc.collect()
    second = sides.send(b"2" * 9000)
    assert bytes(view) == b"1" * 90
    del view
    gc.collect()
    third = sides.send(b"3" * 9000)
    assert bytes(second) == b"2" * 9000
    assert bytes(third) == b"3" * 9000
    assert len(sides.writer._blocks) == 2  # the first one was used again


def test_an_array_and_its_slices_hold_the_block(sides: Sides) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.frombuffer(sides.send(b"\1" * 8000), dtype=numpy.uint8)[5:4000:3].reshape(-1, 1)
    for _ in range(5):
        sides.send(b"\2" * 8000)
        gc.collect()
    assert array.min() == array.max() == 1


def test_where_there_is_no_room_the_sender_is_told(sides: Sides) -> None:
    assert sides.writer.put(memoryview(bytearray(ARENA_BYTES + 1))) is None
    held = []
    while (buffer := sides.send(b"x" * 4096)) is not None:
        held.append(buffer)
    assert len(held) == shared.BLOCKS_MAX
    held.pop()
    assert sides.send(b"y" * 4096) is not None


def test_only_what_is_used_takes_memory() -> None:
    fd = shared.create()
    memory = Memory(fd)
    writer = memory.writer(RESULTS)
    assert writer is not None
    writer.put(memoryview(bytes(100_000)))
    assert os.fstat(fd).st_blocks * 512 < 1 << 20
    os.close(fd)


def test_a_buffer_outlives_everything_else() -> None:
    buffer = Sides().send(b"kept" * 2000)
    gc.collect()
    assert bytes(buffer) == b"kept" * 2000


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_that_drops_its_copy_frees_nothing_of_the_parents(sides: Sides) -> None:
    buffer = sides.send(b"1" * 9000)
    pid = os.fork()
    if pid == 0:
        del buffer
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    assert sides.send(b"2" * 9000) is not None
    assert bytes(buffer) == b"1" * 9000


CRAMPED = """
import os, resource
from piecework.executors import shared
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), -1))
fd = shared.create()
ours, theirs = shared.Memory(fd, owner=True), shared.Memory(fd)
ours.words(0, 8)[3] = 77
assert theirs.words(0, 8)[3] == 77
assert ours.writer(shared.ARGUMENTS) is None and theirs.writer(shared.RESULTS) is None
print("fine")
"""


def test_where_address_space_is_scarce_the_words_work_without_arenas() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRAMPED],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(piecework.__file__).parents[1])},
    )
    assert ended.stdout == "fine\n", ended.stderr


def test_a_side_that_cannot_map_the_arenas_takes_none_of_the_other_sides() -> None:
    """The receiver is short of address space: what the sender has mapped must stay whole, for
    touching a page behind the end of the file kills the process."""
    fd = shared.create()
    memory = Memory(fd)
    writer = memory.writer(ARGUMENTS)
    assert writer is not None
    script = (
        "import sys, resource; from piecework.executors import shared;"
        "size = int(open('/proc/self/statm').read().split()[0]) * 4096;"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), -1));"
        "shared.Memory(int(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(fd)],
        pass_fds=[fd],
        stderr=subprocess.DEVNULL,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(piecework.__file__).parents[1])},
    )
    with mmap.mmap(fd, 0) as everything:
        assert len(everything) > 2 * ARENA_BYTES
    os.close(fd)
