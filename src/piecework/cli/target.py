"""From `MODULE:FUNC` to the function, or to an error that says what to write instead."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from piecework.errors import UsageError


def resolve(target: str) -> Callable[..., Any]:
    """The function that `target` names: `package.module:function` or `path/to/file.py:function`.

    The working directory is searched first, as `python -m` does, and workers search it too.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(
            f'"{target}" names no function. Write MODULE:FUNC or FILE.py:FUNC, '
            "for example os.path:getsize"
        )
    module = _import(place, target)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(_no_attribute(target, place, found, part))
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f'"{target}" is of type {type(found).__name__} and cannot be called. '
            + (did_you_mean(name, _functions(module)) or "Name a function.")
        )
    return found  # type: ignore[no-any-return]  # callable() does not narrow Any


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`Did you mean 'x'?`, or nothing where no choice is close."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f"Did you mean '{close[0]}'?" if close else ""


def _import(place: str, target: str) -> ModuleType:
    folder = os.getcwd()
    if place.endswith(".py") or os.sep in place:
        path = Path(place)
        if not path.is_file():
            raise UsageError(f'no function "{target}": there is no file {place}.')
        folder, place = str(path.resolve().parent), path.stem
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise UsageError(_broken(place, error)) from error
        hint = did_you_mean(place, _modules(folder))
        raise UsageError(
            f'no module "{place}". '
            + (hint or f"Run this from the directory that holds it, or give its path: {place}.py:…")
        ) from None
    except (Exception, SystemExit) as error:
        raise UsageError(_broken(place, error)) from error


def _no_attribute(target: str, place: str, owner: Any, part: str) -> str:
    what = f"module '{place}'" if isinstance(owner, ModuleType) else f"'{owner.__qualname__}'"
    choices = _functions(owner)
    hint = did_you_mean(part, choices) or (
        f"It has: {', '.join(sorted(choices)[:8])}." if choices else "It has no functions."
    )
    return f"no function \"{target}\": {what} has no attribute '{part}'. {hint}"


def _functions(owner: Any) -> list[str]:
    return [n for n, v in vars(owner).items() if callable(v) and not n.startswith("_")]


def _modules(folder: str) -> set[str]:
    here = {p.stem for p in Path(folder).glob("*.py")}
    return here | {p.parent.name for p in Path(folder).glob("*/__init__.py")} | set(sys.modules)


def _broken(place: str, error: BaseException) -> str:
    """The module's own error and the line of it: the traceback of ours is no help."""
    said = "".join(traceback.format_exception_only(error)).strip()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    at = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
    alone = f'See it alone: python -c "import {place}"'
    return f'module "{place}" cannot be imported{at}:\n{said}\n{alone}'
