"""What a worker process needs of `socket`, `signal`, `pickle` and `contextlib`, at once.

The C modules under them are there in half a millisecond; the modules themselves take 12 ms (enum,
re, selectors, the classes they build), which every supervisor, and so every first result, would
wait for. Type checkers see the modules.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pickle
    import signal
    import socket
    from contextlib import suppress
else:
    import _pickle as pickle
    import _signal as signal
    import _socket as socket

    class suppress:
        """`contextlib.suppress`."""

        __slots__ = ("_kinds",)

        def __init__(self, *kinds):
            self._kinds = kinds

        def __enter__(self):
            return None

        def __exit__(self, kind, error, traceback):
            return kind is not None and issubclass(kind, self._kinds)


__all__ = ["pickle", "recv_fds", "send_fds", "signal", "socket", "suppress"]

_INT = 4


def send_fds(sock: socket.socket, message: bytes, fds: list[int]) -> None:
    """Send a message with descriptors."""
    packed = b"".join(fd.to_bytes(_INT, "little" if _LITTLE else "big") for fd in fds)
    sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])


def recv_fds(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Receive a message with at most so many descriptors; a forked child does not inherit them
    over an exec."""
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    data, parts, _, _ = sock.recvmsg(size, socket.CMSG_LEN(most * _INT), flags)
    fds: list[int] = []
    for level, kind, packed in parts:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = packed[: len(packed) - len(packed) % _INT]
            fds += memoryview(whole).cast("i")
    return data, fds


_LITTLE = memoryview(b"\x01\x00\x00\x00").cast("i")[0] == 1
