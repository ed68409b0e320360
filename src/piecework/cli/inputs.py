"""Where inputs come from: arguments, a file of lines, or standard input; always lazily."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from io import FileIO

from piecework.errors import UsageError


class Lines:
    """The records of a file, drawn as they are needed; their number is known where that is cheap.

    A regular file is counted first, so that progress can say how much is left. Bytes that are not
    UTF-8 are kept as surrogates: a file name still opens its file.
    """

    def __init__(self, file: FileIO, null: bool, begin: bytes = b"") -> None:
        self._file = file
        self._null = null
        self._begin = begin  # was read already
        self._total = self._count() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None

    def __len__(self) -> int:
        if self._total is None:
            raise TypeError("nobody knows how many lines will come")
        return self._total

    def __iter__(self) -> Iterator[str]:
        with self._file as file:
            for line in _split(file, b"\0" if self._null else b"\n", self._begin):
                body = line if self._null else line.removesuffix(b"\r")
                yield body.decode("utf-8", "surrogateescape")

    def _count(self) -> int | None:
        """One read of the file, a gigabyte a second; from where it stands, and back to there."""
        end = b"\0" if self._null else b"\n"
        count, last = 0, end
        begin = self._file.tell()
        try:
            while block := self._file.read(1 << 20):
                count += block.count(end)
                last = block[-1:]
        except OSError:  # drawing meets it again, and then the index is known
            return None
        finally:
            self._file.seek(begin)
        return count + (last != end)


def inputs(
    given: Sequence[str], arg_file: str | None, *, null: bool = False, again: str = ""
) -> Sequence[str] | Lines:
    """The inputs as text: a list where they were given as arguments, else the lines of a file.

    `again` names the run that goes on: what it read from standard input must be there again.
    """
    if given and arg_file is not None:
        raise UsageError("inputs as arguments and with -a both. Give one of them.")
    if given:
        return given
    if arg_file is not None and arg_file != "-":
        return Lines(_open(arg_file), null)
    if again:
        return _once_more(again, null)
    if sys.stdin is None or (arg_file is None and sys.stdin.isatty()):
        raise UsageError(
            "no inputs. Give them as arguments, with -a FILE, or on standard input: "
            "ls | piecework map MODULE:FUNC"
        )
    return Lines(_standard_input(), null)


def _once_more(run: str, null: bool) -> Lines:
    """Standard input of a run that goes on: nothing there means that nobody gave it, not that
    there is nothing left to do."""
    if sys.stdin is not None and not sys.stdin.isatty():
        file = _standard_input()
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            if os.fstat(file.fileno()).st_size:
                return Lines(file, null)
        elif begin := file.read(1 << 16):
            return Lines(file, null, begin)
    import shlex

    name = shlex.quote(run)
    raise UsageError(
        f"the run {run} read its inputs from standard input. Give them once more: "
        f"... | piecework resume {name}\n"
        f"What failed is tried again without them: piecework retry {name}"
    )


def _standard_input() -> FileIO:
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)


def _open(name: str) -> FileIO:
    try:
        file = open(name, "rb", buffering=0)  # noqa: SIM115  # closed when its lines end
        if stat.S_ISDIR(os.fstat(file.fileno()).st_mode):
            raise IsADirectoryError(21, "Is a directory", name)
        return file
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}. Check -a FILE.") from None


def _split(file: FileIO, end: bytes, begin: bytes) -> Iterator[bytes]:
    """The records of a file without their ends, each as soon as it is there.

    Read without a buffer of Python's: its lock would be held by a thread that waits for input,
    and the interpreter aborts when it wants it at exit.
    """
    rest: list[bytes] = []
    while block := begin or file.read(1 << 16):
        begin = b""
        *whole, last = block.split(end)
        if whole:
            whole[0] = b"".join([*rest, whole[0]])
            rest.clear()
            yield from whole
        rest.append(last)
    if any(rest):
        yield b"".join(rest)
