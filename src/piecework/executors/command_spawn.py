"""Starts one command: its program found, its descriptors given, and nothing else of ours."""

from __future__ import annotations

import errno
import os
import stat

from piecework.commands import Command
from piecework.errors import CommandFailed, UsageError
from piecework.lean import signal
from piecework.packing import type_name
from piecework.task import Failure

_DEFAULTED = [
    getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ") if hasattr(signal, name)
]  # Python ignores them, which a program would inherit
_IN_FOLDER = 'cd -- "$1" || exit 126; shift; exec "$@"'  # posix_spawn knows no folder
_NOT_NOW = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
)  # enough descriptors, processes or memory when something else has ended
_NOT_ON_PATH = "not on PATH"
_BASES = tuple(map(type_name, CommandFailed.__mro__[:-1]))


def not_now(error: OSError) -> bool:
    """Whether it can be started once something else has ended."""
    return error.errno in _NOT_NOW


def spawn(
    program: str, words: list[str], env: dict[bytes, bytes], cwd: str | None, fds: list[int]
) -> int:
    """Run the words in a process group of its own, with these descriptors as 0, 1 and 2."""
    if cwd is not None:
        # Absolute, or CDPATH would have a say.
        words = ["sh", "-c", _IN_FOLDER, "sh", os.path.abspath(cwd), program, *words[1:]]
        program = "/bin/sh"
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)]
    return os.posix_spawn(
        program,
        words,
        env,
        file_actions=actions,
        setpgroup=0,
        setsigmask=(),
        setsigdef=_DEFAULTED,
    )


def find(name: str, env: dict[bytes, bytes], cwd: str | None) -> str:
    """The program's file, as the command will see it; OSError where there is none to be run."""
    if "/" in name:
        _check_runs(os.path.join(cwd, name) if cwd else name)
        return name
    refused: OSError | None = None
    for folder in os.fsdecode(env.get(b"PATH", os.defpath.encode())).split(os.pathsep):
        path = os.path.join(folder or ".", name)
        try:
            _check_runs(os.path.join(cwd, path) if cwd else path)
        except FileNotFoundError:
            continue
        except OSError as error:
            refused = refused or error
            continue
        return path
    raise refused or FileNotFoundError(errno.ENOENT, _NOT_ON_PATH, name)


def _check_runs(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except NotADirectoryError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    if stat.S_ISDIR(mode):
        raise PermissionError(errno.EACCES, "it is a folder", path)
    if not os.access(path, os.X_OK):
        raise PermissionError(errno.EACCES, "it is not executable", path)


def check(command: Command, env: dict[bytes, bytes]) -> str | None:
    """The program's file where it is the same for every input; UsageError where it cannot run."""
    cwd = command.cwd
    if cwd is not None and not os.path.isdir(cwd):
        raise UsageError(
            f"there is no folder {cwd!r} to run the command in. Make it, or leave out cwd."
        )
    name = command.template.program
    if name is None:
        return None
    try:
        return find(name, env, cwd)
    except FileNotFoundError:
        raise UsageError(f"no program {name!r}{_where(name)}.") from None
    except OSError as error:
        raise UsageError(
            f"the program {name!r} cannot be executed: {error.strerror} ({error.filename}). "
            f"Make it executable: chmod +x {error.filename}"
        ) from None


def _where(name: str) -> str:
    if "/" in name:
        return ": there is no such file. Correct the path"
    return " on PATH. Install it, give its path, or use shell=True where it is a word of the shell"


def cannot_run(name: str, error: OSError) -> Failure:
    """The failure of a task whose command could not be started; it names it."""
    missing = isinstance(error, FileNotFoundError)
    message = f"{name!r} cannot be run: {_reason(name, error)}"
    return Failure(
        type=type_name(CommandFailed),
        message=message,
        exitcode=127 if missing else 126,
        bases=_BASES,
    )


def _reason(name: str, error: OSError) -> str:
    if error.errno == errno.E2BIG:
        return (
            "the input is too large for an argument. Feed it on standard input instead: "
            'command(..., input="task")'
        )
    if error.errno == errno.ENOEXEC:
        return "it is no program and has no #! line that names one"
    if error.strerror == _NOT_ON_PATH:
        return "there is no such program on PATH"
    if isinstance(error, FileNotFoundError) and os.path.exists(str(error.filename)):
        return "the interpreter that its #! line names does not exist"
    return f"{error.strerror or error}"[:1].lower() + f"{error.strerror or error}"[1:]
