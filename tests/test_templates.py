"""Placeholders as GNU parallel has them; words split once; a shell that parses no input."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.errors import UsageError
from piecework.templates import columns_of, parse, quoted

PATHS = [".bashrc", "dir.d/file", "a/b.tar.gz", "a/", "/x", "x.", "a..b", "a/.b", "/", "a/b/"]
PATHS += ["a//b.c", "//x", "a.b/", "a.b/c", "x/..", ".", "..", "...", "~"]
NO_NUL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


def test_placeholders_cut_paths_as_gnu_parallel_does() -> None:
    if not shutil.which("parallel"):
        pytest.skip("GNU parallel is not installed: apt-get install parallel")
    command = ["parallel", "--will-cite", "--plain", "-k"]
    command += ["printf '[%s]' {} {.} {/} {//} {/.}; echo", ":::", *PATHS]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    template = parse("{} {.} {/} {//} {/.}")
    ours = ["".join(f"[{word}]" for word in template.render((path,))) for path in PATHS]
    assert ours == expected.splitlines()


def test_a_template_is_split_once_and_an_input_never() -> None:
    template = parse("""prog 'one word' "two $x" {} a{}b""")
    value = """ ; rm -rf / "' $(id) * """
    assert template.render((value,)) == ["prog", "one word", "two $x", value, f"a{value}b"]


def test_a_list_is_taken_word_by_word() -> None:
    assert parse(["echo", "a b", "{.}"]).render(("c d.e",)) == ["echo", "a b", "c d"]


def test_numbers_of_task_and_slot() -> None:
    assert parse("echo {#} {%}").render(("x",), 7, 3) == ["echo", "7", "3"]


def test_parts_of_an_input() -> None:
    template = parse("{1} {2.} {-1/} {2//}")
    assert template.render(("a", "b/c.d")) == ["a", "b/c", "c.d", "b"]


def test_all_parts_are_words_of_their_own() -> None:
    assert parse("x {} y").render(("a b", "c")) == ["x", "a b", "c", "y"]
    assert parse("x{}y").render(("a", "b")) == ["xa", "by"]
    assert parse("x {}").render(()) == ["x"]


def test_in_context_the_whole_word_is_there_once_for_each_part() -> None:
    assert parse("p x{.}y", context=True).render(("a.b", "c")) == ["p", "xay", "xcy"]


def test_other_spellings() -> None:
    template = parse("p REPL {} {.} EXT", marks={"{}": "REPL", "{/}": "EXT"})
    assert template.render(("a/b.c",)) == ["p", "a/b.c", "{}", "a/b", "b.c"]
    with pytest.raises(UsageError, match=r"no placeholder '\{x\}'"):
        parse("p", marks={"{x}": "y"})


def test_braces_that_are_no_placeholders_are_left_alone() -> None:
    words = ["awk", "{print $1}", "${HOME}", "{a,b}", "{1,3}", "{", "}", "{foo}"]
    assert parse(words).render(("x",)) == words


@pytest.mark.parametrize("wrong", ["{..}", "{//.}", "{0}", "{01}", "{-}", "{1#}", "{1-}", "{#%}"])
def test_what_resembles_a_placeholder_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"The placeholders are \{\}"):
        parse(["echo", f"a{wrong}b"])


@pytest.mark.parametrize("wrong", ["", "  ", [], "''"])
def test_an_empty_command_is_refused(wrong: str | list[str]) -> None:
    with pytest.raises(UsageError, match="the command is empty"):
        parse(wrong)


@pytest.mark.parametrize("word", ["|", "&&", ">", "2>&1"])
def test_words_of_a_shell_are_refused_where_none_runs(word: str) -> None:
    with pytest.raises(UsageError, match="shell=True"):
        parse(f"cat {{}} {word} x")
    assert parse(["cat", "{}", word]).render(("a",)) == ["cat", "a", word]
    assert parse(f"cat {{}} {word} x", shell=True).program == "/bin/sh"


def test_an_open_quotation_is_refused() -> None:
    with pytest.raises(UsageError, match="Close the quotation"):
        parse("echo 'a")


def test_a_part_that_is_not_there_is_refused() -> None:
    template = parse("echo {1} {3}")
    with pytest.raises(UsageError, match=r"\{3\} names part 3 .* has 2 parts"):
        template.check(2)
    with pytest.raises(UsageError, match="has 1 part"):
        template.render(("a",))
    template.check(3)


def test_the_program_is_known_where_no_input_decides_it() -> None:
    assert parse("gzip {}").program == "gzip"
    assert parse("{} x").program is None
    assert parse("a | b", shell=True).program == "/bin/sh"


@given(st.lists(NO_NUL, max_size=3))
def test_words_are_read_back_by_a_shell(words: list[str]) -> None:
    assert shlex.split(" ".join(map(quoted, words))) == words


@given(NO_NUL, NO_NUL)
def test_a_rendered_command_has_as_many_words_as_its_template(first: str, second: str) -> None:
    assert parse("a {1}b {2} '{1} {2}'").render((first, second)) == [
        "a",
        f"{first}b",
        second,
        f"{first} {second}",
    ]


@pytest.mark.parametrize(
    "value", ["a b", "$(touch bad)", "`id`", "a'b", 'a"b', "*", "\\", "a\nb", ""]
)
def test_a_shell_never_parses_an_input_in_whichever_quotes(value: str) -> None:
    template = parse("""printf '%s|' {} "{}" '{}' a{}; f() { printf '%s' {}; }; f x""", shell=True)
    done = subprocess.run(template.render((value,)), capture_output=True, text=True, check=True)
    assert done.stdout == f"{value}|{value}|{value}|a{value}|{value}"


@pytest.mark.parametrize("value", ["a b", "$(id)", "`id`", "a'b", 'a"b', "*", "\\", "$x"])
def test_what_is_shown_is_what_a_shell_would_run(value: str) -> None:
    template = parse("""printf '%s|' {} "{}" '{}'""", shell=True)
    done = subprocess.run(
        ["sh", "-c", template.text((value,))], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{value}|{value}|{value}|"
    assert shlex.split(parse("echo {}").text((value,))) == ["echo", value]


def test_inputs_as_text() -> None:
    assert columns_of("x") == ("x",)
    assert columns_of((1, 2.5, b"b")) == ("1", "2.5", "b")
    with pytest.raises(UsageError, match="dict"):
        columns_of({"a": 1})
