"""`piecework version`."""

from __future__ import annotations

import platform

import click


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
def command() -> int:
    """Print the versions of piecework, Python and the platform."""
    from piecework import __version__

    where = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    click.echo(f"piecework {__version__} ({where})")
    return 0
