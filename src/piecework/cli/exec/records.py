"""The records of files and pipes: each as soon as it is there, never more than was asked for."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator

from piecework.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, cast
else:

    def cast(kind: str, value: object) -> object:
        """As in `typing`, whose import takes longer than a command."""
        return value


BLOCK_BYTES = 1 << 16
RECORD_BYTES_MAX = 1 << 30  # whoever sends more without an end has forgotten the end


def opened(name: str, run: str = "") -> BinaryIO:
    """The file, or standard input for "-"; UsageError where it cannot be read.

    `run` is the name of one that goes on: it must be given its standard input once more.
    """
    if name == "-":
        return _once_more(run) if run else _standard_input()
    try:
        file = open(name, "rb", buffering=0)  # noqa: SIM115  # open as long as the run
        if stat.S_ISDIR(os.fstat(file.fileno()).st_mode):
            raise IsADirectoryError(21, "Is a directory", name)
    except OSError as error:
        raise UsageError(
            f"cannot read {name}: {error.strerror}. Check the file after :::: or -a; "
            "values themselves come after :::"
        ) from None
    return file


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise UsageError("standard input is closed. Give arguments after ::: or a file after ::::")
    if sys.stdin.isatty():
        raise UsageError(
            "no arguments. Give them after :::, in a file after ::::, or on standard input: "
            "ls | piecework exec CMD"
        )
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)


def _once_more(run: str) -> BinaryIO:
    """Nothing there means that nobody gave it, not that there is nothing left to do."""
    if sys.stdin is not None and not sys.stdin.isatty():
        file = _standard_input()
        if regular(file):
            if os.fstat(file.fileno()).st_size:
                return file
        elif first := file.read(BLOCK_BYTES):
            return cast("BinaryIO", Ahead(first, file))
    raise UsageError(
        f"the run {run} read its arguments from standard input. Give them once more: "
        f"... | piecework resume {run}\n"
        f"What failed is tried again without them: piecework retry {run}"
    )


class Ahead:
    """A pipe of which the first bytes were read already."""

    def __init__(self, first: bytes, file: BinaryIO) -> None:
        self.name = file.name
        self.fileno = file.fileno
        self.close = file.close
        self._first = first
        self._file = file

    def read(self, size: int) -> bytes:
        """What was read first, then the rest."""
        if not self._first:
            return self._file.read(size)
        first, self._first = self._first[:size], self._first[size:]
        return first


def split(file: BinaryIO, end: bytes, begin: int | None = None) -> Iterator[bytes]:
    """The records of a file without their ends, each as soon as it is there."""
    if begin is not None:
        file.seek(begin)
    at = begin
    carriage = end == b"\n"
    rest = b""
    while block := _read(file, at):
        at = None if at is None else at + len(block)
        *whole, rest = (rest + block).split(end)
        for record in whole:
            yield record.removesuffix(b"\r") if carriage else record
        if len(rest) > RECORD_BYTES_MAX:
            raise UsageError(
                f"a record of {file.name} is longer than 1 GiB. Say what ends it with -d, or -0."
            )
    if rest:
        yield rest.removesuffix(b"\r") if carriage else rest


def _read(file: BinaryIO, at: int | None) -> bytes:
    """From where this reader is: another one of the same file may be somewhere else."""
    if at is None:
        return file.read(BLOCK_BYTES)
    return os.pread(file.fileno(), BLOCK_BYTES, at)


def count_of(file: BinaryIO, end: bytes) -> int:
    """How many records a regular file has from where it stands on: a gigabyte a second."""
    if len(end) > 1:  # it may lie across two blocks: not worth the trouble
        raise TypeError
    at = file.tell()
    found, last = 0, end
    while block := os.pread(file.fileno(), 1 << 20, at):
        found += block.count(end)
        at += len(block)
        last = block[-1:]
    return found + (last != end)


def regular(file: BinaryIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
