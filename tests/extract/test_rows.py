"""Every line of a file lands in exactly one piece, and in exactly one of the three counts."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework import UsageError
from piecework.extract import Block, FileChanged, Piece, Plan, read

WORD = r"^(?P<word>[a-z]+)$"


def blocks(path: Path, pattern: str = WORD, piece_bytes: int = 1 << 20) -> list[Block]:
    return [read(pattern, piece) for piece in Plan([str(path)], piece_bytes)]


def words(found: list[Block], name: str = "word") -> list[str]:
    lines = b"".join(block.data for block in found).splitlines()
    return [json.loads(line)[name] for line in lines]


def piece_of(path: Path) -> Piece:
    return next(iter(Plan([str(path)])))


@given(
    st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=30),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.integers(1, 40),
)
def test_wherever_the_file_is_cut_every_line_counts_once(
    lines: list[bytes], end: bytes, ended: bool, piece_bytes: int
) -> None:
    data = end.join(lines) + (end if ended and lines else b"")
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        found = blocks(path, piece_bytes=piece_bytes)
        whole = blocks(path)
    assert words(found) == words(whole)
    for name in ("lines", "rows", "unmatched", "empty"):
        assert sum(getattr(b, name) for b in found) == sum(getattr(b, name) for b in whole)
    expected = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    assert sum(b.lines for b in found) == expected
    assert all(b.lines == b.rows + b.unmatched + b.empty for b in found)


def test_pieces_cover_a_file_and_know_how_many_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 25)
    (tmp_path / "empty").write_bytes(b"")
    plan = Plan([str(tmp_path / "a"), str(tmp_path / "empty")], piece_bytes=10)
    assert [(p.start, p.stop) for p in plan] == [(0, 10), (10, 20), (20, 25)]
    assert len(plan) == 3
    assert plan.nbytes == 25


def test_windows_line_ends_and_a_byte_order_mark_are_not_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree")
    (block,) = blocks(path)
    assert words([block]) == ["one", "two", "three"]
    assert (block.lines, block.empty) == (4, 1)


def test_bytes_that_are_not_utf8_are_shown_as_escapes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"caf\xe9 1\n\xff\xfe\n")
    (block,) = blocks(path, r"^(?P<name>\S+) \d$")
    assert words([block], "name") == ["caf\\xe9"]
    assert block.samples == ((7, "\\xff\\xfe"),)


def test_unmatched_lines_are_shown_with_their_byte_offset(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes("grün\nä 1\nrot\n2\n".encode())
    found = blocks(path, r"^(?P<word>\w+)$", piece_bytes=4)
    assert [s for block in found for s in block.samples] == [(6, "ä 1")]


def test_a_group_that_took_no_part_is_null(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n")
    (block,) = blocks(path, r"^(?P<a>a)(?P<b>b)?$")
    assert json.loads(block.data) == {"a": "a", "b": None}


def test_a_line_longer_than_many_pieces_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n" + b"b" * 1000 + b"\nc\n")
    assert words(blocks(path, piece_bytes=16)) == ["a", "b" * 1000, "c"]


def test_a_line_without_end_is_refused_and_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("piecework.extract.rows.LINE_BYTES_MAX", 100)
    path = tmp_path / "log"
    path.write_bytes(b"a\n" + b"b" * 1000)
    with pytest.raises(ValueError, match="the line at byte 2 is longer"):
        blocks(path, piece_bytes=10)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\n")
    piece = piece_of(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="log"):
        read(WORD, piece)


def test_a_file_that_shrank_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("aaaa\n")
    piece = piece_of(path)
    os.truncate(path, 2)
    with pytest.raises(FileChanged, match="shrank"):
        read(WORD, piece)


def test_a_file_written_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("aaaa\n")
    piece = piece_of(path)
    os.utime(path, ns=(piece.mtime, piece.mtime + 1_000_000))
    with pytest.raises(FileChanged, match="written to"):
        read(WORD, piece)


def test_a_file_replaced_by_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("aaaa\n")
    piece = piece_of(path)
    (tmp_path / "new").write_text("bbbb\ncccc\n")
    os.replace(tmp_path / "new", path)
    with pytest.raises(FileChanged, match="replaced"):
        read(WORD, piece)


def test_a_log_that_is_appended_to_is_read_as_far_as_it_was_listed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntw")
    piece = piece_of(path)
    with path.open("a") as file:
        file.write("o\nthree\n")
    block = read(WORD, piece)
    assert words([block]) == ["one", "two"]  # the last line is whole, not cut at the listing
    assert block.grown == 8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "No such file"),
        (lambda p: p.mkdir(), "is a directory"),
        (lambda p: p.write_bytes(b"\x1f\x8b\x08rest"), r"compressed \(gzip\). Unpack it"),
        (lambda p: p.symlink_to("/dev/null"), "no regular file"),
    ],
)
def test_what_cannot_be_read_in_ranges_is_refused_at_once(tmp_path: Path, make, said) -> None:
    path = tmp_path / "log"
    make(path)
    with pytest.raises(UsageError, match=said):
        Plan([str(path)])
