"""From the command line to what `piecework.map` takes: a command, and its inputs.

words ──▶ command words ──▶ Command
     └──▶ sources ──▶ rows ── -n -X ──▶ inputs: a text each, or a tuple of texts
--pipe: standard input ──▶ blocks ──▶ inputs: bytes
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from piecework.cli.exec import gather
from piecework.cli.exec.blocks import BLOCK_BYTES, blocks
from piecework.cli.exec.command import command_of
from piecework.cli.exec.records import opened
from piecework.cli.exec.sources import Arguments, Format, Row, Source
from piecework.cli.exec.words import Given, split
from piecework.commands import Command
from piecework.errors import UsageError
from piecework.record import record
from piecework.templates import Field, Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AT_ONCE_MAX = 10_000  # arguments that are made into a list: drawn without a thread


@record(frozen=True, slots=True)
class Plan:
    """What is run over what. `names` are those of the columns, where a header gives them."""

    command: Command
    inputs: Any
    names: Row
    files: tuple[str, ...]


def plan(
    options: dict[str, Any],
    words: Sequence[str],
    *,
    slots: Callable[[], int],
    inputs: Iterable[Any] | None = None,
    run: str = "",
) -> Plan:
    """Everything that can be wrong is found here, before anything runs.

    `inputs` are taken instead of those that the words name; `run` names one that goes on.
    """
    own, given = split(words, options["arg_file"] or ())
    _check_together(options, own)
    if inputs is not None:
        return Plan(only_command(options, words), inputs, (), ())
    if options["pipe"]:
        return _piped(options, own, given, run)
    form = _format(options)
    sources = [Source(one, form, header=bool(options["header"]), run=run) for one in given]
    names: Row = sum((source.names for source in sources), ())
    if options["header"]:
        own = _numbered(own, names)
    wanted = options["max_args"] if options["replace_args"] is None else options["replace_args"]
    made = command_of(options, own, append=wanted != 0)
    if wanted is None and options["colsep"] is None and not _fills(options):
        made.template.check(len(sources))
    arguments = Arguments(sources, link=bool(options["link"]))
    inputs = _inputs(options, arguments, made.template, wanted, slots)
    files = tuple(one.file for one in given if one.file not in (None, "-"))
    return Plan(made, inputs, names, files)


def _fills(options: dict[str, Any]) -> bool:
    return bool(options["context"] or options["multiple"] or options["xargs"]) or bool(
        options["max_chars"]
    )


def _check_together(options: dict[str, Any], own: Sequence[str]) -> None:
    if not own and not options["shell"]:
        raise UsageError(
            "no command. Write piecework exec CMD ::: ARG..., or, to run each line of a file as a "
            "command line of its own: piecework exec --shell < FILE"
        )
    if options["max_args"] is not None and options["replace_args"] is not None:
        raise UsageError("-n and -N both say how many arguments a command gets. Give one of them.")
    if options["grouping"] == "none":
        for name in ("tag", "tagstring", "results", "json", "output", "keep_order"):
            if options[name]:
                raise UsageError(
                    f"-u and --{name.replace('_', '-')}: with -u commands write by themselves and "
                    "nothing is captured. Leave out -u, or use --line-buffer."
                )
    if not options["pipe"]:
        for name in ("block", "recend", "recstart"):
            if options[name] is not None:
                raise UsageError(f"--{name} says how standard input is cut. Add --pipe.")


def only_command(options: dict[str, Any], words: Sequence[str]) -> Command:
    """The command alone, for inputs that come from elsewhere."""
    own, _ = split(words, options["arg_file"] or ("-",))
    wanted = options["max_args"] if options["replace_args"] is None else options["replace_args"]
    return command_of(options, own, append=not options["pipe"] and wanted != 0)


# -- the inputs ---------------------------------------------------------------------------------


def _format(options: dict[str, Any]) -> Format:
    header = options["header"]
    colsep = options["colsep"]
    if colsep is None and header not in (None, ":"):
        colsep = options["colsep"] = header
    trim = options["trim"] or ("n" if colsep is None else "lr")
    return Format(
        _end(options),
        colsep,
        "" if trim == "n" else trim,
        bool(options["skip_blank"]),
    )


def _end(options: dict[str, Any]) -> bytes:
    if options["null"]:
        return b"\0"
    delimiter = options["delimiter"]
    if delimiter is None:
        return b"\n"
    if not delimiter:
        raise UsageError("-d '': an empty text ends nothing. Write -d , or -0 for NUL.")
    return os.fsencode(delimiter)


def _numbered(own: Sequence[str], names: Row) -> list[str]:
    """`{name.}` as `{2.}`: the column that the header gives that name."""
    made = list(own)
    for number, name in enumerate(names, 1):
        for kind in ("", ".", "/", "//", "/."):
            made = [word.replace(f"{{{name}{kind}}}", f"{{{number}{kind}}}") for word in made]
    for word in made:
        _check_names(word, names)
    return made


def _check_names(word: str, names: Row) -> None:
    """UsageError for `{nmae}`: with a header it was hardly meant as it stands."""
    for part in word.split("{")[1:]:
        name, closed, _ = part.partition("}")
        if closed and name.isidentifier():
            from piecework.cli.target import did_you_mean

            hint = did_you_mean(name, names) or f"The header has: {', '.join(names) or 'none'}."
            raise UsageError(f"no column {name!r} for {{{name}}}. {hint}")


class Inputs:
    """What the tasks get, drawn as it is needed; `len` where it is known."""

    def __init__(self, rows: Iterable[Row], count: Callable[[], int] | None = None) -> None:
        self._rows = rows
        self._count = count

    def __len__(self) -> int:
        if self._count is None:
            raise TypeError("nobody knows how many there will be")
        return self._count()

    def __iter__(self) -> Iterator[Any]:
        return (row[0] if len(row) == 1 else row for row in self._rows)


def _inputs(
    options: dict[str, Any],
    arguments: Arguments,
    template: Template,
    wanted: int | None,
    slots: Callable[[], int],
) -> Any:
    if _fills(options):
        limit = (options["max_chars"] or gather.CHARACTERS_MAX) - _fixed(template)
        share = slots() if options["context"] or options["multiple"] else 1
        cost = _cost(template)
        return Inputs(gather.by_size(arguments, cost, limit, wanted or None, share))
    if wanted is None or wanted < 2:
        simple = arguments.simple()
        if simple is not None:
            return [row[0] for row in simple]
        return _listed(Inputs(arguments, arguments.__len__))
    size = wanted
    rows = gather.by_count(arguments, size)
    return _listed(Inputs(rows, lambda: -(-len(arguments) // size)))


def _listed(inputs: Inputs) -> Any:
    """A list where there are few of them and none must be waited for."""
    try:
        few = len(inputs) <= AT_ONCE_MAX
    except TypeError:
        return inputs
    return list(inputs) if few else inputs


def _cost(template: Template) -> Callable[[Row], int]:
    """How many characters of the command line a row takes."""
    literal, places = 0, 0
    for word in template.words:
        held = sum(isinstance(part, Field) and not part.column for part in word)
        if held:
            places += held
            if template.context:
                literal += sum(len(os.fsencode(part)) for part in word if isinstance(part, str))
    places = max(1, places)

    def cost(row: Row) -> int:
        return sum(places * (len(os.fsencode(column)) + 1) + literal for column in row)

    return cost


def _fixed(template: Template) -> int:
    """What the words without an argument take."""
    return sum(
        1 + sum(len(os.fsencode(part)) for part in word if isinstance(part, str))
        for word in template.words
        if all(isinstance(part, str) for part in word)
    )


# -- blocks of standard input -------------------------------------------------------------------


def _piped(options: dict[str, Any], own: Sequence[str], given: Sequence[Given], run: str) -> Plan:
    name = given[0].file if len(given) == 1 else None
    if name is None:
        raise UsageError(
            "--pipe feeds one stream in blocks. Give it on standard input or with -a FILE, and no "
            "arguments after :::"
        )
    made = command_of(options, own, append=False)
    if any(
        isinstance(part, Field) and part.kind not in ("#", "%")
        for word in made.template.words
        for part in word
    ):
        raise UsageError(
            "with --pipe a command gets its input on standard input, and {} stands for nothing. "
            "Leave it out; {#} is the number of the block."
        )
    file = opened(name, run)
    end = options["recend"]
    if end is None:
        end = "\0" if options["null"] else "" if options["recstart"] else "\n"
    cut = blocks(
        file.read,
        options["block"] or BLOCK_BYTES,
        end=os.fsencode(end),
        start=os.fsencode(options["recstart"] or ""),
        count=options["replace_args"] or options["max_args"],
    )
    files = () if name == "-" else (name,)
    return Plan(made, cut, (), files)
