"""One running command: fed, listened to, and waited for, without ever waiting for it.

    stdin ◀── what it is fed, as it takes it
    stdout ─▶ Capture, or whole lines to a listener          exited, and both pipes at their end
    stderr ─▶ the same, and its last lines in any case  ──▶  (or the grace for them over) ──▶ ended

Everything happens in the control loop. What becomes of it, the executor decides.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable

from piecework.captured import Capture, Tail
from piecework.executors.command_fan import Fan
from piecework.executors.command_stream import Stream
from piecework.lean import signal, suppress
from piecework.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.executors.command_work import Work

_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
_PEEKS = hasattr(os, "waitid")  # not on macOS before Python 3.13
_our_peak = 0


def _floor(told: int) -> int:
    """Our own peak, which only grows: looked up again where what we knew is less than `told`."""
    global _our_peak
    if told > _our_peak:
        _our_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _our_peak


class Child:
    """A command that was started. `changed(child)` is called when it may have ended."""

    __slots__ = (
        "_stdin",
        "_unfed",
        "began",
        "changed",
        "drain_until",
        "ended",
        "err",
        "exited",
        "fan",
        "kill_at",
        "limit",
        "out",
        "output_max",
        "over_memory",
        "peak",
        "pid",
        "pidfd",
        "position",
        "seconds",
        "slot",
        "started",
        "status",
        "streams",
        "token",
        "trouble",
        "usage",
        "watched",
        "why",
        "words",
        "work",
    )

    def __init__(self, work: Work, position: int, slot: int, fan: Fan) -> None:
        self.work = work
        self.position = position
        self.slot = slot
        self.words: list[str] = []
        self.pid = self.pidfd = self._stdin = -1
        self.streams: list[Stream] = []
        self.out: Capture | Tail
        self.err: Capture | Tail
        self.changed: Callable[[Child], object]
        self.exited = self.watched = False
        self.status: int | None = None  # None: somebody else has taken it
        self.usage: Any = None
        self.why = ""  # we end it: timeout, memory, cancelled, back or trouble
        self.over_memory = (0, 0)  # bytes that it held when it was ended for that, and the limit
        self.trouble = ""  # what is wrong with its output, or which limit it passed
        self.limit: float | None = None  # seconds, where it passed its time limit
        self.kill_at = float("inf")  # when SIGKILL comes, where SIGTERM did not do
        self.drain_until = float("inf")  # others hold its pipes, but are listened to only so long
        self.token = ""
        self.ended = False  # the executor has done with it
        self.output_max = 0
        self.started = time.time()
        self.began = time.perf_counter()
        self.seconds = 0.0
        self.peak = 0  # bytes, as seen while it ran
        self.fan = fan
        self._unfed: memoryview | None = None

    @property
    def name(self) -> str:
        """Of its program; of the shell that guards us where it did not come so far."""
        return self.words[0] if self.words else "/bin/sh"

    @property
    def index(self) -> int:
        """Of its task."""
        return self.work.batch.indexes[self.position]

    # -- its input ----------------------------------------------------------------------------

    def feed(self, fd: int, data: bytes) -> None:
        """Write to its standard input as it takes it, then close that."""
        self._stdin = fd
        self._unfed = memoryview(data)
        os.set_blocking(fd, False)
        if not self._write():
            self.fan.add(fd, self._write, write=True)

    def _write(self) -> bool:
        """True where nothing is left to be written."""
        assert self._unfed is not None
        try:
            while self._unfed:
                self._unfed = self._unfed[os.write(self._stdin, self._unfed) :]
        except BlockingIOError:
            return False
        except OSError:  # it does not read on
            pass
        self._end_feeding()
        return True

    def _end_feeding(self) -> None:
        if self._stdin >= 0:
            self.fan.close(self._stdin)
            self._stdin = -1
            self._unfed = None

    # -- its output ---------------------------------------------------------------------------

    def listen(
        self,
        number: int,
        fd: int,
        sink: Capture | Tail,
        pass_on: Callable[[bytes], object] | None,
    ) -> None:
        """Take what comes out of this pipe, its stream 1 or 2."""
        self.streams.append(Stream(self, number, fd, sink, pass_on))

    def fail(self, trouble: str) -> None:
        """What it prints cannot be taken any more."""
        self.trouble = self.trouble or trouble
        self.deaf()
        self.changed(self)

    @property
    def silent(self) -> bool:
        """Nothing will be printed any more, as far as it is listened to."""
        return all(stream.fd < 0 for stream in self.streams)

    def hush(self) -> None:
        """Pass nothing on: who listens has failed."""
        for stream in self.streams:
            stream.hush()

    def on_silence(self) -> None:
        """One pipe is at its end: so is the other most often, and the command too."""
        for stream in self.streams:
            stream.read()
        if not self.exited and self.silent:
            self.on_exit()
            if not self.exited:
                self.watch()
        self.changed(self)

    def deaf(self) -> None:
        """Listen no longer, whoever still holds the pipes."""
        for stream in self.streams:
            stream.close()

    # -- its end ------------------------------------------------------------------------------

    def watch(self) -> None:
        """Be told when it exits. Called late: most commands end within a millisecond, and the end
        of their pipes tells; a descriptor of the process costs a tenth of the whole."""
        if self.watched or self.exited:
            return
        self.watched = True
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, an old kernel, or no descriptor left
            threading.Thread(target=_wait, args=(self, self.fan.loop), daemon=True).start()
        else:
            self.fan.add(self.pidfd, self.on_exit)

    def on_exit(self) -> None:
        """It has exited: note it, but leave its process id taken as long as it may be signalled."""
        if self.exited or (self.watched and self.pidfd < 0 and not _PEEKS):
            return
        if self.why and _PEEKS:
            try:
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return
            except ChildProcessError:
                pass
        elif not self._reap(os.WNOHANG):
            return
        self._gone()

    def reaped(self, status: int, usage: Any) -> None:
        """It was reaped by the thread that waits for it, where nobody can look without reaping."""
        self.status, self.usage = os.waitstatus_to_exitcode(status), usage
        self._gone()

    def _gone(self) -> None:
        self.exited = True
        self.seconds = time.perf_counter() - self.began
        if self.pidfd >= 0:
            self.fan.close(self.pidfd)
            self.pidfd = -1
        self._end_feeding()
        for stream in self.streams:
            stream.read()  # what it printed last is there by now
        self.changed(self)

    def _reap(self, options: int) -> bool:
        try:
            pid, status, self.usage = os.wait4(self.pid, options)
        except ChildProcessError:  # SIGCHLD is ignored, or somebody waits for all children
            return True
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
        return bool(pid)

    def signal(self, number: int) -> None:
        """Signal its group; only before it was reaped."""
        if not self.exited or self.why:
            with suppress(OSError):
                os.killpg(self.pid, number)

    def end(self) -> None:
        """Let go of all that it has; where we end it, its group is killed first."""
        self.deaf()
        self._end_feeding()
        self.streams = []  # they refer back to this: it shall go without a collection
        if self.why:
            self.signal(signal.SIGKILL)
            if self.status is None:
                self._reap(0)

    @property
    def cpu_seconds(self) -> float:
        return self.usage.ru_utime + self.usage.ru_stime if self.usage is not None else 0.0

    @property
    def peak_memory(self) -> int | None:
        """Bytes. What the kernel tells begins with our own size, for it began as a copy of us."""
        told = self.usage.ru_maxrss if self.usage is not None else 0
        return max(told * _PEAK_UNIT if told > _floor(told) else 0, self.peak) or None

    def look(self) -> None:
        """Note how large it is, while it runs."""
        if self.exited or not sys.platform.startswith("linux"):
            return
        try:
            with open(f"/proc/{self.pid}/status", "rb") as file:
                text = file.read()
        except OSError:
            return
        found = text.partition(b"VmHWM:")[2].split(None, 1)
        if found:
            self.peak = max(self.peak, int(found[0]) * 1024)


def _wait(child: Child, loop: Loop) -> None:
    """Wait for its exit in a thread, and leave it to be reaped where that is possible."""
    with suppress(OSError):
        if _PEEKS:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        else:
            _, status, usage = os.wait4(child.pid, 0)
            loop.call_soon(child.reaped, status, usage)
            return
    loop.call_soon(child.on_exit)
