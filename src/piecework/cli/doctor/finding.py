"""What the doctor finds: one line each, with the way out where something is in the way."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "note", "fix"]


class Finding(NamedTuple):
    """`ok`: as it should be; `note`: worth knowing; `fix`: something will not work as it is."""

    topic: str
    level: Level
    text: str
    fix: str = ""

    def lines(self) -> list[str]:
        """For people."""
        mark = "FIX" if self.level == "fix" else self.level
        first = f"{self.topic:<13} {mark:<4} {self.text}"
        return [first, f"{'':<18} → {self.fix}"] if self.fix else [first]


def ok(topic: str, text: str) -> Finding:
    return Finding(topic, "ok", text)


def note(topic: str, text: str, fix: str = "") -> Finding:
    return Finding(topic, "note", text, fix)


def wrong(topic: str, text: str, fix: str) -> Finding:
    return Finding(topic, "fix", text, fix)
