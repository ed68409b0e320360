"""What a command printed: in memory while there is room, in a file of its own beyond that.

    pipe ──▶ Capture ── end ──▶ Output ──▶ read(), chunks()
               │ no room           │ pickled: the last `keep_bytes` at most
               ▼                   ▼ dropped: its file goes
             file in a Folder ◀────┘

A small output is always in memory; larger ones are as long as all of them together take no more
than HELD_MAX: who reads them in time pays for no file, who does not pays with disk, not memory.
A file is open only while it is written or read, so any number of outputs can be held. The folder
goes with the last of them; after a `kill -9` the executor's watchdog removes it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator

from piecework.errors import PieceworkError

CHUNK = 1 << 16
SMALL = 1 << 18  # bytes of one output that are held in any case
MEMORY_MAX = 8 << 20  # ... and of one, where there is room
HELD_MAX = 64 << 20  # of all that are not small
KEEP_BYTES = 1 << 20
DISK_FACTOR = 16
LINE_MAX = 1 << 20


class Folder:
    """A temporary folder, made when first written to, removed with its last user."""

    def __init__(self, path: str = "") -> None:
        self.path = path or _fresh_path()
        self.held = 0  # bytes in memory of outputs that are not small
        self._files = 0
        self.guard: object = None  # removes it where we cannot: kept as long as there are files
        self._made = False
        self._finalizer: weakref.finalize[[str, int], Folder] | None = None

    def open(self) -> tuple[int, str]:
        """A new file, for writing, and its path."""
        if not self._made:
            os.mkdir(self.path, 0o700)
            self._made = True
            self._finalizer = weakref.finalize(self, _remove, self.path, os.getpid())
        self._files += 1
        path = os.path.join(self.path, str(self._files))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), path


class _File:
    """A file that lives as long as this object."""

    __slots__ = ("__weakref__", "_folder", "_pid", "path")

    def __init__(self, folder: Folder, path: str) -> None:
        self._folder = folder  # keeps it
        self._pid = os.getpid()
        self.path = path

    def __del__(self) -> None:
        if os is not None and os.getpid() == self._pid:  # not a forked copy's to remove
            try:
                os.unlink(self.path)
            except OSError:  # the folder was removed at exit, or by somebody
                pass


class Output:
    """What a command printed on one stream. `size` is all of it, in bytes.

    `truncated` is True for one that came from a journal or another process and was too large to
    be kept: only its end is there.
    """

    __slots__ = ("_data", "_file", "_folder", "_keep", "size", "truncated")

    def __init__(
        self, data: bytes = b"", size: int | None = None, *, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self._data = data
        self._file: _File | None = None
        self._folder: Folder | None = None  # that counts it as held
        self._keep = keep_bytes
        self.size = len(data) if size is None else size
        self.truncated = len(data) < self.size

    @classmethod
    def in_file(cls, folder: Folder, path: str, size: int, *, keep_bytes: int) -> Output:
        """One whose file is at `path`, which goes when the output is dropped."""
        output = cls(b"", size, keep_bytes=keep_bytes)
        output._file = _File(folder, path)
        output.truncated = False
        return output

    def held_by(self, folder: Folder) -> Output:
        """The same, counted as held in memory as long as it lives."""
        self._folder = folder
        return self

    def __del__(self) -> None:
        if self._folder is not None:
            self._folder.held -= len(self._data)

    @property
    def path(self) -> str | None:
        """The file that it is in while this object lives; None where it is in memory."""
        return None if self._file is None else self._file.path

    @property
    def in_memory(self) -> int:
        """Bytes of it that are held in memory."""
        return len(self._data)

    @property
    def weight(self) -> int:
        """What it counts where results that nobody has read are limited: disk is larger, too, but
        not endless."""
        return len(self._data) if self._file is None else self.size // DISK_FACTOR

    def read(self) -> bytes:
        """All of it; PieceworkError where only its end was kept."""
        if self.truncated:
            raise PieceworkError(
                f"only the last {len(self._data):,} of {self.size:,} bytes of this output were "
                "kept; .tail() has them. Run the command again, or have it write to a file."
            )
        return self._data if self._file is None else b"".join(self.chunks())

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """What is there of it in parts of at most so many bytes."""
        if self._file is None:
            for start in range(0, len(self._data), size):
                yield self._data[start : start + size]
            return
        fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while chunk := os.read(fd, size):
                yield chunk
        finally:
            os.close(fd)

    def tail(self, size: int = CHUNK) -> bytes:
        """Its last bytes, at most so many."""
        if self._file is None:
            return self._data[-size:] if size else b""
        fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, size, max(0, self.size - size))
        finally:
            os.close(fd)

    def __len__(self) -> int:
        return self.size

    def __reduce__(self) -> tuple[Callable[..., Output], tuple[bytes, int, int]]:
        return _output, (self.tail(min(self._keep, self.size)), self.size, self._keep)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Output):
            return NotImplemented
        same = (self.size, self.truncated) == (other.size, other.truncated)
        return same and self.tail(self.size) == other.tail(other.size)

    def __hash__(self) -> int:
        return hash(self.size)

    def __repr__(self) -> str:
        where = " in a file" if self._file else ", cut" if self.truncated else ""
        return f"<Output of {self.size:,} bytes{where}>"


class Capture:
    """Takes what a command prints until it ends."""

    __slots__ = ("_fd", "_folder", "_held", "_keep", "_memory_max", "_parts", "_path", "size")

    def __init__(
        self, folder: Folder, *, memory_max: int = MEMORY_MAX, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self.size = 0
        self._held = 0  # of it, as the folder counts
        self._folder = folder
        self._keep = keep_bytes
        self._memory_max = memory_max
        self._parts: list[bytes] = []
        self._fd = -1
        self._path = ""

    def add(self, data: bytes) -> None:
        """OSError where it cannot be kept: the disk is full."""
        self.size += len(data)
        if self._fd < 0:
            self._parts.append(data)
            if self._fits():
                return
            self._release()
            self._fd, self._path = self._folder.open()
            data, self._parts = b"".join(self._parts), []
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _fits(self) -> bool:
        """Whether there is room for it in memory; then it is counted."""
        if self.size <= min(SMALL, self._memory_max):
            return True
        folder = self._folder
        folder.held += self.size - self._held
        self._held = self.size
        return self.size <= self._memory_max and folder.held <= HELD_MAX

    def _release(self) -> None:
        self._folder.held -= self._held
        self._held = 0

    def end(self) -> Output:
        """What was taken; nothing can be added any more."""
        if self._fd < 0:
            parts, self._parts = self._parts, []
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            output = Output(data, keep_bytes=self._keep)
            if self._held:
                self._held = 0
                output.held_by(self._folder)
            return output
        os.close(self._fd)
        self._fd = -1
        return Output.in_file(self._folder, self._path, self.size, keep_bytes=self._keep)


class Tail:
    """Takes the place of a Capture where only the last bytes matter."""

    __slots__ = ("_kept", "_most", "_parts", "size")

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most
        self._kept = 0
        self._parts: list[bytes] = []

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._parts.append(data)
        self._kept += len(data)
        if self._kept > 2 * self._most:
            self._parts = [b"".join(self._parts)[-self._most :]]
            self._kept = len(self._parts[0])

    def end(self) -> Output:
        data = b"".join(self._parts)
        return Output(data[-self._most :] if self._most else b"", self.size, keep_bytes=self._most)


class Lines:
    """Cuts what comes in pieces into whole lines. A line longer than `most` is passed on in parts:
    one that never ends would be held for ever."""

    __slots__ = ("_most", "_parts", "_size")

    def __init__(self, most: int = LINE_MAX) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> bytes:
        """The whole lines that are there now; what follows the last newline waits."""
        end = data.rfind(b"\n") + 1
        if not end and self._size + len(data) <= self._most:
            self._parts.append(data)
            self._size += len(data)
            return b""
        end = end or len(data)
        whole = b"".join([*self._parts, data[:end]])
        self._parts = [data[end:]] if end < len(data) else []
        self._size = len(data) - end
        return whole

    def rest(self) -> bytes:
        """What was printed without a newline at the end."""
        rest, self._parts, self._size = b"".join(self._parts), [], 0
        return rest


def _output(data: bytes, size: int, keep_bytes: int) -> Output:
    return Output(data, size, keep_bytes=keep_bytes)


def _fresh_path() -> str:
    folder = os.environ.get("TMPDIR") or "/tmp"  # what tempfile, 9 ms to import, would say first
    if not (os.path.isabs(folder) and os.access(folder, os.W_OK | os.X_OK)):
        from tempfile import gettempdir

        folder = gettempdir()
    return os.path.join(folder, f"piecework-{os.getpid()}-{os.urandom(6).hex()}")


def _remove(path: str, pid: int) -> None:
    if os.getpid() != pid:
        return
    from shutil import rmtree

    rmtree(path, ignore_errors=True)
