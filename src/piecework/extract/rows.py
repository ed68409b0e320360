"""What a worker does with one piece: read its lines, match them, hand back finished JSON lines.

Lines end with \\n or \\r\\n. A byte order mark at the start of a file is dropped. Bytes that are
not UTF-8 are written as \\xNN (Python's `backslashreplace`): the line is matched and counted as
any other, and the row shows which bytes they were.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import BinaryIO, NamedTuple

import msgspec

from piecework.extract.plan import Piece

LINE_BYTES_MAX = 64 << 20
SAMPLES = 3  # unmatched lines shown from one piece
SAMPLE_CHARS = 160

_encoder = msgspec.json.Encoder()


class FileChanged(OSError):
    """The file is not the one that was listed: its ranges mean nothing any more."""


class Block(NamedTuple):
    """The outcome of a piece: `lines` = `rows` + `unmatched` + `empty`."""

    data: bytes  # the rows, one JSON object a line
    lines: int
    rows: int
    unmatched: int
    empty: int
    samples: tuple[tuple[int, str], ...]  # offset in the file, text: some of the unmatched
    grown: int  # bytes that were appended after the listing; they are not read


@lru_cache(maxsize=8)
def compiled(source: str) -> re.Pattern[str]:
    """Once in each worker process."""
    return re.compile(source)


def read(source: str, piece: Piece) -> Block:
    """Every line that begins in the piece, matched against the pattern (anywhere in the line)."""
    with open(piece.path, "rb") as file:
        grown = _same(file, piece)
        first, data = _lines(file, piece)
    lines = _text(data, first)
    search = compiled(source).search
    rows = []
    missed: list[int] = []
    empty = 0
    for number, line in enumerate(lines):
        if match := search(line) if line else None:
            rows.append(match.groupdict())
        elif line:
            missed.append(number)
        else:
            empty += 1
    samples = _samples(data, first, lines, missed[:SAMPLES])
    written = _encoder.encode_lines(rows)
    return Block(written, len(lines), len(rows), len(missed), empty, samples, grown)


def _same(file: BinaryIO, piece: Piece) -> int:
    """By how much the file has grown; FileChanged where it is another one."""
    now = os.fstat(file.fileno())
    if now.st_ino != piece.inode:
        raise FileChanged(f"{piece.path} was replaced by another file after it was listed")
    if now.st_size < piece.size:
        raise FileChanged(
            f"{piece.path} shrank after it was listed: from {piece.size:,} bytes to {now.st_size:,}"
        )
    if now.st_size == piece.size and now.st_mtime_ns != piece.mtime:
        raise FileChanged(f"{piece.path} was written to after it was listed")
    return now.st_size - piece.size  # a log that is appended to: what was listed still stands


def _lines(file: BinaryIO, piece: Piece) -> tuple[int, bytes]:
    """Offset of the first line that begins in the piece, and all such lines, whole.

    A line belongs to the piece its first byte is in. So the byte before the piece decides
    whether a line begins at once, and the last line is read past the end.
    """
    begin = max(piece.start - 1, 0)
    file.seek(begin)
    data = file.read(piece.stop - begin)
    if len(data) != piece.stop - begin:
        raise FileChanged(f"{piece.path} shrank while it was read")
    if piece.start:
        cut = data.find(b"\n") + 1
        if cut in (0, len(data)):
            return piece.stop, b""
        begin, data = begin + cut, data[cut:]
    if not data.endswith(b"\n"):
        data += file.readline(LINE_BYTES_MAX)
        if len(data) > LINE_BYTES_MAX and not data.endswith(b"\n"):
            start = begin + data.rfind(b"\n") + 1
            raise ValueError(f"{piece.path}: the line at byte {start} is longer than 64 MiB")
    return begin, data


def _text(data: bytes, first: int) -> list[str]:
    text = data.decode("utf-8", "backslashreplace")
    if first == 0:
        text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()  # the end of the last line, not a line
    return lines


def _samples(
    data: bytes, first: int, lines: list[str], numbers: list[int]
) -> tuple[tuple[int, str], ...]:
    """Offsets are counted for these few only."""
    found = []
    offset = at = 0
    for number in numbers:
        for _ in range(number - at):
            offset = data.index(b"\n", offset) + 1
        at = number
        found.append((first + offset, lines[number][:SAMPLE_CHARS]))
    return tuple(found)
