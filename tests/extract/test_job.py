"""The job as a whole, through the public map."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from piecework.extract import Account, PatternError, Plan, begin


def test_a_file_that_vanishes_after_the_listing_costs_its_own_lines_only(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("one\ntwo\n\n!\n")
    plan = Plan([str(tmp_path / name) for name in ("a", "b", "c")])
    account = Account.of(plan)
    (tmp_path / "b").unlink()
    run = begin(r"^(?P<word>\w+)$", plan, on="threads")
    written = [account.take(result) for result in run.results(ordered=True)]
    assert b"".join(written) == b'{"word":"one"}\n{"word":"two"}\n' * 2
    assert str(account.total) == "8 lines = 4 rows + 2 unmatched + 2 empty"
    assert not account.complete
    text = str(account)
    assert f"{tmp_path}/b: 0 lines" in text
    assert "NOT READ TO ITS END (0 of 11 bytes): FileNotFoundError" in text
    assert text.index("NOT READ") < text.index(f"  {tmp_path}/a: 4 lines")


def test_a_file_of_many_pieces_that_shrinks_is_one_failure_by_name(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("line\n" * 1000)
    plan = Plan([str(path)], piece_bytes=500)
    account = Account.of(plan)
    os.truncate(path, 10)
    run = begin(r"^(?P<word>\w+)$", plan, on="threads")
    for result in run.results(ordered=True):
        account.take(result)
    assert run.summary.failed == 10
    (group,) = run.summary.groups
    assert "shrank after it was listed" in group.message


def test_a_run_that_is_stopped_leaves_no_file_looking_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("line\n" * 1000)
    plan = Plan([str(path)], piece_bytes=50)
    account = Account.of(plan)
    with begin(r"^(?P<word>\w+)$", plan, on="inline", batch_size=1) as run:
        results = run.results(ordered=True)
        account.take(next(results))
        run.cancel()
        for result in results:
            account.take(result)
    assert not account.complete
    assert "NOT READ TO ITS END" in str(account)


def test_lines_that_look_alike_are_shown_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("!\n!\n?\n")
    plan = Plan([str(path)])
    account = Account.of(plan)
    for result in begin(r"^(?P<word>\w+)$", plan, on="inline").results(ordered=True):
        account.take(result)
    assert [line for _, _, line in account.samples] == ["!", "?"]


def test_a_pattern_is_checked_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    with pytest.raises(PatternError):
        begin("(", Plan([str(tmp_path / "log")]))
