"""The words after the options: the command, then where its arguments come from.

    convert {1} -resize {2} out/{1/.}-{2}.png  ::: *.jpg  ::: 100 400
    ─────────────── command ────────────────   ─ source ─ ─ source ─

`:::` is followed by values, `::::` by files of values, one source each. With a plus, `:::+` and
`::::+`, a source runs beside the one before it instead of being combined with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from piecework.errors import UsageError
from piecework.record import record

MARKS = {":::": (False, False), ":::+": (False, True), "::::": (True, False), "::::+": (True, True)}
"""Of each mark: whether files follow, and whether the source is linked to the one before."""


@record(frozen=True, slots=True)
class Given:
    """One source of arguments as it was written: values, or the file that holds them."""

    values: tuple[str, ...] = ()
    file: str | None = None  # "-" is standard input
    linked: bool = False


def split(words: Sequence[str], files: Sequence[str] = ()) -> tuple[list[str], list[Given]]:
    """The command's own words and its sources; `files` are those of -a, which come first.

    Without any source at all, arguments are read from standard input.
    """
    first = next((i for i, word in enumerate(words) if word in MARKS), len(words))
    sources = [Given(file=name) for name in files]
    at = first
    while at < len(words):
        mark = words[at]
        stop = next((i for i in range(at + 1, len(words)) if words[i] in MARKS), len(words))
        sources += _following(mark, words[at + 1 : stop], bool(sources))
        at = stop
    if not sources:
        sources = [Given(file="-")]
    if sum(source.file == "-" for source in sources) > 1:
        raise UsageError("standard input can be one source only. Write it to a file first.")
    return list(words[:first]), sources


def _following(mark: str, words: Sequence[str], any_before: bool) -> list[Given]:
    from_files, linked = MARKS[mark]
    if linked and not any_before:
        raise UsageError(f"{mark} links to the source before it: there is none. Use {mark[:-1]}")
    if not from_files:
        return [Given(values=tuple(words), linked=linked)]
    if not words:
        raise UsageError(f"no file after {mark}. Write {mark} FILE, or {mark} - for our own input.")
    return [Given(file=name, linked=linked) for name in words]
