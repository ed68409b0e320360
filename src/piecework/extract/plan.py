"""The input as ranges of bytes: looked at once, cut lazily, read by the workers."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from piecework import UsageError

PIECE_BYTES = 1 << 20  # 10 to 30 ms of matching: even work at the end, little to lose

_COMPRESSED = re.compile(
    rb"(?P<gzip>\x1f\x8b\x08)|(?P<zstd>\x28\xb5\x2f\xfd)|(?P<bzip2>BZh\d1AY&SY)|(?P<xz>\xfd7zXZ\0)"
)


class Piece(NamedTuple):
    """The lines of a file that begin in [start, stop); the rest tells whether it is the same file.

    `size`, `mtime` (nanoseconds) and `inode` are those of the listing.
    """

    path: str
    start: int
    stop: int
    size: int
    mtime: int
    inode: int

    def __repr__(self) -> str:
        return f"{self.path} bytes {self.start} to {self.stop}"


class Plan:
    """Every piece of every file, in order; made as it is drawn, so a terabyte costs nothing."""

    def __init__(self, paths: Sequence[str], piece_bytes: int = PIECE_BYTES) -> None:
        self._bytes = piece_bytes
        self.files = [(path, _looked_at(path)) for path in paths]
        self.nbytes = sum(status.st_size for _, status in self.files)

    def __len__(self) -> int:
        return sum(-(-status.st_size // self._bytes) for _, status in self.files)

    def __iter__(self) -> Iterator[Piece]:
        for path, status in self.files:
            size, mtime, inode = status.st_size, status.st_mtime_ns, status.st_ino
            for start in range(0, size, self._bytes):
                stop = min(start + self._bytes, size)
                yield Piece(path, start, stop, size, mtime, inode)


def _looked_at(path: str) -> os.stat_result:
    """Its status now; refused where ranges of it could not be read or would mean nothing."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(
                    f"{path} is no regular file: it cannot be read in ranges. Save it to one first."
                )
            head = file.read(10)
    except IsADirectoryError:
        raise UsageError(f"{path} is a directory. Name its files: {path.rstrip('/')}/*") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}. Check the path.") from None
    if kind := _COMPRESSED.match(head):
        raise UsageError(
            f"{path} is compressed ({kind.lastgroup}). Unpack it first, and name that file."
        )
    return status
