"""The command of a run: from its words and the options to what `piecework.command` makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from piecework.cli.exec.program import check_program, warn_of_operators, words_of
from piecework.commands import Command, command
from piecework.errors import UsageError
from piecework.templates import Field, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEEP_BYTES = 1 << 16  # of each output, in the journal: what was printed is not printed again


def command_of(options: dict[str, Any], own: Sequence[str], *, append: bool) -> Command:
    marks = {"{}": options["replace"]} if options["replace"] else None
    context = bool(options["context"] or options["replace_args"])
    template: str | list[str] = list(own)
    shell: str | bool = False
    if options["shell"]:
        template, shell = _script(options, own), "/bin/sh"
    elif len(own) == 1 and not _is_file(own[0]) and any(map(str.isspace, own[0])):
        template = words_of(own[0])
    made = command(
        template,
        shell=shell,
        marks=marks,
        context=context,
        append=None if append else False,
        input="task" if options["pipe"] else None,
        encoding=options["encoding"],
        cwd=_folder(options["cwd"]),
        env=_environment(options["env"] or ()),
        keep_bytes=1 << 20 if options["json"] or options["output"] else KEEP_BYTES,
    )
    if not options["shell"]:
        path = dict(made.env).get("PATH")
        check_program(made.template.program, made.cwd, path)
        warn_of_operators(own)
    return made


def _script(options: dict[str, Any], own: Sequence[str]) -> str:
    if not own:  # each line is a command line
        return "eval {}"
    if not options["quote"]:
        return " ".join(own)
    from piecework.templates import quoted

    return " ".join(_quoted_around(word, quoted) for word in own)


def _quoted_around(word: str, quoted: Callable[[str], str]) -> str:
    """The word quoted, but for its placeholders: their values are quoted by themselves."""
    parts = parse([word]).words[0]
    return "".join(str(part) if isinstance(part, Field) else quoted(part) for part in parts)


def _is_file(word: str) -> bool:
    return os.path.exists(word)


def _folder(path: str | None) -> str | None:
    if path is not None and not os.path.isdir(path):
        raise UsageError(f"--cwd {path}: there is no such folder. Make it first: mkdir -p {path}")
    return path


def _environment(written: Iterable[str]) -> dict[str, str | None]:
    """`NAME=VALUE`s; a `NAME` alone is passed on, as all are."""
    return {
        name: value for name, equals, value in (one.partition("=") for one in written) if equals
    }
