"""`piecework doctor`: what this machine offers, what stands in the way, and how to change that."""

from __future__ import annotations

from collections.abc import Iterator

import click

from piecework.cli.doctor.finding import Finding


@click.command(context_settings={"auto_envvar_prefix": "PIECEWORK"})
@click.argument("target", metavar="[MODULE:FUNC]", required=False)
@click.option("--json", "as_json", is_flag=True, envvar="PIECEWORK_JSON",
              help="The findings as one JSON object.")  # fmt: skip
def command(target: str | None, as_json: bool) -> int:
    """Look at this machine as piecework finds it, and at FUNC of MODULE as workers would.

    Python, start methods, cores and what limits them, memory, open files, native thread pools, the
    journals, the packages; each finding with its fix. FUNC is sent to a worker process and loaded
    there, and not called. Exit: 0 all is well, 1 something needs a fix.

    \b
      piecework doctor
      piecework doctor thumbs:make --json
    """
    found = []
    for finding in _findings(target):
        found.append(finding)
        if not as_json:  # as they come: a worker takes a while
            for line in finding.lines():
                click.echo(line)
    wrong = sum(finding.level == "fix" for finding in found)
    if as_json:
        from piecework.cli import values

        told = {"ok": not wrong, "findings": [finding._asdict() for finding in found]}
        click.echo(values.encode(told))
    else:
        click.echo(_closing(wrong, len(found)))
    return 1 if wrong else 0


def _findings(target: str | None) -> Iterator[Finding]:
    from piecework.cli.doctor import machine, packages, places, workers
    from piecework.cli.target import resolve

    fn = None if target is None else resolve(target)  # a slip of the pen is told before all else
    yield from machine.findings()
    yield from places.findings()
    yield from packages.findings()
    yield from workers.findings()
    if fn is not None:
        yield from workers.shipped(fn, str(target).rpartition(":")[2])


def _closing(wrong: int, count: int) -> str:
    if not wrong:
        return f"\n{count} findings: nothing needs a fix."
    return f"\n{count} findings: {wrong} {'needs' if wrong == 1 else 'need'} a fix."
