"""Blocks of standard input: whole records, nothing lost, nothing read ahead."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

import piecework
from piecework.cli.exec import blocks as module
from piecework.cli.exec.blocks import blocks

DATA = st.lists(st.text(st.sampled_from("ab"), max_size=6), max_size=40).map(
    lambda lines: "\n".join(lines).encode()
)


@given(DATA, st.integers(1, 40))
def test_blocks_are_whole_records_and_all_of_them(data: bytes, size: int) -> None:
    made = list(blocks(io.BytesIO(data).read, size))
    assert b"".join(made) == data
    assert all(block.endswith(b"\n") for block in made[:-1])
    for block in made:
        assert len(block) <= size or b"\n" not in block[:-1]


@given(DATA, st.integers(1, 5))
def test_a_block_has_as_many_records_as_asked(data: bytes, count: int) -> None:
    made = list(blocks(io.BytesIO(data).read, count=count))
    assert b"".join(made) == data
    assert all(block.count(b"\n") == count for block in made[:-1])
    assert all(block.count(b"\n") <= count for block in made)


@given(st.lists(st.text(st.sampled_from("ab"), max_size=5), max_size=20), st.integers(1, 25))
def test_records_may_be_told_by_their_beginning(bodies: list[str], size: int) -> None:
    data = "".join(f">{body}\n" for body in bodies).encode()
    made = list(blocks(io.BytesIO(data).read, size, end=b"\n", start=b">"))
    assert b"".join(made) == data
    assert all(block.startswith(b">") and block.endswith(b"\n") for block in made)


def test_a_block_is_as_full_as_it_can_be() -> None:
    data = b"".join(b"%d\n" % n for n in range(1, 11))
    made = list(blocks(io.BytesIO(data).read, 5))
    assert made == [b"1\n2\n", b"3\n4\n", b"5\n6\n", b"7\n8\n", b"9\n10\n"]


def test_nothing_is_read_before_it_is_wanted() -> None:
    read: list[int] = []

    def endless(size: int) -> bytes:
        read.append(size)
        return b"line\n" * (size // 5)

    made = blocks(endless, 1000)
    next(made)
    assert len(read) == 1


def test_a_record_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORD_BYTES_MAX", 1 << 18)
    with pytest.raises(piecework.UsageError, match="--recend"):
        list(blocks(lambda size: b"x" * size, 1000))


def test_records_that_nothing_tells_apart_are_refused() -> None:
    with pytest.raises(piecework.UsageError, match="--recstart"):
        list(blocks(io.BytesIO(b"abc").read, end=b""))
