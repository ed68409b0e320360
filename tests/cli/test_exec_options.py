"""The options of `piecework exec`: read as those of GNU tools, explained and documented."""

from __future__ import annotations

from pathlib import Path

import pytest

import piecework
from piecework.cli.exec import quantities
from piecework.cli.exec.manual import help_text
from piecework.cli.exec.options import ELSEWHERE, KNOWN, from_environment, read

PAGE = (Path(__file__).parents[2] / "docs" / "exec.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-j4"], {"jobs": "4"}),
        (["-j", "4"], {"jobs": "4"}),
        (["-P", "+1"], {"jobs": "+1"}),
        (["--jobs=200%"], {"jobs": "200%"}),
        (["-kvj", "2"], {"keep_order": True, "verbose": True, "jobs": "2"}),
        (["--keep"], {"keep_order": True}),
        (["--lb"], {"grouping": "line"}),
        (["--line-buffer", "--group"], {"grouping": "group"}),
        (["-a", "x", "--arg-file", "y"], {"arg_file": ["x", "y"]}),
        (["--resume"], {"resume": ""}),
        (["--resume=failed"], {"resume": "failed"}),
        (["--resume-failed"], {"resume": "failed"}),
        (["-d", r"\t"], {"delimiter": "\t"}),
        (["--block", "10M"], {"block": 10 << 20}),
        (["--bar"], {"progress": "bar"}),
    ],
)
def test_options_are_read_as_they_are_written_for_gnu_tools(
    words: list[str], expected: dict[str, object]
) -> None:
    given, rest = read([*words, "cmd", "-x", "--tag", ":::", "a"])
    assert {name: given[name] for name in expected} == expected
    assert rest == ["cmd", "-x", "--tag", ":::", "a"]
    assert not given["tag"]  # what follows the command belongs to it


def test_two_dashes_end_the_options() -> None:
    assert read(["-k", "--", "-x"])[1] == ["-x"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tga"], "Did you mean '--tag'"),
        (["-Z"], "no option -Z"),
        (["--jobs"], "--jobs needs a value"),
        (["-j"], "-j needs a value"),
        (["--tag=x"], "takes no value"),
        (["--timeout"], "needs a value"),
        (["--delay", "x"], "Write 30, 1.5s"),
        (["--block", "x"], "Write 100000"),
        (["--retries", "-1"], "whole number from 0"),
        (["--progress", "x"], "none of: auto"),
        (["-S", "host"], "piecework worker"),
        (["--pipepart"], "--pipe"),
        (["--re"], "no option --re"),
    ],
)
def test_what_is_no_option_is_refused_with_a_way_out(words: list[str], said: str) -> None:
    with pytest.raises(piecework.UsageError) as refused:
        read([*words])
    assert said in str(refused.value)


def test_every_option_may_come_from_the_environment() -> None:
    set_to = {"PIECEWORK_KEEP_ORDER": "1", "PIECEWORK_JOBS": "3", "PIECEWORK_TAG": "0", "HOME": "/"}
    words = from_environment(set_to)
    given, _ = read([*words, "cmd"])
    assert given["keep_order"]
    assert given["jobs"] == "3"
    assert not given["tag"]
    assert read([*words, "-j5", "cmd"])[0]["jobs"] == "5"


def test_help_and_the_page_name_every_option() -> None:
    text = help_text()
    for name, option in KNOWN.items():
        assert option.help.endswith((".", "]", ":::: FILE", ":::+")), name
        assert name in text
        spellings = option.names.split()
        told = option.dest == "help" or any(
            f"`{one}" in PAGE or f" {one}" in PAGE for one in spellings
        )
        assert told, name
    assert max(map(len, text.splitlines())) <= 80


def test_what_is_missing_is_not_there() -> None:
    assert not {name for names in ELSEWHERE.values() for name in names.split()} & KNOWN.keys()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("1.5s", 1.5), ("200ms", 0.2), ("10m", 600), ("2 h", 7200), ("1h30m", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert quantities.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "-1", "1y", "nan", "inf", "1..2", "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(piecework.UsageError, match="Write 30"):
        quantities.seconds(text)


@pytest.mark.parametrize(
    ("text", "jobs"),
    [("4", 4), ("0", 99), ("200%", 16), ("50%", 4), ("1%", 1), ("+2", 10), ("-3", 5), ("-20", 1)],
)
def test_jobs_are_counted_from_the_cores(text: str, jobs: int) -> None:
    assert quantities.jobs(text, cores=8, most=99) == jobs


@pytest.mark.parametrize("text", ["", "x", "2x", "%", "inf%", "+"])
def test_what_is_no_number_of_jobs_is_refused(text: str) -> None:
    with pytest.raises(piecework.UsageError, match="200%"):
        quantities.jobs(text, cores=8, most=99)


@pytest.mark.parametrize(
    ("text", "bytes_"), [("100", 100), ("1k", 1000), ("1K", 1024), ("1.5G", 3 << 29)]
)
def test_sizes_count_in_thousands_where_gnu_does(text: str, bytes_: int) -> None:
    assert quantities.bytes_(text) == bytes_


@pytest.mark.parametrize(
    ("written", "text"),
    [(r"\n", "\n"), (r"\0", "\0"), (r"\x1f", "\x1f"), (r"a\\n", r"a\n"), (r"\101", "A"), ("", "")],
)
def test_texts_may_have_escapes(written: str, text: str) -> None:
    assert quantities.unescaped(written) == text
