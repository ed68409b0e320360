"""Starts a child: its words, its pipes, its program; what fails is closed again."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from piecework.captured import Capture, Folder, Tail
from piecework.executors.command_child import Child
from piecework.executors.command_fan import Fan
from piecework.executors.command_guard import high
from piecework.executors.command_spawn import find, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOKEN = b"PIECEWORK_COMMAND"
_TAIL = 1 << 15


class Starter:
    """Makes a running process of a Child."""

    def __init__(
        self,
        fan: Fan,
        folder: Folder,
        watcher: Any,
        changed: Callable[[Child], object],
        inherit: bool,
        capture: bool,
    ) -> None:
        self.folder = folder
        self._fan = fan
        self._changed = changed
        self._inherit = inherit
        self._capture = capture
        self._pass_on = getattr(watcher, "output", None)
        self._null = -1
        self._serial = 0

    def start(self, child: Child) -> None:
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
            child.pid = spawn(program, child.words, call.env, command.cwd, theirs)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                if fd > 2 and fd != self._null:
                    os.close(fd)
        self._attach(child, ours, data)
        if not child.streams:
            child.watch()  # nothing else will tell

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
            child.listen(fd, child.out if number == 1 else child.err, pass_on)

    def close(self) -> None:
        if self._null >= 0:
            os.close(self._null)
            self._null = -1
