"""Inputs: arguments, lines of a file, or standard input, drawn lazily."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from piecework import UsageError
from piecework.cli.inputs import inputs


class Stdin(io.StringIO):
    """Standard input that is a pipe with these bytes, at a terminal or not."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        super().__init__()
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        self.reader = reader
        self.terminal = terminal

    def fileno(self) -> int:
        return self.reader

    def close(self) -> None:
        if not self.closed:
            os.close(self.reader)
        super().close()

    def isatty(self) -> bool:
        return self.terminal


def test_arguments_are_the_inputs_and_their_number_is_known() -> None:
    assert inputs(["a", "b"], None) == ["a", "b"]


def test_the_lines_of_a_file_are_counted_those_of_a_pipe_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"a\nb\nc")
    lines = inputs([], str(path))
    assert len(lines) == len(list(lines)) == 3
    monkeypatch.setattr("sys.stdin", Stdin(b"a\n"))
    with pytest.raises(TypeError):
        len(inputs([], None))


def test_every_line_of_a_file_is_an_input_the_empty_ones_too(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"a b\r\n\n c \nlast")
    assert list(inputs([], str(path))) == ["a b", "", " c ", "last"]


def test_names_that_are_not_utf8_still_open_their_file(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(name)).write_text("x")
    path = tmp_path / "list"
    path.write_bytes(name + b"\n")
    (drawn,) = inputs([], str(path))
    assert Path(drawn).read_text() == "x"


def test_records_that_span_many_reads_are_whole(tmp_path: Path) -> None:
    lines = ["x" * 200_000, "", "y" * 70_000, "z"]
    path = tmp_path / "list"
    path.write_text("\n".join(lines))
    assert list(inputs([], str(path))) == lines


def test_nul_ends_inputs_as_find_print0_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"a\nb\0c\r\0d")
    assert list(inputs([], str(path), null=True)) == ["a\nb", "c\r", "d"]


def test_standard_input_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(b"a\nb\n"))
    assert list(inputs([], None)) == ["a", "b"]
    monkeypatch.setattr("sys.stdin", Stdin(b"a\n", terminal=True))
    assert list(inputs([], "-")) == ["a"]


def test_a_terminal_as_input_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(b"", terminal=True))
    with pytest.raises(UsageError, match="on standard input: ls"):
        inputs([], None)


@pytest.mark.parametrize(
    ("given", "arg_file", "said"),
    [
        (["a"], "list", "Give one of them"),
        ([], "nowhere", "cannot read nowhere: No such file or directory"),
        ([], ".", "Is a directory"),
    ],
)
def test_inputs_that_cannot_be_read_are_refused(given, arg_file, said) -> None:
    with pytest.raises(UsageError, match=said):
        inputs(given, arg_file)
