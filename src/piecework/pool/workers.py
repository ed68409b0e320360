"""The workers of a Pool as `pool._pool` shows them: private in multiprocessing, read by many."""

from __future__ import annotations

from collections.abc import Callable


class PoolWorker:
    """What many read of the standard pool's private list of workers."""

    def __init__(self, pid: int, name: str, alive: Callable[[int], bool]) -> None:
        self.pid = pid
        self.name = name
        self._alive = alive

    def is_alive(self) -> bool:
        """Whether it may still get calls."""
        return self._alive(self.pid)
