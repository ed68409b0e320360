"""What workers do when their master ends: each arrives at a gate first."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading


def _arrive(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(str(os.getpid()).encode())
    return connection


def hold(path: str, _: int) -> None:
    held = _arrive(path)
    threading.Event().wait()
    held.close()


def compute(path: str, _: int) -> None:
    held = _arrive(path)
    while held:
        pass


def sleep_in_c(path: str, _: int) -> None:
    held = _arrive(path)
    ctypes.PyDLL(None).sleep(3600)  # holds the interpreter lock
    held.close()


def with_a_child(path: str, _: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    held = _arrive(path)
    child.wait()
    held.close()


def ignore_signals(path: str, _: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    held = _arrive(path)
    while held:
        threading.Event().wait(0.1)


async def coroutine(path: str, _: int) -> None:
    held = _arrive(path)
    await asyncio.Event().wait()
    held.close()
