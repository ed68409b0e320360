"""A gate that tasks of any process wait at: the test sees who arrived, and lets them through.

Nothing polls and nothing sleeps: an arrival is a connection, passing is a byte.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from types import TracebackType

PATIENCE = 30.0


class Gate:
    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="pwgate")
        self.path = os.path.join(self._folder, "gate")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(4096)
        self._changed = threading.Condition()
        self._waiting: list[socket.socket] = []
        self._open = False
        self.names: list[str] = []  # in order of arrival
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            name = connection.recv(1000).decode()
            with self._changed:
                self.names.append(name)
                if self._open:
                    _pass(connection)
                else:
                    self._waiting.append(connection)
                self._changed.notify_all()

    def arrived(self, count: int) -> list[str]:
        """Wait until that many have arrived in all; their names."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.names) >= count, PATIENCE)
            assert came, f"{len(self.names)} of {count} arrived: {self.names}"
            return list(self.names)

    def open(self) -> None:
        """Let everybody through, from now on too."""
        with self._changed:
            self._open = True
            waiting, self._waiting = self._waiting, []
        for connection in waiting:
            _pass(connection)

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
        shutil.rmtree(self._folder)


def _pass(connection: socket.socket) -> None:
    try:
        connection.sendall(b"1")
    except OSError:  # it died at the gate
        pass
    connection.close()


def wait_at(path: str, name: object = "") -> None:
    """In a task: arrive, and wait to be let through."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(str(name).encode() or b"-")
        connection.recv(1)
