"""`piecework extract`: rows in input order, every line accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import Outcome, piecework

LINE = r"^(?P<method>[A-Z]+) (?P<path>\S+) (?P<status>\d+)$"


def extract(*arguments: object, **environment: str) -> Outcome:
    return piecework("extract", *map(str, arguments), **environment)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(b"GET / 200\nPOST /x 404\r\n\nwhat\n\xff\nGET /y 500")
    return path


def test_named_groups_become_objects(log: Path) -> None:
    done = extract(LINE, log)
    assert done.code == 0
    assert [(row["method"], row["status"]) for row in done.rows] == [
        ("GET", "200"),
        ("POST", "404"),
        ("GET", "500"),
    ]
    assert f"{log}:24: what" in done.err
    assert "\\xff" in done.err
    assert done.err.endswith("6 lines = 3 rows + 2 unmatched + 1 empty\n")


@pytest.mark.parametrize("on", ["inline", "threads", "processes", "auto"])
def test_rows_keep_the_order_of_the_files_wherever_they_are_read(tmp_path: Path, on: str) -> None:
    paths = []
    for name in ("b", "a", "c"):
        path = tmp_path / name
        path.write_text("".join(f"{name} {n}\n" for n in range(150_000)))
        paths.append(path)
    out = tmp_path / "rows.jsonl"
    done = extract(r"^(?P<file>\w) (?P<n>\d+)$", *paths, "-o", out, "--on", on, "-j", 2)
    assert done.code == 0
    rows = [tuple(json.loads(line).values()) for line in out.read_text().splitlines()]
    assert rows == [(name, str(n)) for name in "bac" for n in range(150_000)]
    assert "450,000 lines = 450,000 rows + 0 unmatched + 0 empty" in done.err
    assert f"{paths[0]}: 150,000 lines" in done.err


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    done = extract(LINE, tmp_path / "empty")
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith("0 lines = 0 rows + 0 unmatched + 0 empty\n")


def test_a_pattern_that_does_not_compile_is_shown_with_a_caret(log: Path) -> None:
    done = extract("(?P<a>[0-9)", log)
    assert done.code == 2
    assert "\n  (?P<a>[0-9)\n        ^\n" in done.err


def test_a_pattern_without_names_shows_how_to_name(log: Path) -> None:
    done = extract(r"^(\S+)", log)
    assert done.code == 2
    assert r"^(?P<first>\S+)" in done.err


def test_a_file_that_is_not_there_is_refused_before_anything_is_read(log: Path) -> None:
    done = extract(LINE, log, log.with_name("gone.log"))
    assert (done.code, done.out) == (2, "")
    assert "gone.log: No such file" in done.err


def test_an_output_that_is_an_input_is_refused(log: Path) -> None:
    before = log.read_bytes()
    done = extract(LINE, log, "-o", log)
    assert done.code == 2
    assert "is an input too" in done.err
    assert log.read_bytes() == before


def test_the_account_as_json(log: Path) -> None:
    done = extract(LINE, log, "--json", PIECEWORK_PROGRESS="off")
    summary = json.loads(done.err)["summary"]
    assert summary["lines"]["rows"] == 3
    assert summary["files"][0]["path"] == str(log)


def test_a_pattern_that_never_ends_on_a_line_is_ended_by_its_limit(tmp_path: Path) -> None:
    (tmp_path / "bad.log").write_text("a" * 64 + "!\n")
    (tmp_path / "good.log").write_text("aaa\n")
    arguments = [r"^(?P<x>(a+)+)$", tmp_path / "good.log", tmp_path / "bad.log"]
    done = extract(*arguments, "--timeout", "1", "--on", "processes")
    assert done.code == 1
    assert [row["x"] for row in done.rows] == ["aaa"]
    assert "bad.log: 0 lines" in done.err
    assert "NOT READ TO ITS END (0 of 66 bytes): " in done.err
