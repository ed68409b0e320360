"""Ends the commands of a process that was killed before it could: nothing outlives `kill -9`.

    executor ── writes each command's process group ──▶ table in shared memory ──▶ guard, a small sh
             ── holds a pipe; when it ends, so did the executor's process ─────────▶ kills them all

The guard starts in a millisecond and sleeps in `read`. The pipe's end reaches it only when every
child that was just being started has become its program, and that carries the executor's token in
its environment. So what is in no table yet, or left its group, is found on Linux in /proc.
"""

from __future__ import annotations

import fcntl
import os
import sys
import weakref
from collections.abc import Iterable
from mmap import mmap

from piecework.captured import Folder
from piecework.executors.command_fan import Fan
from piecework.lean import signal, suppress

_KILL_TOKEN = """
sweep() {
  [ -r /proc/self/environ ] || return 0
  tries=0
  while [ $tries -lt 50 ]; do
    found=$(grep -lsF -- "$1" /proc/[0-9]*/environ 2>/dev/null)
    [ -n "$found" ] || return 0
    for file in $found; do
      pid=${file#/proc/}
      kill -KILL "${pid%/environ}" 2>/dev/null
    done
    tries=$((tries + 1))
  done
}
"""
_GUARD = (
    "cd /; trap '' HUP INT TERM QUIT\n"
    + _KILL_TOKEN
    + """
read -r _
while read -r group; do
  [ "${group:-0}" -gt 1 ] && kill -KILL -- "-$group" 2>/dev/null
done <&3
sweep "$1"
rm -rf -- "$2"
"""
)
_SWEEP = "cd /; " + _KILL_TOKEN + 'sweep "$1"'
_SHELL = "/bin/sh"
_LOWEST = 4
_LINE = 8  # bytes: seven digits and a newline, written in one store
_EMPTY = int.from_bytes(b"      0\n", sys.byteorder)


class Guard:
    """Watches over this process while it has commands, by slot. It goes when this is dropped."""

    def __init__(self, slots: int, token: str, folder: str) -> None:
        self._token = token
        self._folder = folder
        self._table = _shared(slots * _LINE)
        self._map = mmap(self._table, slots * _LINE)
        self._lines = memoryview(self._map).cast("Q")
        self._owner = os.getpid()
        for slot in range(slots):
            self._lines[slot] = _EMPTY
        self.pid = self._pipe = -1
        self._finalizer: weakref.finalize[[int, int, int], Guard] | None = None
        self.start()

    def start(self) -> None:
        """Start the watching process; again, where it was ended by somebody."""
        if self._finalizer is not None:
            self._finalizer()
        read, self._pipe = high(os.pipe())
        try:
            command = [_SHELL, "-c", _GUARD, "piecework-guard", self._token, self._folder]
            self.pid = _spawn(command, [(read, 0), (self._table, 3)])
        finally:
            os.close(read)
        self._finalizer = weakref.finalize(self, _end, self.pid, self._pipe, os.getpid())

    def watch(self, slot: int, pid: int) -> None:
        """The group of this process is killed if we are."""
        self._lines[slot - 1] = int.from_bytes(b"%7d\n" % pid, sys.byteorder)

    def forget(self, slot: int) -> None:
        """It has ended: before its number can be another process's."""
        self._lines[slot - 1] = _EMPTY

    def forked(self) -> None:
        """In a forked child: let go of the pipe, or the end of our process would not be seen."""
        with suppress(OSError):
            os.close(self._pipe)

    def __del__(self) -> None:
        with suppress(OSError, BufferError, ValueError, AttributeError):
            self._lines.release()
            self._map.close()
            os.close(self._table)


class Guarded:
    """Has a Guard from the first command on, and another one where somebody ended it."""

    def __init__(self, fan: Fan, slots: int, token: str, folder: Folder) -> None:
        self._fan = fan
        self._slots = slots
        self._token = token
        self._folder: Folder | None = folder
        self._guard: Guard | None = None
        self._pidfd = -1

    def begin(self) -> None:
        """OSError where no process is to be had."""
        if self._guard is None and self._folder is not None:
            self._guard = Guard(self._slots, self._token, self._folder.path)
            self._folder.guard = self._guard  # it lives as long as there are files
            self._watch()

    def _watch(self) -> None:
        assert self._guard is not None
        with suppress(AttributeError, OSError):
            self._pidfd = os.pidfd_open(self._guard.pid)
            self._fan.add(self._pidfd, self._replace)

    def _replace(self) -> None:
        self._unwatch()
        if self._guard is not None:
            with suppress(OSError):  # no process is to be had
                self._guard.start()
                self._watch()

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._fan.close(self._pidfd)
            self._pidfd = -1

    def watch(self, slot: int, pid: int) -> None:
        if self._guard is not None:
            self._guard.watch(slot, pid)

    def forget(self, slot: int) -> None:
        if self._guard is not None:
            self._guard.forget(slot)

    def close(self) -> None:
        """Let go of it: it goes with the last of the files."""
        self._unwatch()
        self._guard = self._folder = None

    def forked(self) -> None:
        if self._guard is not None:
            self._guard.forked()


def sweep(token: str) -> int | None:
    """Start to kill every process whose environment has this text; the pid of who does it."""
    if not os.path.exists("/proc/self/environ"):
        return None
    return _spawn([_SHELL, "-c", _SWEEP, "piecework-sweep", token], [])


def high(fds: Iterable[int]) -> list[int]:
    """The same descriptors, none below 4: so that none is in the way of those a child gets."""
    found = []
    for fd in fds:
        if fd < _LOWEST:
            low, fd = fd, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
            os.close(low)
        found.append(fd)
    return found


def _spawn(command: list[str], fds: list[tuple[int, int]]) -> int:
    """A shell that has these descriptors, a group of its own, and nothing of our environment: no
    token in it, should we be a command of another executor ourselves."""
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)
    ]
    actions += [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in fds]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    return os.posix_spawn(command[0], command, environment, file_actions=actions, setpgroup=0)


def _end(pid: int, pipe: int, owner: int) -> None:
    if os.getpid() != owner:
        return
    # Killed first, or it would take the end of the pipe for ours.
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with suppress(OSError):
        os.close(pipe)


def _shared(size: int) -> int:
    """A descriptor of memory that another process can read as a file."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("piecework-commands", os.MFD_CLOEXEC)
    else:
        import tempfile

        fd, path = tempfile.mkstemp()
        os.unlink(path)
    os.ftruncate(fd, size)
    return high([fd])[0]
