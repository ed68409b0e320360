"""Options that several commands share, in words of xargs and GNU parallel where they exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Command = TypeVar("Command", bound=Callable[..., Any])

_WORDS = "piecework.words"
_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def duration(value: str) -> float:
    """Seconds of `30`, `1.5s`, `10m`, `2h`; a refusal shows how to write them."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) ?(ms|s|min|m|h|d|)", value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is no duration. Write 30, 1.5s, 10m or 2h.")
    return float(match[1]) * _UNITS[match[2]]


def limit(value: str) -> int | str:
    """What `piecework.map(halt=…)` takes: `100` failures, or `5%` of the inputs."""
    if re.fullmatch(r"\d+(\.\d+)?%", value):
        return value
    if re.fullmatch(r"[1-9]\d*", value):
        return int(value)
    raise click.BadParameter(f"{value!r} is no limit. Write a number, 100, or a share, 5%.")


def running(command: Command) -> Command:
    """How a run runs: executor, limits, retries."""
    return _with(_RUNNING, command)


def reporting(command: Command) -> Command:
    """Where results go and how much is said meanwhile."""
    return _with(_REPORTING, command)


def keeping(command: Command) -> Command:
    """The journal of a run: its name, and going on with one."""
    return _with(_KEEPING, command)


def again_options(command: Command) -> Command:
    """What may differ where a run goes on: only what is given here changes."""
    return _with(_AGAIN, command)


def words_of(context: click.Context) -> list[str]:
    """The command line of `context`, complete: with the options that came from the environment."""
    words = [str(context.info_name).rpartition(" ")[2]]
    for option in context.command.params:
        if context.get_parameter_source(str(option.name)) is not ParameterSource.ENVIRONMENT:
            continue
        value = context.params[str(option.name)]
        if getattr(option, "is_flag", False):
            words += [option.opts[-1]] if value else []
        else:
            words.append(f"{option.opts[-1]}={option.value_from_envvar(context)}")
    return words + list(context.meta[_WORDS])


def journal_options(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `keeping.keep` from the options of `keeping`."""
    return {
        "name": given["name"],
        "resume": given["resume_as"] or given["resume"],
        "journal": given["journal"],
        "no_journal": given["no_journal"],
    }


def _with(options: list[Callable[[Any], Any]], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


class Resumable(click.Command):
    """A command with `--resume` and `--resume=HOW`: a value only where it is written with `=`.

    Click would take the next word for the value. Words of a child command are left alone.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options; the words as they were given stay at hand."""
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, list(self._told_apart(iter(args))))

    def _told_apart(self, words: Iterator[str]) -> Iterator[str]:
        for word in words:
            if word.startswith("--resume="):
                yield word.replace("--resume=", "--resume-as=", 1)
                continue
            yield word
            if word == "--" or not (word.startswith("-") or self.allow_interspersed_args):
                break
            if self._wants_value(word):
                yield from islice(words, 1)
        yield from words

    def _wants_value(self, word: str) -> bool:
        """Whether the next word belongs to this one."""
        valued = {o for p in self.params if not getattr(p, "is_flag", True) for o in p.opts}
        if word.startswith("--"):
            return word in valued
        letters = [n for n, letter in enumerate(word) if n and f"-{letter}" in valued]
        return bool(letters) and letters[0] == len(word) - 1


_RUNNING = [
    click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N",
                 help="Workers at once. [default: what this machine lets us use]"),
    click.option("--on", default="auto", show_default=True, metavar="WHERE",
                 help="auto, processes, threads, coroutines or inline."),
    click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
                 metavar="N", help="Threads in each worker process."),
    click.option("--timeout", type=duration, help="End a task after this long; 30, 1.5s, 10m."),
    click.option("--max-memory", metavar="SIZE",
                 help="End a task that holds more; 500MB, 2G. In processes only."),
    click.option("--retries", type=click.IntRange(min=0), default=0, show_default=True,
                 metavar="N", help="Try a failed task this often again."),
    click.option("--retry-delay", type=duration, default="0.5s", show_default=True,
                 help="Wait before the first retry; doubled for each one after."),
    click.option("--deadline", type=duration, help="End the whole run after this long; exit 124."),
    click.option("--grace", type=duration, default="10s", show_default=True,
                 help="How long what runs may go on after Ctrl-C, SIGTERM or the deadline."),
    click.option("--halt", type=limit, help="Stop when so many failed: 100 or 5%; exit 3."),
    click.option("--batch-size", type=click.IntRange(min=1), metavar="N",
                 help="Tasks a worker is handed at once. [default: measured]"),
    click.option("--start-method", type=click.Choice(["fork", "forkserver", "spawn"]),
                 help="How worker processes start. [default: safe with threads]"),
]  # fmt: skip  # one option a line and its help below it reads as a table


class _How(click.Option):
    """The value of `--resume=HOW`, and called so where it is refused."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """What was written."""
        return "'--resume'"


_KEEPING = [
    click.option("--name", metavar="NAME",
                 help="Of the run. [default: made up from the function and the time]"),
    click.option("--resume", is_flag=True,
                 help="Go on with the run of that --name, or else with the last one of this very "
                      "command. =failed tries the failed inputs again too, =anyway goes on "
                      "although the function was changed."),
    click.option("--resume-as", type=click.Choice(["failed", "anyway", "failed,anyway"]),
                 cls=_How, hidden=True),
    click.option("--journal", type=click.Path(dir_okay=False), metavar="FILE",
                 help="Keep the journal in FILE. [default: in the state directory]"),
    click.option("--no-journal", is_flag=True, help="Keep none: the run cannot be resumed."),
]  # fmt: skip

_AGAIN = [
    click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N",
                 help="Workers at once. [default: as before]"),
    click.option("-o", "--output", type=click.Path(dir_okay=True), metavar="FILE",
                 help="Write results here. [default: as before]"),
    click.option("--progress", type=click.Choice(["auto", "bar", "plain", "json", "off"]),
                 help="On standard error, while it runs. [default: as before]"),
    click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
                 help="The closing summary as one JSON object."),
]  # fmt: skip

_REPORTING = [
    click.option("-o", "--output", type=click.Path(dir_okay=True), metavar="FILE",
                 help="Write results here. [default: standard output]"),
    click.option("--progress", type=click.Choice(["auto", "bar", "plain", "json", "off"]),
                 default="auto", show_default=True, help="On standard error, while it runs."),
    click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
                 help="The closing summary as one JSON object."),
]  # fmt: skip


def map_options(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `piecework.map` from the options of `running`."""
    from piecework import Backoff

    return {
        "on": given["on"],
        "workers": given["jobs"],
        "threads": given["threads"],
        "mp_context": given["start_method"],
        "task_timeout": given["timeout"],
        "max_memory": given["max_memory"],
        "retries": given["retries"],
        "backoff": Backoff(given["retry_delay"]),
        "deadline": given["deadline"],
        "halt": given["halt"],
        "batch_size": given["batch_size"],
    }
