"""MODULE:FUNC: found, or refused with what to write instead."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from piecework import UsageError
from piecework.cli.target import resolve

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into an empty working directory; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def writer(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return path

    yield writer
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(target: str) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(target)
    return str(caught.value)


def test_a_function_of_a_module_in_the_working_directory_is_found(write: Write) -> None:
    write("pw_logs.py", "def extract(x): return x\nclass Kind:\n  def of(x): return x")
    assert resolve("pw_logs:extract")("x") == "x"
    assert resolve("pw_logs:Kind.of")("x") == "x"


def test_a_function_of_a_file_is_found(write: Write) -> None:
    write("sub/pw_other.py", "def f(x): return x")
    assert resolve("sub/pw_other.py:f")("x") == "x"


@pytest.mark.parametrize("target", ["measure", "measure:", ":f", ""])
def test_a_target_without_a_function_shows_the_form(target: str) -> None:
    assert "Write MODULE:FUNC" in refusal(target)


def test_a_slip_in_the_function_gets_a_suggestion(write: Write) -> None:
    write("pw_logs.py", "def extract(x): return x")
    assert refusal("pw_logs:extrct") == (
        "no function \"pw_logs:extrct\": module 'pw_logs' has no attribute 'extrct'. "
        "Did you mean 'extract'?"
    )


def test_a_slip_in_the_module_gets_a_suggestion(write: Write) -> None:
    write("pw_logs.py", "")
    assert refusal("pw_lgs:extract") == "no module \"pw_lgs\". Did you mean 'pw_logs'?"


def test_a_missing_module_says_where_it_was_looked_for(write: Write) -> None:
    assert "Run this from the directory that holds it" in refusal("zzqqxx:f")
    assert "there is no file zz.py" in refusal("zz.py:f")


def test_what_is_not_callable_is_refused(write: Write) -> None:
    write("pw_logs.py", "extract = 3\ndef extracts(x): ...")
    assert refusal("pw_logs:extract") == (
        "\"pw_logs:extract\" is of type int and cannot be called. Did you mean 'extracts'?"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(:", "SyntaxError"),
        ("x = 1\nx / 0", "pw_bad.py:2"),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_shows_its_own_error(
    write: Write, source: str, said: str
) -> None:
    write("pw_bad.py", source)
    message = refusal("pw_bad:f")
    assert said in message
    assert "cannot be imported" in message
    assert "importlib" not in message
