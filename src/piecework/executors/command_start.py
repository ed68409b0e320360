"""Starts a child: its words, its pipes, its program; what fails is closed again."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from functools import partial

from piecework.captured import Capture, Folder, Tail
from piecework.executors.command_child import Child
from piecework.executors.command_fan import Fan
from piecework.executors.command_guard import high
from piecework.executors.command_spawn import find, spawn
from piecework.executors.command_watcher import Told

TOKEN = b"PIECEWORK_COMMAND"
_TAIL = 1 << 15
_ROOM_SURE = 64  # below that no limit is near
_ROOM_SPARE = 16  # for the rest of the program


class Starter:
    """Makes a running process of a Child."""

    def __init__(
        self,
        fan: Fan,
        folder: Folder,
        told: Told,
        changed: Callable[[Child], object],
        *,
        inherit: bool,
        capture: bool,
    ) -> None:
        self.folder = folder
        self._fan = fan
        self._changed = changed
        self._inherit = inherit
        self._capture = capture
        self._pass_on = told.output
        self._null = -1
        self._serial = 0

    def start(self, child: Child, running: int) -> None:
        """OSError where it cannot be started, UsageError where the input makes no command."""
        call = child.work.call
        command = call.command
        child.changed = self._changed
        child.output_max = command.output_max
        payload = child.work.batch.payloads[child.position]
        child.words = command.words(payload, child.index + 1, child.slot)
        data = command.stdin(payload)
        program = call.program or find(child.words[0], call.env, command.cwd)
        self._serial += 1
        call.env[TOKEN] = b"%s%d." % (call.token.encode(), self._serial)
        child.token = call.env[TOKEN].decode()
        ours: list[int] = []
        theirs: list[int] = []
        try:
            self._open_pipes(bool(data), ours, theirs)
            _check_room(theirs[-1], running)
            child.pid = spawn(program, child.words, call.env, command.cwd, theirs)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                if fd > 2 and fd != self._null:
                    os.close(fd)
        try:
            self._attach(child, ours, data)
            if not child.streams:
                child.watch()  # nothing else will tell
        except BaseException:
            child.why = "trouble"  # so that its end is an end by force
            child.end()
            raise

    def _open_pipes(self, feed: bool, ours: list[int], theirs: list[int]) -> None:
        if feed:
            read, write = high(os.pipe())
            ours.append(write)
            theirs.append(read)
        else:
            if self._null < 0:
                self._null = high([os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)])[0]
            theirs.append(self._null)
        if self._inherit:
            theirs += (1, 2)
            return
        for _ in range(2):
            read, write = high(os.pipe())
            ours.append(read)
            theirs.append(write)

    def _attach(self, child: Child, ours: list[int], data: bytes | None) -> None:
        keep = child.work.call.command.keep_bytes
        if self._capture:
            child.out = Capture(self.folder, keep_bytes=keep)
            child.err = Capture(self.folder, keep_bytes=keep)
        else:
            child.out, child.err = Tail(0), Tail(_TAIL)
        if data:
            child.feed(ours.pop(0), data)
        for number, fd in enumerate(ours, 1):
            pass_on = None
            if self._pass_on is not None:
                pass_on = partial(self._pass_on, child.index, number)
            child.listen(number, fd, child.out if number == 1 else child.err, pass_on)

    def close(self) -> None:
        if self._null >= 0:
            os.close(self._null)
            self._null = -1


def _check_room(highest: int, running: int) -> None:
    """OSError where those that run could not be waited for, nor their output spilled, with as many
    descriptors open: numbers are given from the lowest on, so the highest tells how many."""
    if highest < _ROOM_SURE or not running:
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and highest + 3 * (running + 1) + _ROOM_SPARE > soft:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
