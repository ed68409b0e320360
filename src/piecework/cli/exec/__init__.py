"""`piecework exec`: a command for every argument, in the words of GNU parallel and xargs.

    words ─▶ options ─▶ Plan (command, inputs) ─▶ piecework.map on a CommandExecutor ─▶ Show

A run of small commands is mostly its start, so this is read past click (`piecework.cli.main`), and
nothing is imported here before it is needed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from piecework import Result
    from piecework.cli.keeping import Again


def main(words: Sequence[str]) -> int:
    """Carry out `piecework exec WORDS...`, with what the environment sets; the exit code."""
    import os
    import sys

    from piecework.cli.exec import options

    words = [*options.from_environment(os.environ), *words]
    given, rest = options.read(words)
    if given["help"]:
        from piecework.cli.exec.manual import help_text

        sys.stdout.write(help_text())
        return 0
    from piecework.cli.exec.drive import run

    # One spelling: by its words the same command is known again.
    head = words[: len(words) - len(rest)]
    spelled = {"--resume-failed": "--resume=failed", "--retry-failed": "--resume=failed"}
    return run([*(spelled.get(word, word) for word in head), *rest], given, rest)


def entry(words: Sequence[str]) -> int:
    """The same from the very beginning: every error becomes a message and an exit code."""
    import gc

    from piecework.cli.ends import guarded

    gc.disable()  # what is imported stays: nothing to be found until the run begins
    return guarded(lambda: main(words))


def again(words: Sequence[str], again: Again, overriding: dict[str, Any]) -> int:
    """The command of a journal once more, for that journal: `piecework resume` and `retry`."""
    from piecework.cli.exec import options
    from piecework.cli.exec.drive import run

    given, rest = options.read(words)
    if overriding.get("as_json") is not None:
        given["json"] = given["json"] or overriding["as_json"]
    for name in ("progress", "jobs", "output"):
        if overriding.get(name) is not None:
            given[name] = str(overriding[name])
    return run(words, given, rest, again)


def line(result: Result) -> bytes:
    """A result as `--json` and `-o` write it."""
    from piecework.cli.exec import show

    return show.line(result)


def replay(words: Sequence[str], result: Result) -> int:
    """Run the command of this one result here, with our own input and output; its exit code."""
    import subprocess

    from piecework.cli.exec import options
    from piecework.cli.exec.plan import only_command

    given, rest = options.read(words)
    command = only_command(given, rest)
    fed = command.stdin(result.input)
    done = subprocess.run(
        command.words(result.input, result.index + 1),
        input=fed,
        cwd=command.cwd,
        env=command.environment(),
    )
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def __getattr__(name: str) -> Any:
    """`command`, for the list of commands; click is imported by whoever asks."""
    if name != "command":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import click

    @click.command(
        "exec",
        add_help_option=False,
        help="Run a command for every argument, line or block of input.",
        context_settings={
            "auto_envvar_prefix": "PIECEWORK",
            "ignore_unknown_options": True,
            "allow_interspersed_args": False,
        },
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def command(words: tuple[str, ...]) -> int:
        return main(words)

    return command
