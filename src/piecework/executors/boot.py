"""How a supervisor starts: in a fresh interpreter, or (start method fork) as a copy of this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from piecework.errors import UsageError
from piecework.executors import supervisor
from piecework.lean import signal, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Boot = Callable[[], "tuple[socket.socket, int]"]
"""Starts a supervisor: our end of its socket, and its process id. It ends when that socket does."""


def boot_fresh(*, spawn: bool) -> tuple[socket.socket, int]:
    """A fresh interpreter with nothing of the user's in it; `spawn` makes workers so, too."""
    if not sys.executable:
        raise UsageError(
            'sys.executable is empty, so no worker can be started: use mp_context="fork"'
        )
    ours, theirs = socket.socketpair()
    command = supervisor.interpreter_command("supervisor", theirs.fileno(), int(spawn))
    try:
        return ours, supervisor.spawn(command, [theirs.fileno()])
    finally:
        theirs.close()


def boot_copy(initializer: Any, initargs: tuple[Any, ...]) -> tuple[socket.socket, int]:
    """A fork of this process, whose workers have all that it has now, the initializer too."""
    from piecework.executors import child

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    try:
        ours.close()  # or the end of this process would never be seen there
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        inherited = (initializer, initargs)
        supervisor.run(theirs, supervisor.Forker(theirs, lambda fds: child.main(fds, inherited)))
        os._exit(0)
    finally:
        os._exit(70)
