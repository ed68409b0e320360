"""`--joblog FILE`: a line a command in the nine columns of GNU parallel, for tools that read them.

Each line is one write as soon as the command's fate is decided, so that a kill leaves whole lines.
"""

from __future__ import annotations

import os

from piecework.errors import UsageError

HEADER = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"


class Joblog:
    """An open log; a `+` before the path, or `keep`, goes on with the one that is there."""

    def __init__(self, path: str, *, keep: bool = False) -> None:
        keep = keep or path.startswith("+")
        self._path = path = path.removeprefix("+")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags | (0 if keep else os.O_TRUNC), 0o666)
        except OSError as error:
            raise UsageError(
                f"cannot write the job log {path}: {error.strerror}. Give another --joblog FILE."
            ) from None
        if not keep or not os.fstat(self._file).st_size:
            self._write(HEADER)

    def add(
        self,
        sequence: int,
        started: float,
        seconds: float,
        sent: int,
        received: int,
        exitcode: int,
        signal: int,
        command: str,
    ) -> None:
        """One command that has ended; its line feeds become NUL, so that it stays one line."""
        line = line_of(sequence, started, seconds, sent, received, exitcode, signal, command)
        self._write(line)

    def close(self) -> None:
        """No more lines."""
        os.close(self._file)

    def _write(self, line: bytes) -> None:
        try:
            os.write(self._file, line)
        except OSError as error:
            raise UsageError(
                f"cannot write the job log {self._path}: {error.strerror}. "
                "Give --joblog FILE where there is room."
            ) from None


def line_of(
    sequence: int, started: float, seconds: float, sent: int, received: int,
    exitcode: int, signal: int, command: str,
) -> bytes:  # fmt: skip
    """The nine columns."""
    shown = command.replace("\n", "\0").encode("utf-8", "surrogateescape")
    head = f"{sequence}\t:\t{started:.3f}\t{seconds:10.3f}\t{sent}\t{received}"
    return b"%s\t%d\t%d\t%s\n" % (head.encode(), exitcode, signal, shown)
