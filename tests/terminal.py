"""A terminal small enough to read: what is on the screen after all that was written to it."""

from __future__ import annotations

import re

TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def screen(written: str, width: int = 10_000) -> list[str]:
    """The lines, top to bottom; a line that reaches the last column goes on in the next one."""
    lines, row, column = [""], 0, 0
    for match in TOKEN.finditer(written):
        number, command, control, text = match.groups()
        if control == "\r":
            column = 0
        elif control == "\n":
            row, column = row + 1, 0
        elif command == "A":
            row = max(0, row - int(number or 1))
        elif command == "K":
            lines[row] = lines[row][:column]
        elif command:
            raise AssertionError(f"not a command that we send: {match[0]!r}")
        for character in text or "":
            if column == width:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            line = lines[row].ljust(column)
            lines[row] = line[:column] + character + line[column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines]
