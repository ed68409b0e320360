"""Where the arguments of commands come from: every combination, linked, lazily, again."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import piecework
from piecework.cli.exec.sources import Arguments, Format, Source
from piecework.cli.exec.words import Given, split

PARALLEL = shutil.which("parallel")
needs_parallel = pytest.mark.skipif(
    PARALLEL is None, reason="GNU parallel is not here to compare with: apt-get install parallel"
)

VALUES = st.lists(st.text(st.sampled_from("abc xyz,./"), max_size=5), max_size=4)


def rows(words: Sequence[str], *, link: bool = False, **form: object) -> list[tuple[str, ...]]:
    _, given = split(["cmd", *words])
    return list(arguments(given, link=link, **form))


def arguments(given: Sequence[Given], *, link: bool = False, **form: object) -> Arguments:
    return Arguments([Source(one, Format(**form)) for one in given], link=link)  # type: ignore[arg-type]


@given(st.lists(VALUES, min_size=1, max_size=3))
def test_sources_are_combined_each_with_each_the_first_slowest(lists: list[list[str]]) -> None:
    given = [Given(values=tuple(values)) for values in lists]
    made = arguments(given)
    assert list(made) == list(itertools.product(*lists))
    assert len(made) == len(list(made))


@given(VALUES, VALUES, VALUES)
def test_a_linked_source_goes_beside_the_one_before_it(
    one: list[str], two: list[str], three: list[str]
) -> None:
    given = [Given(tuple(one)), Given(tuple(two), linked=True), Given(tuple(three))]
    expected = [(a, b, c) for (a, b), c in itertools.product(zip(one, two, strict=False), three)]
    assert list(arguments(given)) == expected
    assert len(arguments(given)) == len(expected)


@given(VALUES, VALUES)
def test_with_link_the_shorter_begins_again(one: list[str], two: list[str]) -> None:
    made = list(arguments([Given(tuple(one)), Given(tuple(two))], link=True))
    if not one or not two:
        assert made == []
        return
    for i, (a, b) in enumerate(made):
        assert (a, b) == (one[i % len(one)], two[i % len(two)])
    assert len(made) == max(len(one), len(two))


@needs_parallel
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], [":::", "a", "b", ":::", "1", "2"]),
        ([], [":::", "a", "b", "c", ":::+", "1", "2"]),
        ([], [":::", "a", "b", ":::", "1", "2", ":::+", "x", "y"]),
        (["--link"], [":::", "a", "b", "c", ":::", "1", "2"]),
        ([], [":::", "a", "", " b "]),
        (["--colsep", "[,;] *"], [":::", "a, b", "c;d"]),
        (["--trim", "lr"], [":::", " a ", "b "]),
    ],
)
def test_the_same_rows_as_gnu_parallel(options: list[str], words: list[str]) -> None:
    assert PARALLEL is not None
    shown = ["-k", "--will-cite", *options, "printf", "'[%s]'", "{}", ";", "echo", *words]
    done = subprocess.run([PARALLEL, *shown], capture_output=True, text=True, check=True)
    form = {"colsep": options[1], "trim": "lr"} if options[:1] == ["--colsep"] else {}
    if options[:1] == ["--trim"]:
        form = {"trim": "lr"}
    ours = rows(words, link="--link" in options, **form)
    assert done.stdout.splitlines() == ["".join(f"[{x}]" for x in row) for row in ours]


def test_the_lines_of_files_are_read_as_often_as_needed(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a\nb\r\nc")
    (tmp_path / "two").write_text("1\n2\n")
    given = [Given(file=str(tmp_path / "one")), Given(file=str(tmp_path / "two"))]
    made = arguments(given)
    assert len(made) == 6
    expected = list(itertools.product("abc", "12"))
    assert list(made) == expected
    assert list(made) == expected


def test_a_file_may_be_two_sources(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a\nb\n")
    given = [Given(file=str(tmp_path / "one"))] * 2
    assert list(arguments(given)) == list(itertools.product("ab", "ab"))


def test_a_pipe_in_a_later_place_is_kept_and_gone_through_again() -> None:
    read, write = os.pipe()
    os.write(write, b"1\n2\n3\n")
    os.close(write)
    given = [Given(values=("a", "b")), Given(file=f"/dev/fd/{read}")]
    try:
        made = arguments(given)
        with pytest.raises(TypeError):
            len(made)
        assert list(made) == list(itertools.product("ab", "123"))
    finally:
        os.close(read)


def test_a_pipe_in_the_first_place_is_drawn_as_it_comes() -> None:
    read, write = os.pipe()
    os.write(write, b"1\n2\nhalf")
    try:
        drawn: Iterator[tuple[str, ...]] = iter(
            arguments([Given(file=f"/dev/fd/{read}"), Given(values=("x", "y"))])
        )
        assert [next(drawn) for _ in range(4)] == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]
        os.close(write)
        assert list(drawn) == [("half", "x"), ("half", "y")]
    finally:
        os.close(read)


def test_arguments_that_are_no_utf_8_are_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"caf\xe9\n")
    (row,) = arguments([Given(file=str(tmp_path / "one"))])
    assert os.fsencode(row[0]) == b"caf\xe9"


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from([b"\0", b"\n", b"ab", b"aa", b","]))
def test_records_are_what_is_between_the_ends(data: bytes, end: bytes) -> None:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    try:
        made = [os.fsencode(row[0]) for row in arguments([Given(file=f"/dev/fd/{read}")], end=end)]
    finally:
        os.close(read)
    expected = data.split(end)
    if not expected[-1]:
        expected.pop()
    if end == b"\n":
        expected = [one.removesuffix(b"\r") for one in expected]
    assert made == expected


def test_blank_lines_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a\n\n  \nb\n")
    given = [Given(file=str(tmp_path / "one"))]
    assert list(arguments(given, skip_blank=True)) == [("a",), ("b",)]


def test_a_header_gives_names_and_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x,y\n1,2\n3,4\n")
    source = Source(Given(file=str(tmp_path / "one")), Format(colsep=","), header=True)
    assert source.names == ("x", "y")
    assert list(Arguments([source])) == [("1", "2"), ("3", "4")]
    assert len(Arguments([source])) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cmd", ":::+", "a"], "there is none"),
        (["cmd", "::::"], "no file after ::::"),
        (["cmd", "::::", "-", "::::", "-"], "one source only"),
    ],
)
def test_sources_that_make_no_sense_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(piecework.UsageError, match=said):
        split(words)


@pytest.mark.parametrize(("name", "said"), [("nowhere", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(name: str, said: str) -> None:
    with pytest.raises(piecework.UsageError, match=said):
        Source(Given(file=name), Format())


def test_a_colsep_that_is_no_pattern_is_refused_with_what_is_one() -> None:
    with pytest.raises(piecework.UsageError, match=r"write '\\\\\('"):
        Format(colsep="(")
