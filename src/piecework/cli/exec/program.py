"""Is there such a program? Said before the first command, with what was probably meant."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from piecework.errors import UsageError
from piecework.screen import say

_BUILTINS = (
    " cd export source alias set unset eval exec ulimit umask shift trap read wait if for while"
    " case until function . : "
)
_OPERATORS = frozenset(("|", "||", "&&", "&", ">", ">>", "<", "2>", "2>>", "&>", "2>&1", ">&2"))
_SYNTAX = frozenset("|&;<>()$`*?[")  # and # and ~ where a word begins


def words_of(script: str) -> list[str]:
    """A command given as one text, split into words as a shell would; none reads it."""
    found = _shell_syntax(script)
    if found:
        raise UsageError(
            f"{script!r} has {found} in it, which only a shell understands. Run it in one: "
            f"piecework exec --shell {_shown(script)}, or sh -c. To have it as plain text, give "
            "the words one by one."
        )
    import shlex

    try:
        return shlex.split(script)
    except ValueError as error:
        raise UsageError(
            f"{script!r} cannot be split into words: {error}. Close the quotation, or give the "
            "words one by one."
        ) from None


def warn_of_operators(words: Sequence[str]) -> None:
    """Words such as `|` go to the command as they are: rarely what was meant."""
    for word in words[1:]:
        if word in _OPERATORS:
            say(
                f"piecework exec: {word!r} is passed to {words[0]} as an argument, as no shell "
                "runs. For a shell add --shell."
            )
            return


def check_program(name: str | None, folder: str | None, path: str | None) -> None:
    """UsageError where the program cannot be run; None is one that each input names."""
    if name is None:
        return
    if "/" in name:
        _check_file(os.path.join(folder or "", name), name)
        return
    places = (os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep)
    for place in places:
        full = os.path.join(place, name)
        if os.access(full, os.X_OK) and not os.path.isdir(full):
            return
    raise UsageError(f"no command {name!r}. {_instead(name, places)}")


def _check_file(full: str, name: str) -> None:
    if os.path.isdir(full):
        raise UsageError(f"{name} is a folder, not a command.")
    if not os.path.exists(full):
        raise UsageError(f"no command {name!r}: there is no such file. Check the path.")
    if not os.access(full, os.X_OK):
        raise UsageError(
            f"{name} cannot be executed. Allow it: chmod +x {name}, or name its interpreter."
        )


def _instead(name: str, places: Sequence[str]) -> str:
    if os.path.isfile(name):
        return f"There is a file of that name here: ./{name}"
    if f" {name} " in _BUILTINS:
        return "It is a part of the shell: add --shell."
    from piecework.cli.target import did_you_mean

    if "=" in name:
        return f"To set a variable: --env {name}, or --shell."
    hint = did_you_mean(name, set(_programs(places)))
    return hint or "Functions and aliases of a shell are known to that shell only: see --shell."


def _programs(places: Sequence[str]) -> Iterator[str]:
    for place in places:
        try:
            yield from os.listdir(place)
        except OSError:
            continue


def _shell_syntax(script: str) -> str:
    """The first sign outside quotes that a shell would act on."""
    quote = ""
    escaped = False
    for at, sign in enumerate(script):
        if escaped:
            escaped = False
        elif sign == "\\" and quote != "'":
            escaped = True
        elif quote:
            if sign == quote:
                quote = ""
            elif quote == '"' and sign in "$`":
                return sign
        elif sign in "'\"":
            quote = sign
        elif sign in _SYNTAX or (sign in "#~" and not script[:at].rpartition(" ")[2]):
            return sign
    return ""


def _shown(script: str) -> str:
    from piecework.templates import quoted

    return quoted(script)
