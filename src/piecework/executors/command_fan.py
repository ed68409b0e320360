"""Many short-lived descriptors under one of the loop: a command has four and lives a millisecond.

Registering with the loop's selector costs 4 µs each time, with an epoll of our own a tenth of it,
and what is closed leaves it by itself. Where there is no epoll, the loop's selector has them all.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from functools import partial

from piecework.lean import suppress
from piecework.loop import READ, WRITE, Loop

_AT_ONCE = 64


class Fan:
    """Calls back when a descriptor can be read or written; in the loop, with its lock held."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._called: dict[int, Callable[[], object]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            loop.register(self._epoll.fileno(), READ, self._on_ready)

    def add(self, fd: int, callback: Callable[[], object], *, write: bool = False) -> None:
        """Call back whenever it is ready, until it is closed with `close`."""
        self._called[fd] = callback
        if self._epoll is not None:
            self._epoll.register(fd, select.EPOLLOUT if write else select.EPOLLIN)
        else:
            self.loop.register(fd, WRITE if write else READ, partial(_call, callback))

    def pause(self, fd: int) -> None:
        """Do not call back for what it has to read, until `resume`; for its end perhaps."""
        if self._epoll is not None:
            self._epoll.modify(fd, 0)
        else:
            self.loop.unregister(fd)

    def resume(self, fd: int) -> None:
        if self._epoll is not None:
            self._epoll.modify(fd, select.EPOLLIN)
        else:
            self.loop.register(fd, READ, partial(_call, self._called[fd]))

    def close(self, fd: int) -> None:
        """Forget it and close it."""
        if self._called.pop(fd, None) is not None and self._epoll is None:
            with suppress(KeyError):  # it is paused
                self.loop.unregister(fd)
        # Nobody else has this pipe's end or pidfd open: closed, it leaves the epoll.
        os.close(fd)

    def _on_ready(self, _mask: int) -> None:
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0, _AT_ONCE):
            callback = self._called.get(fd)
            if callback is not None:  # else closed by the callback before
                callback()

    def end(self) -> None:
        """Free it; nothing is called any more."""
        self._called.clear()
        if self._epoll is not None:
            with suppress(KeyError, ValueError, OSError):
                self.loop.unregister(self._epoll.fileno())
            self._epoll.close()

    def forked(self) -> None:
        """In a forked child: let go of what the parent goes on with."""
        for fd in self._called:
            with suppress(OSError):
                os.close(fd)
        self._called.clear()
        if self._epoll is not None:
            self._epoll.close()


def _call(callback: Callable[[], object], _mask: int) -> None:
    callback()
