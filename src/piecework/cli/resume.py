"""`piecework resume RUN`: carry out its command again, for what is missing."""

from __future__ import annotations

from typing import Any

import click

from piecework.cli.options import again_options


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("run")
@click.option("--failed", is_flag=True, help="Try the inputs that failed again as well.")
@click.option("--anyway", is_flag=True, help="Go on although the function was changed.")
@again_options
def command(run: str, failed: bool, anyway: bool, **overriding: Any) -> int:
    """Go on with RUN, for what is missing.

    RUN is a name, the beginning of one, the path of a journal, or "last". Its command is carried
    out where it was given, with the same options; what is done is not done again. Inputs that came
    from standard input have to be given once more.

    \b
      piecework resume last
      find . -name '*.jpg' | piecework resume thumbs-20261123-165400-ab12
    """
    from piecework.cli.keeping import Again
    from piecework.cli.stored import carry_out_again, find

    how = ",".join(word for word, on in (("failed", failed), ("anyway", anyway)) if on)
    return carry_out_again(Again(find(run).absolute(), how or True), overriding)
