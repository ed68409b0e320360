"""The words of a command with places for the input: GNU parallel's placeholders, without a shell.

    "convert {} {/.}.png" ── split once ──▶ Template ── render(input) ──▶ ["convert", "a b.jpg", …]

    {}  the input            {/}   its file name        {#}  number of the task, from 1
    {.} without extension    {//}  its folder           {%}  number of the slot, from 1
    {1} {2.} {-1/} ...       {/.}  file name without extension      the same of one of several

The template is split into words before anything is filled in, and never again: a space, a quote
or a `$(...)` in an input stays what it is. Where a shell is asked for, inputs reach it as values of
variables and are never read as shell code, in whichever quotes a placeholder stands.
Braces that are none of these, as in `awk '{print $1}'`, are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from piecework import quoting
from piecework.errors import UsageError
from piecework.quoting import quoted as quoted
from piecework.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KINDS = ("", ".", "/", "//", "/.", "#", "%")
_INSIDE = frozenset("-0123456789./#%")  # nobody writes {these} who means anything else
_WAY_OUT = (
    "The placeholders are {} {.} {/} {//} {/.} {#} {%}, and {1} {2.} {-1/} ... where an input has "
    "several parts"
)
_VARIABLE = "piecework_{}"


@record(frozen=True, slots=True)
class Field:
    """One placeholder: which part of the input (0: all of them) and what of it.

    `quote` is the shell quote that it stands in, where there is a shell.
    """

    kind: str
    column: int = 0
    quote: str = ""

    def of(self, columns: Sequence[str], sequence: int, slot: int) -> list[str]:
        """What stands in its place: one value, or one for each part of the input."""
        if self.kind == "#":
            return [str(sequence)]
        if self.kind == "%":
            return [str(slot)]
        return [_cut(value, self.kind) for value in self._of(columns)]

    def shown(self, columns: Sequence[str], sequence: int, slot: int) -> str:
        """The same as a shell would have to read it, in the quotes that it stands in."""
        values = self.of(columns, sequence, slot)
        return values[0] if self.kind in ("#", "%") else quoting.shown(values, self.quote)

    def _of(self, columns: Sequence[str]) -> Sequence[str]:
        if not self.column:
            return columns
        index = self.column - 1 if self.column > 0 else self.column
        try:
            return (columns[index],)
        except IndexError:
            raise UsageError(_absent(self, len(columns))) from None

    def __str__(self) -> str:
        return f"{{{self.column or ''}{self.kind}}}"


Word = tuple["str | Field", ...]


@record(frozen=True, slots=True)
class Template:
    """A command with places for its input. Pure: rendering does no I/O and keeps nothing.

    `words` are what the command line was split into; with a `shell` there is one, its script.
    With `context`, a word with `{}` in it is there once for each part of the input (`-X`).
    """

    words: tuple[Word, ...]
    shell: str = ""
    context: bool = False

    @property
    def has_placeholder(self) -> bool:
        """Whether any placeholder is in it, `{#}` and `{%}` too."""
        return any(isinstance(part, Field) for word in self.words for part in word)

    @property
    def program(self) -> str | None:
        """The program's name where it is the same for every input, else None."""
        if self.shell:
            return self.shell
        first = self.words[0]
        if all(isinstance(part, str) for part in first):
            return "".join(part for part in first if isinstance(part, str))
        return None

    def appended(self) -> Template:
        """The same with `{}` at its end."""
        if self.shell:
            return Template(((*self.words[0], " ", Field("")),), self.shell, self.context)
        return Template((*self.words, (Field(""),)), self.shell, self.context)

    def check(self, columns: int) -> None:
        """UsageError where a placeholder names a part that inputs of so many parts have not."""
        for word in self.words:
            for part in word:
                if isinstance(part, Field) and abs(part.column) > columns:
                    raise UsageError(_absent(part, columns))

    def render(self, columns: Sequence[str], sequence: int = 1, slot: int = 1) -> list[str]:
        """The words to run for an input of these parts."""
        if self.shell:
            return self._script(columns, sequence, slot)
        argv: list[str] = []
        for word in self.words:
            if len(word) == 1 and isinstance(word[0], str):
                argv.append(word[0])
            elif self.context and len(columns) > 1 and any(_is_all(part) for part in word):
                for column in columns:
                    argv += _fill(word, (column,), sequence, slot)
            else:
                argv += _fill(word, columns, sequence, slot)
        return argv

    def text(self, columns: Sequence[str], sequence: int = 1, slot: int = 1) -> str:
        """One line that a shell would run as `render` does: to be shown, not to be run."""
        if not self.shell:
            return " ".join(map(quoted, self.render(columns, sequence, slot)))
        parts = [
            part if isinstance(part, str) else part.shown(columns, sequence, slot)
            for part in self.words[0]
        ]
        return "".join(parts)

    def _script(self, columns: Sequence[str], sequence: int, slot: int) -> list[str]:
        """A shell, its script, and the values as arguments: they are never parsed."""
        script: list[str] = []
        values: list[str] = []
        for part in self.words[0]:
            if isinstance(part, str):
                script.append(part)
                continue
            found = part.of(columns, sequence, slot)
            if part.kind in ("#", "%"):
                script += found
                continue
            names = [f"${{{_VARIABLE.format(len(values) + n)}}}" for n in range(1, len(found) + 1)]
            script.append(quoting.in_quotes(names, part.quote))
            values += found
        heads = [f"{_VARIABLE.format(n)}=${{{n}}}" for n in range(1, len(values) + 1)]
        head = " ".join(heads) + f"; shift {len(values)}\n" if values else ""
        return [self.shell, "-c", head + "".join(script), "sh", *values]


