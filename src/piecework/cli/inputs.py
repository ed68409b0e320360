"""Where inputs come from: arguments, a file of lines, or standard input; always lazily."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from piecework.errors import UsageError


def inputs(
    given: Sequence[str], arg_file: str | None, *, null: bool = False
) -> Sequence[str] | Iterator[str]:
    """The inputs as text: a list where they were given as arguments, else drawn as they are needed.

    Bytes that are not UTF-8 are kept as surrogates, so that a file name still opens its file.
    """
    if given and arg_file is not None:
        raise UsageError("inputs as arguments and with -a both. Give one of them.")
    if given:
        return given
    if arg_file is not None and arg_file != "-":
        return _lines(_open(arg_file), null)
    if arg_file is None and sys.stdin.isatty():
        raise UsageError(
            "no inputs. Give them as arguments, with -a FILE, or on standard input: "
            "ls | piecework map MODULE:FUNC"
        )
    return _lines(sys.stdin.buffer, null)


def _open(name: str) -> BinaryIO:
    try:
        file = open(name, "rb")  # noqa: SIM115  # closed when its lines end
        if stat.S_ISDIR(os.fstat(file.fileno()).st_mode):
            raise IsADirectoryError(21, "Is a directory", name)
        return file
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}. Check -a FILE.") from None


def _lines(file: BinaryIO, null: bool) -> Iterator[str]:
    with file:
        for line in _records(file) if null else file:
            yield _text(line, null)


def _text(line: bytes, null: bool) -> str:
    body = line if null else line.removesuffix(b"\n").removesuffix(b"\r")
    return body.decode("utf-8", "surrogateescape")


def _records(file: BinaryIO) -> Iterable[bytes]:
    """What NUL bytes end, as `find -print0` writes it."""
    rest = b""
    while block := file.read(1 << 16):
        *whole, rest = (rest + block).split(b"\0")
        yield from whole
    if rest:
        yield rest
