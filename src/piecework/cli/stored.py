"""The runs on disk: found by what people call them, and the command lines in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piecework.cli.keeping import Again, Stored, called, word
from piecework.errors import JournalChanged, UsageError
from piecework.journal import directory

if TYPE_CHECKING:
    from piecework.journal.reader import Reader

_LISTED = 5


def find(word: str) -> Path:
    """The journal of the run that `word` means: a name, the beginning of one, a path, or `last`."""
    if "/" in word or word.endswith(directory.SUFFIX):
        path = Path(word)
        if not path.is_file():
            raise UsageError(f"no journal {word}. See which runs there are: piecework runs")
        return path
    names = {directory.name_of(path): path for path in directory.journals()}
    if word in names:
        return names[word]
    if word == "last" and names:
        return next(iter(names.values()))
    alike = [name for name in names if name.startswith(word)]
    if len(alike) == 1:
        return names[alike[0]]
    raise UsageError(_not_found(word, alike, list(names)))


def _not_found(word: str, alike: list[str], names: list[str]) -> str:
    if len(alike) > 1:
        more = f" and {len(alike) - _LISTED} more" if len(alike) > _LISTED else ""
        shown = ", ".join(alike[:_LISTED])
        return f'{len(alike)} runs begin with "{word}": {shown}{more}. Write more of the name.'
    if not names:
        return f'no run "{word}": there is none yet. piecework map and piecework exec begin one.'
    from piecework.cli.target import did_you_mean

    see = "See which there are: piecework runs"
    return f'no run "{word}". {did_you_mean(word, names) or see}'


def options_of(stored: Stored) -> dict[str, Any]:
    """What the words of a `map` say, by the names of its options."""
    from piecework.cli.map import command

    return command.make_context("map", list(stored.words[1:]), resilient_parsing=True).params


def carry_out_again(again: Again, overriding: dict[str, Any]) -> int:
    """Carry out the command of a run once more, where it was given; returns the exit code.

    `overriding` are values of its options, by name, that this time differ.
    """
    from piecework.journal.reader import Reader

    with Reader(again.path) as reader:
        stored = _command_of(reader)
    overriding = {name: value for name, value in overriding.items() if value}
    try:
        os.chdir(stored.cwd)
    except OSError as error:
        raise UsageError(
            f"the run {again.name} was begun in {stored.cwd}, which cannot be entered: "
            f"{error.strerror}. Put it back, or give its command with --journal and --resume."
        ) from None
    if stored.words[0] == "exec":
        from piecework.cli import exec as executing

        return int(executing.again(stored.words[1:], again, overriding))
    from piecework.cli.map import command

    with command.make_context("piecework map", list(stored.words[1:]), obj=again) as context:
        context.params.update(overriding)
        try:
            return int(command.invoke(context))
        except JournalChanged as error:  # in the words of this command line
            said = str(error).replace("--resume=anyway", "--anyway")
            raise JournalChanged(said) from None


def _command_of(reader: Reader) -> Stored:
    holder = reader.holder
    name = called(reader.path)
    if holder is not None:
        raise UsageError(
            f"the run {name} is under way in process {holder.pid}. "
            f"Wait for its end, or end it: piecework cancel {word(reader.path)}"
        )
    sessions = reader.sessions()
    stored = Stored.of(sessions)
    if stored is not None:
        return stored
    if not sessions:
        raise UsageError(
            f"the run {name} was made and never began. Give its command again, with "
            f"--name {word(reader.path)} --resume, or remove it: piecework rm {word(reader.path)}"
        )
    raise UsageError(
        f"the run {name} was begun from Python ({' '.join(sessions[0].argv)}). "
        f"Go on there: {python_way(reader.path)}"
    )


def python_way(path: Path) -> str:
    """How a program goes on with the run of a journal."""
    name = called(path)
    place = f"journal={name!r}" if os.sep in name else f"name={name!r}"
    return f"piecework.map(fn, inputs, {place}, resume=True)"