def parse(
    template: str | Sequence[str],
    *,
    shell: bool | str = False,
    marks: Mapping[str, str] | None = None,
    context: bool = False,
) -> Template:
    """Compile a template; UsageError where it is empty, unbalanced or has an unknown placeholder.

    A text is split into words as a shell would, quotes and all, but nothing is expanded; a list is
    taken word by word. `marks` gives placeholders another spelling: `{"{}": "FILE"}`.
    """
    fields = _Fields(marks or {})
    if shell:
        if not isinstance(template, str):
            raise UsageError(
                f"a list of words and shell={shell!r}: a shell takes one text. Give the command as "
                "a text, or leave out shell and the words are run as they are."
            )
        _check_words([template] if template.strip() else [])
        parts = tuple(_with_quotes(fields.parts(template)))
        return Template((parts,), shell if isinstance(shell, str) else "/bin/sh", context)
    if isinstance(template, str):
        words = _split(template)
        _check_plain(words)
    else:
        words = [_word(word) for word in template]
    _check_words(words)
    return Template(tuple(fields.parts(word) for word in words), "", context)


class _Fields:
    """Finds placeholders in words, by their usual or by another spelling."""

    def __init__(self, marks: Mapping[str, str]) -> None:
        usual = {f"{{{kind}}}": kind for kind in KINDS}
        for name, mark in marks.items():
            if name not in usual or not mark:
                raise UsageError(f"no placeholder {name!r} to be written {mark!r}. {_WAY_OUT}.")
        self._renamed = {mark: usual[name] for name, mark in marks.items()}
        self._gone = {name for name, mark in marks.items() if mark != name}
        self._longest_first = sorted(self._renamed, key=len, reverse=True)

    def parts(self, word: str) -> Word:
        parts: list[str | Field] = []
        end = at = 0
        while at < len(word):
            text = self._mark_at(word, at)
            field = self._field(text) if text else None
            if field is None:
                at += 1
                continue
            if end < at:
                parts.append(word[end:at])
            parts.append(field)
            end = at = at + len(text)
        if end < len(word) or not parts:
            parts.append(word[end:])
        return tuple(parts)

    def _mark_at(self, word: str, at: int) -> str:
        """What is written there, should it be a placeholder; else nothing."""
        for mark in self._longest_first:
            if word.startswith(mark, at):
                return mark
        end = word.find("}", at) if word[at] == "{" else -1
        return word[at : end + 1] if end > 0 and _INSIDE.issuperset(word[at + 1 : end]) else ""

    def _field(self, text: str) -> Field | None:
        if text in self._renamed:
            return Field(self._renamed[text])
        if text in self._gone:
            return None  # it is written otherwise here, so this is plain text
        kind = text[1:-1].lstrip("-0123456789")
        number = text[1 : len(text) - 1 - len(kind)]
        whole = number.removeprefix("-").isdigit() and number.removeprefix("-")[0] != "0"
        if kind not in KINDS or (number and (not whole or kind in ("#", "%"))):
            raise UsageError(f"no placeholder {text}. {_WAY_OUT}.")
        return Field(kind, int(number or 0))


