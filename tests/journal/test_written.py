"""What of the results is in the output file: known by what they are, and as of one instant."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import piecework
from piecework.journal.journal import Journal

COUNT = 2000


class File:
    """An output file of one line a result, as the command line writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, run: piecework.Run[Any], upto: int, *, commit: bool) -> int:
        """Write results that are not in it yet; how many were."""
        journal = run.journal
        assert isinstance(journal, Journal)
        known = journal.output
        length = known[1] if known is not None else 0
        with open(self.path, "ab") as file:
            file.truncate(length)
            wrote = []
            for number, result in enumerate(run.results()):
                if not (result.recalled and journal.is_written(result.index)):
                    file.write(b"%d\n" % result.value)
                    wrote.append(result.index)
                if number + 1 == upto:
                    break
            file.flush()
            if commit:
                journal.commit_output(str(self.path), file.tell(), b"tail", wrote)
        run.close()
        return len(wrote)

    def lines(self) -> list[int]:
        return sorted(int(line) for line in self.path.read_bytes().splitlines())


@pytest.mark.parametrize("shuffled", [False, True])
def test_every_result_is_in_the_file_once_whatever_was_not_committed(
    tmp_path: Path, shuffled: bool
) -> None:
    file, path = File(tmp_path / "out"), tmp_path / "x.journal"
    inputs = list(range(COUNT))

    def begin() -> piecework.Run[int]:
        if shuffled:
            random.Random(len(inputs)).shuffle(inputs)
        return piecework.map(abs, inputs, on="threads", journal=path, resume=True)

    first = file.take(begin(), 500, commit=True)
    assert file.take(begin(), 900, commit=False) > 0  # lines that the journal does not know of
    second = file.take(begin(), 1200, commit=True)
    third = file.take(begin(), COUNT, commit=True)
    assert file.lines() == list(range(COUNT))
    assert first + second + third == COUNT
    assert file.take(begin(), COUNT, commit=True) == 0


def test_a_file_that_is_begun_anew_gets_everything(tmp_path: Path) -> None:
    file, path = File(tmp_path / "out"), tmp_path / "x.journal"
    for _ in range(2):
        run = piecework.map(abs, range(100), on="threads", journal=path, resume=True)
        assert run.journal is not None
        run.journal.forget_output()
        file.path.unlink(missing_ok=True)
        assert file.take(run, 100, commit=True) == 100
        assert file.lines() == list(range(100))
