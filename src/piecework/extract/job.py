"""The job as a whole: begin the run, take blocks in order, keep the account of every line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import piecework
from piecework.extract.pattern import checked
from piecework.extract.plan import Plan
from piecework.extract.rows import Block, read

if TYPE_CHECKING:
    from piecework import Result, Run

SAMPLES = 5
FILES_SHOWN = 10


def begin(pattern: str, plan: Plan, **options: Any) -> Run[Block]:
    """Start matching; `options` are those of `piecework.map`. PatternError before anything runs."""
    checked(pattern)
    return piecework.map(partial(read, pattern), plan, **options)


@dataclass
class FileAccount:
    """What became of one file: `lines` = `rows` + `unmatched` + `empty`, of what could be read."""

    path: str
    lines: int = 0
    rows: int = 0
    unmatched: int = 0
    empty: int = 0
    grown: int = 0
    error: str = ""

    def add(self, block: Block) -> None:
        """Count one piece."""
        self.lines += block.lines
        self.rows += block.rows
        self.unmatched += block.unmatched
        self.empty += block.empty
        self.grown = max(self.grown, block.grown)

    def __str__(self) -> str:
        account = (
            f"{self.lines:,} lines = {self.rows:,} rows + {self.unmatched:,} unmatched"
            f" + {self.empty:,} empty"
        )
        if self.lines != self.rows + self.unmatched + self.empty:
            account += "  THIS DOES NOT ADD UP: report it as an error of piecework"
        return account


@dataclass
class Account:
    """The account of all files, filled block by block in input order."""

    files: dict[str, FileAccount] = field(default_factory=dict)
    samples: list[tuple[str, int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, plan: Plan) -> Account:
        """Every file of the plan, the empty ones too."""
        return cls({path: FileAccount(path) for path, _ in plan.files})

    def take(self, result: Result) -> bytes:
        """Count a result; what is to be written for it."""
        file = self.files[result.input.path]
        if not result.ok:
            file.error = file.error or str(result.failure)
            return b""
        block: Block = result.value
        file.add(block)
        for offset, line in block.samples[: SAMPLES - len(self.samples)]:
            self.samples.append((file.path, offset, line))
        return block.data

    @property
    def total(self) -> FileAccount:
        """All files together."""
        whole = FileAccount("all files")
        for file in self.files.values():
            whole.lines += file.lines
            whole.rows += file.rows
            whole.unmatched += file.unmatched
            whole.empty += file.empty
        return whole

    @property
    def complete(self) -> bool:
        """True where every file was read to its listed end."""
        return not any(file.error for file in self.files.values())

    def __str__(self) -> str:
        return "\n".join(self._text())

    def _text(self) -> Iterator[str]:
        if self.samples:
            yield "lines that did not match, the first of them:"
            yield from (f"  {path}:{offset}: {line}" for path, offset, line in self.samples)
        notable = sorted(self.files.values(), key=lambda f: (not f.error, not f.grown))
        if len(notable) > 1 or not self.complete or notable[0].grown:
            yield from (f"  {self._line(file)}" for file in notable[:FILES_SHOWN])
            if len(notable) > FILES_SHOWN:
                yield f"  and {len(notable) - FILES_SHOWN:,} more files"
        yield f"{self.total}"

    @staticmethod
    def _line(file: FileAccount) -> str:
        more = f"; {file.grown:,} bytes were appended since and are not read" if file.grown else ""
        bad = f"; NOT READ TO ITS END: {file.error}" if file.error else ""
        return f"{file.path}: {file}{more}{bad}"
