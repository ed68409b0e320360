"""Every option: explained, documented, and settable from the environment under its own name."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from piecework.cli.app import COMMANDS, cli
from piecework.cli.options import duration, limit

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")


def commands() -> list[tuple[str, click.Command]]:
    found = [(name, cli.get_command(click.Context(cli), name)) for name in COMMANDS]
    return [(name, command) for name, command in found if command is not None]


OPTIONS = [
    pytest.param(option, id=f"{name} {option.opts[-1]}")
    for name, command in commands()
    for option in command.params
    if isinstance(option, click.Option) and not option.hidden
]


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_explained_and_documented(option: click.Option) -> None:
    assert option.help
    assert option.help.endswith((".", "]"))
    assert any(f"`{name}" in PAGE or f" {name}" in PAGE for name in option.opts)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_may_come_from_the_environment(option: click.Option) -> None:
    flag = next(name for name in option.opts if name.startswith("--"))
    expected = "PIECEWORK_" + flag[2:].replace("-", "_").upper()
    assert (option.envvar or f"PIECEWORK_{(option.name or '').upper()}") == expected


@pytest.mark.parametrize(("name", "command"), commands())
def test_a_command_is_explained_and_documented(name: str, command: click.Command) -> None:
    assert command.help
    assert command.context_settings["auto_envvar_prefix"] == "PIECEWORK"
    assert f"piecework {name}" in PAGE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("1.5s", 1.5), ("200ms", 0.2), ("10m", 600), ("2 h", 7200), (".5", 0.5)],
)
def test_durations_are_written_as_people_do(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "1y", "1h30m", "nan", "inf"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="Write 30"):
        duration(text)


def test_a_halt_is_a_number_or_a_share() -> None:
    assert limit("100") == 100
    assert limit("5%") == "5%"
    for text in ("0", "-1", "x", "5 %", "%"):
        with pytest.raises(click.BadParameter, match="Write a number"):
            limit(text)


@pytest.mark.parametrize(
    ("words", "resume", "target"),
    [
        (["--resume", "m:f", "a"], (True, None), "m:f"),
        (["m:f", "--resume=failed", "a"], (False, "failed"), "m:f"),
        (["-j", "2", "m:f", "-o", "--resume=x", "--resume"], (True, None), "m:f"),
        (["m:f", "--", "--resume=failed"], (False, None), "m:f"),
    ],
)
def test_resume_takes_a_value_only_where_it_is_written_with_an_equals_sign(
    words: list[str], resume: tuple[bool, str | None], target: str
) -> None:
    from piecework.cli.map import command

    params = command.make_context("map", words, resilient_parsing=True).params
    assert (params["resume"], params["resume_as"]) == resume
    assert params["target"] == target


def test_resume_refuses_what_it_does_not_know() -> None:
    from piecework.cli.map import command

    with pytest.raises(click.BadParameter, match="failed"):
        command.make_context("map", ["m:f", "--resume=maybe"])
