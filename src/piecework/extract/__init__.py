"""Fields from logs: named groups of a regular expression as JSON lines, every line accounted for.

    files ─▶ Plan ─▶ piecework.map ─▶ read(pattern, piece) ─▶ Block ─▶ Account ─▶ output
             ranges                   in a worker: lines,     bytes     lines = rows
             of bytes                 matching, JSON          and counts  + unmatched + empty

A task carries a path and a range, a result the finished lines: this process only writes. The
package uses public names of piecework only; it is the first program written with it.
"""

from __future__ import annotations

from piecework.extract.job import Account, FileAccount, begin
from piecework.extract.pattern import PatternError, checked
from piecework.extract.plan import Piece, Plan
from piecework.extract.rows import Block, FileChanged, read

__all__ = [
    "Account",
    "Block",
    "FileAccount",
    "FileChanged",
    "PatternError",
    "Piece",
    "Plan",
    "begin",
    "checked",
    "read",
]
