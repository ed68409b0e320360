"""What commands print: held, spilled, cut into lines; files that go with their results."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework import captured
from piecework.captured import Capture, Folder, Lines, Output, Tail
from piecework.errors import PieceworkError


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "spill"))


def test_what_is_small_stays_in_memory(folder: Folder) -> None:
    capture = Capture(folder, memory_max=10)
    capture.add(b"12345")
    capture.add(b"67890")
    output = capture.end()
    assert (output.read(), output.size, output.path) == (b"1234567890", 10, None)
    assert not os.path.exists(folder.path)


def test_what_is_large_is_in_a_file_as_long_as_somebody_has_it(folder: Folder) -> None:
    capture = Capture(folder, memory_max=10)
    for _ in range(100):
        capture.add(b"0123456789")
    output = capture.end()
    path = output.path
    assert path is not None
    assert os.path.getsize(path) == 1000
    assert output.read() == b"0123456789" * 100
    assert output.tail(3) == b"789"
    assert b"".join(output.chunks(7)) == output.read()
    assert output.in_memory == 0
    assert output.weight == 1000 // 16
    del output, capture
    assert not os.path.exists(path)


def test_the_folder_goes_with_its_last_output(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "spill"))
    capture = Capture(folder, memory_max=1)
    capture.add(b"large")
    output, path = capture.end(), folder.path
    del folder, capture
    assert output.read() == b"large"
    del output
    assert not os.path.exists(path)


def test_a_pickle_keeps_the_end_and_says_so(folder: Folder) -> None:
    capture = Capture(folder, memory_max=10, keep_bytes=5)
    capture.add(b"0123456789abc")
    again = pickle.loads(pickle.dumps(capture.end()))
    assert (again.size, again.truncated, again.tail()) == (13, True, b"89abc")
    with pytest.raises(PieceworkError, match="only the last 5 of 13 bytes"):
        again.read()
    twice = pickle.loads(pickle.dumps(again))
    assert (twice.size, twice.truncated, twice.tail()) == (13, True, b"89abc")


def test_a_pickle_of_what_fits_is_whole(folder: Folder) -> None:
    capture = Capture(folder, memory_max=2, keep_bytes=5)
    capture.add(b"12345")
    output = capture.end()
    again = pickle.loads(pickle.dumps(output))
    assert (again.read(), again.truncated, again.path) == (b"12345", False, None)
    assert again == output


@given(st.lists(st.binary(max_size=9)), st.integers(0, 20))
def test_a_tail_has_the_last_bytes(parts: list[bytes], most: int) -> None:
    tail = Tail(most)
    for part in parts:
        tail.add(part)
    whole, output = b"".join(parts), tail.end()
    assert output.tail() == (whole[-most:] if most else b"")
    assert output.size == len(whole)


@given(st.lists(st.text("ab\n", max_size=6).map(str.encode)), st.integers(1, 8))
def test_lines_come_whole_in_order_and_none_is_lost(parts: list[bytes], most: int) -> None:
    lines = Lines(most)
    passed = [whole for part in parts if (whole := lines.add(part))]
    rest = lines.rest()
    assert b"".join(passed) + rest == b"".join(parts)
    for whole in passed:
        assert whole.endswith(b"\n") or len(whole) > most
    assert b"\n" not in rest
    assert len(rest) <= most + 6


def test_an_output_knows_its_size() -> None:
    assert len(Output(b"abc")) == 3
    assert "3 bytes" in repr(Output(b"abc"))


def test_outputs_are_held_in_memory_only_as_long_as_there_is_room(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "SMALL", 10)
    monkeypatch.setattr(captured, "HELD_MAX", 100)

    def output(size: int) -> Output:
        capture = Capture(folder)
        for _ in range(size):
            capture.add(b"x")
        return capture.end()

    small = [output(10) for _ in range(100)]
    held = [output(40), output(40)]
    assert all(one.path is None for one in small + held)
    assert folder.held == 80
    assert output(40).path is not None
    del held[0]
    assert folder.held == 40
    assert output(40).path is None
    assert folder.held == 40
