"""What `piecework exec --help` prints."""

from __future__ import annotations

from piecework.cli.exec.options import SECTIONS

USAGE = """\
Usage: piecework exec [OPTIONS] CMD [WORD...] [::: ARG... | :::: FILE...]...

  Run CMD once for every ARG, line of FILE, or line of standard input.

  {} stands for the argument, and is added at the end where no placeholder is:
  {.} without extension, {/} file name, {//} folder, {/.} file name without
  extension, {#} number, {%} slot, {1} {2.} ... of the first, second source.
  Several sources are combined, each with each; :::+ and ::::+ link a source to
  the one before it. No shell runs unless asked for: see --shell.

    piecework exec gzip -k ::: *.log
    piecework exec -j 4 --tag ping -c 1 < hosts.txt
    piecework exec convert {1} -resize {2} {1/.}-{2}.png ::: *.jpg ::: 100 400
    piecework exec --shell 'grep -c ERROR {} > {.}.count' ::: *.log
    cat big.log | piecework exec --pipe --block 10M grep -c ERROR
    find . -name '*.wav' -print0 | piecework exec -0 --retries 2 flac -s

  Exit: 0 all done, 1 some failed, 2 usage, 3 halted, 124 deadline, 125 our own
  error, 130 and 143 interrupted, 141 the reader of our output has gone.
"""


def help_text(width: int = 80) -> str:
    """What `--help` prints: every option of the table."""
    import textwrap

    lines = [USAGE]
    for section, options in SECTIONS.items():
        lines.append(f"{section}:")
        for option in options:
            names = ", ".join(sorted(option.names.split(), key=lambda name: len(name) > 2))
            value = f"[={option.metavar}]" if option.optional is not None else f" {option.metavar}"
            lines.append(f"  {names}{value if option.metavar else ''}")
            indent = " " * 8
            lines += textwrap.wrap(
                option.help, width, initial_indent=indent, subsequent_indent=indent
            )
        lines.append("")
    return "\n".join(lines)
