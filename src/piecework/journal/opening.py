"""What `map(journal=, name=, resume=, key=)` asks for: which file, whether it goes on, or why not.

Nothing has run yet when one of these is refused, and nothing on the disk is changed by it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from piecework.bases import NamedTuple
from piecework.errors import JournalChanged, UsageError
from piecework.journal import directory, version
from piecework.journal.reader import Reader
from piecework.journal.recall import Recall
from piecework.journal.store import About, Begun, begin, check_same, make, prune

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS = ("failed", "anyway")
Key = Callable[["Any"], object]


class Opened(NamedTuple):
    """A journal of which a session has begun."""

    path: Path
    begun: Begun
    lock: directory.Lock
    recall: Recall | None  # where it goes on from an earlier session
    key: Key | None

    def abandon(self) -> None:
        """The run does not begin after all."""
        self.begun.db.close()
        if self.recall is not None:
            self.recall.close()
        self.lock.free()


def open_journal(
    fn: Any, inputs: int | None, journal: Any, name: str | None, resume: bool | str, key: Key | None
) -> Opened | None:
    """The journal that is asked for; None where none is. `inputs` is their number, if known."""
    words = resume_words(resume)
    path = _path(fn, journal, name)
    if path is None:
        _check_unused(resume, key)
        return None
    if resume and journal is True and name is None:
        raise UsageError("resume: which run? Give its name=, or journal=PATH of its file.")
    if key is not None and not callable(key):
        raise UsageError(f"key is {key!r}. Give a function that names an input.")
    directory.make_directory(path.parent)
    lock = directory.Lock(path)
    try:
        return _opened(path, fn, inputs, words, key, lock)
    except BaseException:
        lock.free()
        raise


def _opened(
    path: Path,
    fn: Any,
    inputs: int | None,
    words: frozenset[str] | None,
    key: Key | None,
    lock: directory.Lock,
) -> Opened:
    about = About(version.name_of(fn), version.parts_of(fn), key is not None, inputs)
    is_there = path.exists()
    if is_there and words is None:
        raise JournalChanged(_taken(path))
    if is_there:
        check_same(path, about, anyway="anyway" in (words or ()))
    else:
        if path.parent == directory.default_directory():
            prune(path.parent)
        make(path, about)
    anyway = words is not None and "anyway" in words
    begun = begin(path, about, lock.claim(), renew=anyway)
    recall = None
    if is_there and words is not None:
        recall = Recall(
            Reader(path),
            key=key,
            failed_again="failed" in words,
            strangers="anyway" in words,
        )
    return Opened(path, begun, lock, recall, key)


def resume_words(resume: object) -> frozenset[str] | None:
    """None: do not go on. Else what is asked beside it: "failed", "anyway"."""
    if resume is False or resume is None:
        return None
    if resume is True:
        return frozenset()
    words = resume.split(",") if isinstance(resume, str) else [""]
    if not set(words) <= set(_WORDS):
        raise UsageError(
            f'resume is {resume!r}. Give True, "failed" to try the failed ones again as well, '
            '"anyway" to go on although the function has changed, or "failed,anyway".'
        )
    return frozenset(words)


def _path(fn: Any, journal: Any, name: str | None) -> Path | None:
    if journal is None:
        journal = name is not None
    if journal is False:
        return None
    if journal is not True:
        try:
            path = os.fspath(journal)
        except TypeError:
            path = b""
        if not isinstance(path, str) or not path or path.endswith("/"):
            raise UsageError(f"journal is {journal!r}. Give True, or the path of its file.")
        return Path(os.path.abspath(path))  # the run may go elsewhere
    if name is None:
        name = directory.fresh_name(version.name_of(fn).rpartition(":")[2])
    directory.check_name(name)
    return directory.default_directory() / f"{name}{directory.SUFFIX}"


def _check_unused(resume: object, key: object) -> None:
    for word, value in (("resume", resume), ("key", key)):
        if value:
            raise UsageError(f"{word}= needs a journal. Give name=, or journal=PATH, as well.")


def _taken(path: Path) -> str:
    name = directory.name_of(path)
    by_name = path.parent == directory.default_directory()
    other = "another name" if by_name else "another path"
    away = f"piecework rm {name}" if by_name else f"rm {path}"
    return (
        f"there is a journal {path} already. Go on where it was with resume=True (--resume), "
        f"give {other}, or remove it: {away}"
    )
