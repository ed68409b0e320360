"""The last lines that a task printed, whatever it prints: bounded in lines and in characters."""

from __future__ import annotations

from collections import deque

LINES_MAX = 50
CHARACTERS_MAX = 16 << 10
LINE_MAX = 2000  # characters of one line; of a longer one, its beginning


class Tail:
    """Lines are added without their ends; what is on top gives way."""

    __slots__ = ("_lines", "_size")

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, line: str) -> None:
        if "\r" in line:  # a bar that draws itself anew: what a terminal shows in the end
            line = line.rstrip("\r").rpartition("\r")[2]
        if len(line) > LINE_MAX:
            line = f"{line[:LINE_MAX]} [... {len(line) - LINE_MAX} characters cut]"
        self._lines.append(line)
        self._size += len(line)
        while len(self._lines) > LINES_MAX or self._size > CHARACTERS_MAX:
            self._size -= len(self._lines.popleft())

    def add_text(self, text: str) -> None:
        for line in text.splitlines():
            self.add(line)

    @property
    def text(self) -> str:
        """The lines, each with its end; empty where there are none."""
        return "".join(f"{line}\n" for line in self._lines)
