"""The command line: arguments in, exit codes out.

Workers import `piecework.cli.values`, so this file imports nothing before it is called.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of `piecework` and `pw`; always leaves through SystemExit."""
    from piecework.cli.app import run

    raise SystemExit(run())
