"""The commands, loaded one by one when they are called, and what becomes of their errors."""

from __future__ import annotations

import importlib
from typing import Any

import click

from piecework.cli.ends import guarded
from piecework.cli.text import say

COMMANDS = {
    "exec": "exec",
    "map": "map",
    "extract": "extract",
    "runs": "runs",
    "show": "show",
    "results": "results",
    "resume": "resume",
    "retry": "retry",
    "replay": "replay",
    "cancel": "cancel",
    "rm": "rm",
    "doctor": "doctor",
    "version": "version",
}


class Lazy(click.Group):
    """Commands are imported when they are needed: `version` must not pay for `map`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None for `resolve_command` to say so."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"piecework.cli.{COMMANDS[cmd_name]}")
        return module.command  # type: ignore[no-any-return]  # a module's attributes are Any

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the first argument; a slip of the pen gets a suggestion."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from piecework.cli.target import did_you_mean

            choose = f"Choose one of: {', '.join(COMMANDS)}."
            ctx.fail(f'no command "{args[0]}". {did_you_mean(args[0], COMMANDS) or choose}')
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """One huge, accountable map: one function over a million inputs.

    Results go to standard output, everything else to standard error. Every option can be given
    as an environment variable too: --jobs as PIECEWORK_JOBS.

    Exit: 0 all done, 1 some failed, 2 usage, 3 halted, 124 deadline, 125 our own error,
    130 and 143 interrupted, 141 the reader of our output has gone.
    """


def run(arguments: list[str] | None = None) -> int:
    """Carry out one command line; every error becomes a message and an exit code."""
    return guarded(lambda: _click(arguments))


def _click(arguments: list[str] | None) -> Any:
    try:
        return cli.main(arguments, prog_name="piecework", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return 2
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "piecework"
        say(f"{path}: {error.format_message()}\nAll options: {path} --help")
        return 2
    except click.Abort:
        return 130
    except click.ClickException as error:
        say(f"piecework: {error}")
        return 125
