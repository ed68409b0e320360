"""One pipe that a command prints to: read as it fills, kept, and passed on in whole lines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from piecework.captured import Capture, Lines, Tail
from piecework.lean import suppress
from piecework.loop import Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from piecework.executors.command_child import Child

READ_SIZE = 1 << 16
_READS = 16  # then others have their turn
_MUCH = 1 << 15  # bytes; who has printed as many will print more
_REST_SECONDS = 0.001
_LARGE_READ = 1 << 18
_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)


_PIPES_BYTES = 16 << 20  # of all pipes: a user who passes 64 MB gets tiny ones, here and elsewhere


def pipe_bytes(slots: int) -> int:
    """How large the pipe of a command that prints much may be; 0: as it is."""
    size = min(1 << 20, _PIPES_BYTES // slots)
    return size if size >= 1 << 18 else 0


class Stream:
    """One pipe that a command prints to."""

    __slots__ = (
        "_child",
        "_gathers",
        "_lines",
        "_pass_on",
        "_resting",
        "_sink",
        "_size",
        "fd",
        "number",
    )

    def __init__(
        self,
        child: Child,
        number: int,
        fd: int,
        sink: Capture | Tail,
        pass_on: Callable[[bytes], object] | None,
    ) -> None:
        self._child = child
        self._sink = sink
        self._pass_on = pass_on
        self._lines = None if pass_on is None else Lines()
        self._size = READ_SIZE
        self._gathers = False  # its pipe is large: it may be left to fill
        self._resting: Timer | None = None
        self.number = number  # 1 or 2
        self.fd = fd
        os.set_blocking(fd, False)
        child.fan.add(fd, self.read)
        if number in child.work.call.prints_much:  # others of this command did
            self._enlarge()
            self._rest()

    def read(self) -> None:
        """Take what is there; at its end close it, and say so."""
        for _ in range(_READS):
            if self.fd < 0:
                return
            try:
                data = os.read(self.fd, self._size)
            except BlockingIOError:
                return
            if not data:
                self.close()
                self._child.on_silence()
                return
            self._take(data)
            if self.fd < 0:
                return
            if len(data) == self._size:
                self._enlarge()
            elif not self._child.exited:
                if self._sink.size > _MUCH:
                    self._enlarge()
                    self._rest()
                return  # it has no more just now

    def _take(self, data: bytes) -> None:
        try:
            self._sink.add(data)
        except OSError as error:
            self._child.fail(f"its output could not be kept: {error}")
            return
        if self._sink.size > self._child.output_max:
            self._child.fail(
                f"it printed more than {self._child.output_max:,} bytes and was ended. "
                "Have it write to a file, or raise output_max"
            )
        elif self._lines is not None and (whole := self._lines.add(data)):
            self._pass_on(whole)  # type: ignore[misc]  # there is one where there are lines

    def _rest(self) -> None:
        """Let it gather: programs write 4 or 8 KB at a time, and a turn for each costs more."""
        if not self._gathers or self._resting is not None:
            return
        fan = self._child.fan
        fan.pause(self.fd)
        self._resting = fan.loop.call_later(_REST_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._resting = None
        if self.fd >= 0:
            self._child.fan.resume(self.fd)
            self.read()

    def _enlarge(self) -> None:
        call = self._child.work.call
        if self._size < _LARGE_READ and call.pipe_bytes and _SET_SIZE is not None:
            self._size = _LARGE_READ
            call.prints_much.add(self.number)
            with suppress(OSError):  # more than this user may have
                fcntl.fcntl(self.fd, _SET_SIZE, call.pipe_bytes)
                self._gathers = True

    def close(self) -> None:
        """Listen no longer."""
        if self._resting is not None:
            self._resting.cancel()
        if self.fd >= 0:
            self._child.fan.close(self.fd)
            self.fd = -1
            if self._lines is not None and (rest := self._lines.rest()):
                self._pass_on(rest)  # type: ignore[misc]

    def hush(self) -> None:
        """Pass nothing on any more."""
        self._lines = None
