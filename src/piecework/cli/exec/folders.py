"""`--results DIR`: what each command printed, in files, laid out as GNU parallel does.

DIR/1/ARGUMENT/stdout, stderr, seq         of several sources: DIR/1/ARGUMENT/2/ARGUMENT/...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from piecework.cli.output import CannotWrite

NAME_BYTES_MAX = 255  # of one file name, on about every file system
_ESCAPES = str.maketrans({"\\": "\\\\", "/": "\\_", "\t": "\\t", "\0": "\\0"})


def folder_of(columns: Sequence[str], names: Sequence[str] = ()) -> str:
    """The folder, below DIR, of the command with these arguments."""
    parts: list[str] = []
    for number, column in enumerate(columns):
        parts.append(_name(names[number]) if number < len(names) else str(number + 1))
        parts.append(_name(column))
    return os.path.join(*filter(None, parts)) if parts else ""


def _name(argument: str) -> str:
    """The argument as a file name: no other folder than ours is ever meant by it."""
    name = argument.translate(_ESCAPES)
    if name in (".", ".."):
        name = "\\" + name
    raw = name.encode("utf-8", "surrogateescape")
    if len(raw) <= NAME_BYTES_MAX:
        return name
    from hashlib import sha256

    mark = sha256(raw).hexdigest()[:16]  # two that begin alike stay two
    return raw[: NAME_BYTES_MAX - 20].decode("utf-8", "ignore") + "..." + mark


def keep(
    folder: str,
    sequence: int,
    stdout: Callable[[], Iterable[bytes]],
    stderr: Callable[[], Iterable[bytes]],
) -> None:
    """Write the three files; `seq` comes last: where it is, the others are whole."""
    try:
        os.makedirs(folder, exist_ok=True)
        for name, chunks in (("stdout", stdout), ("stderr", stderr)):
            with open(os.path.join(folder, name), "wb") as file:
                file.writelines(chunks())
        with open(os.path.join(folder, "seq"), "wb") as file:
            file.write(b"%d" % sequence)
    except OSError as error:
        raise CannotWrite(
            f"cannot write to {folder}: {error.strerror}. Give --results DIR where there is room."
        ) from None