def columns_of(payload: Any) -> tuple[str, ...]:
    """The parts of an input as text: one, or those of a tuple or list."""
    if isinstance(payload, str):
        return (payload,)
    if isinstance(payload, (tuple, list)):
        return tuple(map(_text, payload))
    return (_text(payload),)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, os.PathLike)):
        return os.fsdecode(value)
    if isinstance(value, float) or hasattr(type(value), "__index__"):
        return str(value)
    raise UsageError(
        f"an input is {type(value).__name__} {repr(value)[:60]}, which no command can get. "
        "Give text, bytes, a path or a number, or a tuple of them."
    )


def _cut(path: str, kind: str) -> str:
    """As GNU parallel cuts: an extension is what follows the last dot of the file name."""
    if kind == "":
        return path
    if kind == "//":
        folder = os.path.dirname(path.rstrip("/"))
        return folder.rstrip("/") or ("/" if path.startswith("/") else ".")
    if kind in ("/", "/."):
        path = path[path.rfind("/") + 1 :]
    if kind in (".", "/."):
        dot = path.rfind(".")
        if dot >= 0 and "/" not in path[dot:]:
            return path[:dot]
    return path


def _is_all(part: str | Field) -> bool:
    return isinstance(part, Field) and not part.column and part.kind not in ("#", "%")


def _fill(word: Word, columns: Sequence[str], sequence: int, slot: int) -> list[str]:
    """The word with its values; an input of several parts makes it several words."""
    words: list[str] = []
    current = ""
    for part in word:
        if isinstance(part, str):
            current += part
            continue
        values = part.of(columns, sequence, slot)
        if not values and len(word) == 1:
            return []
        for number, value in enumerate(values):
            if number:
                words.append(current)
                current = ""
            current += value
    words.append(current)
    return words


def _with_quotes(parts: Word) -> Word:
    """Each placeholder of a script with the quotes that it stands in."""
    quote = ""
    made: list[str | Field] = []
    for part in parts:
        if isinstance(part, Field):
            made.append(Field(part.kind, part.column, quote))
            continue
        quote = quoting.quote_after(part, quote)
        made.append(part)
    return tuple(made)


def _split(template: str) -> list[str]:
    import shlex

    try:
        return shlex.split(template)
    except ValueError as error:
        raise UsageError(
            f"the command {template!r} cannot be split into words: {error}. Close the quotation, "
            "or give a list of words."
        ) from None


def _word(word: object) -> str:
    if isinstance(word, (str, bytes, os.PathLike)):
        return os.fsdecode(word)
    raise UsageError(
        f"{word!r} is no word of a command. Give each word as text: str({word!r}) where it is a "
        "number."
    )


def _check_words(words: Sequence[str]) -> None:
    if not words or not words[0]:
        raise UsageError(
            'the command is empty. Give a program and its words: piecework.command("gzip -k {}").'
        )
    for word in words:
        if "\0" in word:
            raise UsageError(f"the word {word!r} has a NUL byte in it, which no program can get.")


def _check_plain(words: Sequence[str]) -> None:
    """What only a shell understands would go to the program as an argument: surely not meant."""
    for word in words:
        if word in _SHELL_WORDS:
            raise UsageError(
                f"{word} in a command is for a shell, and none runs. Use shell=True, or give a "
                f"list of words where the program shall get {word!r}."
            )


_SHELL_WORDS = frozenset(["|", "||", "&&", "&", "|&", ">", ">>", "<", "<<", "&>", "2>", "2>&1"])


def _absent(field: Field, columns: int) -> str:
    parts = "1 part" if columns == 1 else f"{columns} parts"
    return (
        f"{field} names part {field.column} of an input, and the input has {parts}. Give tuples of "
        "that many, or use {} for all of it."
    )
