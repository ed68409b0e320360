"""Frames: whatever pieces a socket delivers them in, they arrive as they were sent."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piecework.executors import channel, shared
from piecework.executors.channel import FIRST_READ, FrameReader, Outbox, encode, send_all
from piecework.spin import Spin


class Ends:
    """A socket pair with the memory that goes with it."""

    def __init__(self) -> None:
        fd = shared.create()
        memory = shared.Memory(fd)
        os.close(fd)
        self.arena = memory.writer(shared.ARGUMENTS)
        self.ours, self.theirs = socket.socketpair()
        self.reader = FrameReader(self.theirs, memory.reader(shared.ARGUMENTS))

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    with Ends() as ends:
        yield ends


def contents(frame: channel.Frame) -> tuple[Any, ...]:
    """A copy of the frame: the frame itself is valid only until the reader reads on."""
    buffers = [bytes(buffer) for buffer in frame.buffers]
    return (frame.kind, frame.flags, frame.count, frame.call, frame.first, bytes(frame.body)), (
        buffers
    )


FRAMES = st.tuples(
    st.sampled_from([channel.TASKS, channel.RESULTS, channel.STOP]),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=300),
    st.lists(st.binary(max_size=200), max_size=3),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(FRAMES, min_size=1, max_size=8), st.lists(st.integers(1, 400), max_size=60))
def test_frames_arrive_whole_wherever_the_stream_is_cut(
    sent: list[tuple[Any, ...]], cuts: list[int]
) -> None:
    with Ends() as ends:
        stream = b""
        expected = []
        for kind, flags, count, call, first, body, buffers, in_arena in sent:
            pieces = encode(
                kind,
                body,
                flags=flags,
                count=count,
                call=call,
                first=first,
                buffers=[memoryview(buffer) for buffer in buffers],
                arena=ends.arena if in_arena else None,
            )
            stream += b"".join(pieces)
            expected.append(((kind, flags, count, call, first, body), buffers))
        got = []
        while stream:
            size = cuts.pop() if cuts else len(stream)
            ends.ours.sendall(stream[:size])
            stream = stream[size:]
            assert ends.reader.fill() > 0
            got += [contents(frame) for frame in ends.reader.frames()]
        while len(got) < len(expected):
            assert ends.reader.fill() > 0
            got += [contents(frame) for frame in ends.reader.frames()]
        assert got == expected


@pytest.mark.parametrize("size", [FIRST_READ - 33, FIRST_READ, 3 * FIRST_READ, 40 * FIRST_READ])
def test_a_frame_of_any_size_arrives_between_small_ones(ends: Ends, size: int) -> None:
    body = os.urandom(size)
    large = bytearray(os.urandom(size))
    thread = threading.Thread(
        target=send_all,
        args=(
            ends.ours,
            encode(channel.TASKS, b"before")
            + encode(channel.RESULTS, body, buffers=[memoryview(large)])
            + encode(channel.TASKS, b"after"),
        ),
    )
    thread.start()
    got: list[Any] = []
    while len(got) < 3:
        assert ends.reader.fill() > 0
        got += [contents(frame) for frame in ends.reader.frames()]
    thread.join()
    assert [frame[-1] for frame, _ in got] == [b"before", body, b"after"]
    assert got[1][1] == [bytes(large)]


def test_the_room_of_one_large_frame_is_given_back(ends: Ends) -> None:
    body = bytes(64 * FIRST_READ)
    threading.Thread(target=send_all, args=(ends.ours, encode(channel.TASKS, body))).start()
    while not list(ends.reader.frames()):
        ends.reader.fill()
    ends.ours.sendall(encode(channel.STOP)[0])
    ends.reader.fill()
    assert len(list(ends.reader.frames())) == 1
    assert len(ends.reader._data) == FIRST_READ


def test_a_buffer_that_travelled_in_the_stream_outlives_the_frame(ends: Ends) -> None:
    for number in (b"1", b"2"):
        send_all(ends.ours, encode(channel.TASKS, buffers=[memoryview(number * 500)]))
    ends.reader.fill()
    first, second = (frame.buffers[0] for frame in ends.reader.frames())
    ends.ours.sendall(encode(channel.TASKS, b"3" * 5000)[0])
    ends.reader.fill()
    assert (bytes(first), bytes(second)) == (b"1" * 500, b"2" * 500)
    memoryview(first)[0:1] = b"x"  # what arrives is the receiver's own


def test_the_end_of_the_stream_is_zero_bytes(ends: Ends) -> None:
    ends.ours.sendall(encode(channel.STOP)[0][:10])
    ends.ours.close()
    assert ends.reader.fill() == 10
    assert ends.reader.fill() == 0
    assert list(ends.reader.frames()) == []
    assert ends.reader.await_more(Spin()) == 0


def test_awaiting_more_sleeps_until_it_comes(ends: Ends) -> None:
    timer = threading.Timer(0.02, ends.ours.sendall, encode(channel.STOP))
    timer.start()
    assert ends.reader.await_more(Spin()) == channel.HEADER.size
    timer.join()
    assert [frame.kind for frame in ends.reader.frames()] == [channel.STOP]


def test_nothing_to_read_is_not_the_end(ends: Ends) -> None:
    ends.theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        ends.reader.fill()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=70_000), max_size=20), st.integers(1, 90_000))
def test_the_outbox_sends_everything_in_order_and_never_blocks(
    pieces: list[bytes], reading: int
) -> None:
    with Ends() as ends:
        ends.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ends.ours.setblocking(False)
        ends.theirs.setblocking(False)
        outbox = Outbox(ends.ours)
        outbox.put(list(pieces))
        got = b""
        while not outbox.send() or len(got) < sum(map(len, pieces)):
            got += ends.theirs.recv(reading)
        assert got == b"".join(pieces)


def test_the_outbox_says_that_the_other_end_is_gone(ends: Ends) -> None:
    ends.theirs.close()
    outbox = Outbox(ends.ours)
    outbox.put([b"x"])
    with pytest.raises(OSError, match="Broken pipe"):
        outbox.send()


def test_many_pieces_go_in_one_frame(ends: Ends) -> None:
    """More buffers than one call of the operating system takes."""
    buffers = [bytes([n % 251]) * 10 for n in range(3000)]
    pieces = encode(channel.RESULTS, b"body", buffers=[memoryview(b) for b in buffers])
    threading.Thread(target=send_all, args=(ends.ours, pieces)).start()
    got: list[Any] = []
    while not got:
        assert ends.reader.fill() > 0
        got += [contents(frame) for frame in ends.reader.frames()]
    assert got[0][1] == buffers
