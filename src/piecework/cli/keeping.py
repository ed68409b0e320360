"""Where a run of the command line keeps its journal, and which run it goes on with.

Of `--name`, `--resume[=HOW]`, `--journal FILE` and `--no-journal`; and, for `piecework resume` and
`retry`, of what they found in the journal (`Again`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from piecework.bases import NamedTuple
from piecework.cli import text
from piecework.errors import JournalChanged, JournalError, UsageError
from piecework.journal import directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework import Run
    from piecework.journal.again import Failed
    from piecework.journal.reader import Session


_WORDS = {  # of the library, and of this command line
    'resume="anyway" (--resume=anyway)': "--resume=anyway",
    "resume=True (--resume)": "--resume",
    "journal=PATH": "--journal FILE",
    "journal=False": "--no-journal",
}
BEGIN = ("map", "exec")  # the commands that begin a run


class Again(NamedTuple):
    """A command out of a journal that is carried out again, for that journal."""

    path: Path
    resume: bool | str
    inputs: Failed | None = None  # of `retry`: instead of those that the command names

    @property
    def name(self) -> str:
        """What people call the run."""
        return called(self.path)

    def index_of(self, index: int) -> int:
        """The index in the run of a result of this session."""
        return index if self.inputs is None else self.inputs.index_of(index)


class Kept(NamedTuple):
    """What `piecework.map` is told about the journal."""

    journal: Path | bool
    resume: bool | str
    name: str | None
    asked: bool  # somebody wants a journal: without one the run does not begin

    def begin(self, start: Callable[..., Run[Any]]) -> Run[Any]:
        """Call `start` with the arguments journal, resume and name.

        Where no journal can be kept and nobody asked for one, the run goes on without.
        """
        try:
            return start(journal=self.journal, resume=self.resume, name=self.name)
        except JournalChanged as error:
            raise JournalChanged(_in_our_words(error)) from None
        except JournalError as error:
            if self.asked:
                raise type(error)(_in_our_words(error)) from None
            text.say(
                f"piecework: {_in_our_words(error)}\n"
                "piecework: this run keeps no journal and cannot be resumed; "
                "--no-journal does not even try."
            )
            return start(journal=False, resume=False, name=self.name)


class Stored(NamedTuple):
    """The command line that began a run, and where."""

    words: tuple[str, ...]  # from the name of the command on
    cwd: str

    @classmethod
    def of(cls, sessions: Sequence[Session]) -> Stored | None:
        """The newest one; None where the run was begun from Python."""
        for session in reversed(sessions):
            words = session.argv[1:]
            if words and words[0] in BEGIN and _is_ours(session.argv[0]):
                return cls(words, session.cwd)
        return None


def keep(
    *,
    words: Sequence[str],
    label: str,
    name: str | None = None,
    resume: bool | str = False,
    journal: str | None = None,
    no_journal: bool = False,
    again: Again | None = None,
) -> Kept:
    """The journal that these options ask for.

    `words` is the command line from the command's name on, as another process could be given it:
    it is stored, carried out by `piecework resume`, and looked for by `--resume` without a name.
    `label` is what a made-up name begins with.
    """
    if again is not None:
        return Kept(again.path, again.resume, again.name, asked=True)
    _check(name, resume, journal, no_journal)
    sys.argv[1:] = words  # what the journal keeps of this process
    if no_journal:
        return Kept(False, False, label, asked=False)
    if journal is not None or name is not None:
        path = Path(journal) if journal is not None else directory.path_of(str(name))
        if not resume and path.exists():
            raise UsageError(_taken(path, by_name=journal is None))
        return Kept(path, resume, called(path), asked=True)
    if resume and (found := _same_command(words)) is not None:
        return Kept(found, resume, called(found), asked=True)
    if resume:
        text.say("piecework: no run of this command to go on with here: a new one begins.")
    path = directory.path_of(directory.fresh_name(label))
    return Kept(path, False, called(path), asked=bool(resume))


def called(path: Path) -> str:
    """How a run is named on the command line: by name where that finds it, else by its file."""
    path = Path(os.path.abspath(path))
    return directory.name_of(path) if path.parent == directory.default_directory() else str(path)


def word(path: Path) -> str:
    """The same as a word of a command line for people to copy."""
    import shlex

    return shlex.quote(called(path))


def same_words(words: Iterable[str]) -> list[str]:
    """A command line without what may differ between two starts of one run."""
    return [word for word in words if word != "--resume" and not word.startswith("--resume=")]


def _is_ours(program: str) -> bool:
    place, name = os.path.split(program)
    return name in ("piecework", "pw", "pw.exe", "piecework.exe") or (
        name == "__main__.py" and os.path.basename(place) == "piecework"
    )


def _check(name: str | None, resume: bool | str, journal: str | None, no_journal: bool) -> None:
    if journal is not None and name is not None:
        raise UsageError("--journal FILE and --name NAME both. Give one of them.")
    if no_journal and (resume or journal is not None or name is not None):
        other = "--resume" if resume else "--journal" if journal is not None else "--name"
        raise UsageError(f"{other} and --no-journal both. Give one of them.")


def _in_our_words(error: Exception) -> str:
    """The way out as it is given here, not in a program."""
    said = str(error)
    for theirs, ours in _WORDS.items():
        said = said.replace(theirs, ours)
    return said


def _taken(path: Path, *, by_name: bool) -> str:
    other = "another --name" if by_name else "another --journal"
    return (
        f"there is a run {called(path)} already. Go on with it: --resume. "
        f"Begin anew: give {other}, or first piecework rm {word(path)}"
    )


def _same_command(words: Sequence[str]) -> Path | None:
    """The newest run in the default directory that was begun with these words, in this place."""
    from piecework.journal.reader import Reader

    wanted, here = same_words(words), os.getcwd()
    for path in directory.journals():
        try:
            with Reader(path) as reader:
                found = Stored.of(reader.sessions())
        except JournalError:
            continue
        if found is not None and found.cwd == here and same_words(found.words) == wanted:
            return path
    return None
