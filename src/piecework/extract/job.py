"""The job as a whole: begin the run, take blocks in order, keep the account of every line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import piecework
from piecework.extract.pattern import checked
from piecework.extract.plan import Piece, Plan
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
    size: int = 0  # when it was listed
    read: int = 0  # bytes of pieces that were worked on
    lines: int = 0
    rows: int = 0
    unmatched: int = 0
    empty: int = 0
    grown: int = 0
    error: str = ""

    def add(self, piece: Piece, block: Block) -> None:
        """Count one piece."""
        self.read += piece.stop - piece.start
        self.lines += block.lines
        self.rows += block.rows
        self.unmatched += block.unmatched
        self.empty += block.empty
        self.grown = max(self.grown, block.grown)

    @property
    def complete(self) -> bool:
        """True where it was read to its listed end: no piece failed or was left out by a stop."""
        return self.read == self.size

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
        account = cls()
        for path, status in plan.files:
            file = account.files.setdefault(path, FileAccount(path))
            file.size += status.st_size  # given twice, it is read twice
        return account

    def take(self, result: Result) -> bytes:
        """Count a result; what is to be written for it."""
        piece: Piece = result.input
        file = self.files[piece.path]
        if not result.ok:
            file.error = file.error or str(result.failure)
            return b""
        block: Block = result.value
        file.add(piece, block)
        for offset, line in block.samples:
            if len(self.samples) < SAMPLES and all(line != seen for _, _, seen in self.samples):
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
        return all(file.complete for file in self.files.values())

    def __str__(self) -> str:
        return "\n".join(self._text())

    def _text(self) -> Iterator[str]:
        if self.samples:
            yield "lines that did not match, for example:"
            yield from (f"  {path}:{offset}: {line}" for path, offset, line in self.samples)
        notable = sorted(self.files.values(), key=lambda f: (f.complete, not f.grown))
        if len(notable) > 1 or not self.complete or notable[0].grown:
            yield from (f"  {self._line(file)}" for file in notable[:FILES_SHOWN])
            if len(notable) > FILES_SHOWN:
                yield f"  and {len(notable) - FILES_SHOWN:,} more files"
        yield f"{self.total}"

    @staticmethod
    def _line(file: FileAccount) -> str:
        more = f"; {file.grown:,} bytes were appended since and are not read" if file.grown else ""
        if file.complete:
            return f"{file.path}: {file}{more}"
        why = file.error or "the run was stopped"
        share = f"{file.read:,} of {file.size:,} bytes"
        return f"{file.path}: {file}{more}; NOT READ TO ITS END ({share}): {why}"
