"""Which function a journal is of, and whether its code has changed since.

    function ──▶ its syntax tree, and those of what it names in its module, and so on
             ──▶ what it carries: partial arguments, the state of an object that is called, and
                 defaults and variables of an outer function as far as nobody can change them

Comments, formatting and docstrings make no difference. What is imported from other modules is
known by its name only: a library that was updated is not the function of the user that changed.
Where there is no source (`python -c`, a prompt), the bytecode stands for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType

from piecework.errors import UsageError
from piecework.journal.identity import all_atomic, code_form, digest, hashed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from typing import Any

    from piecework.journal.syntax import Module

_OURS = "piecework"


def name_of(fn: Any) -> str:
    """`module:name`, as the command line takes it; of a child command its program."""
    fn = _innermost(fn)
    if _command(fn):
        return f"command {fn.__name__}"
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    module = getattr(named, "__module__", None) or "builtins"
    return f"{module}:{named.__qualname__}"


def parts_of(fn: Any) -> dict[str, str]:
    """What the function consists of, each part with the digest of it."""
    if _command(fn):
        return {"its words, or what they run in": _hash(fn.identity).hex()}
    parts: dict[str, bytes] = {}
    _collect(fn, parts)
    return {name: digest.hex() for name, digest in parts.items()}


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The parts that are not as they were, by name."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _command(fn: Any) -> bool:
    """Whether it is one of `piecework.command`: that says itself what decides its results."""
    return type(fn).__module__ == "piecework.commands" and hasattr(fn, "identity")


def _innermost(fn: Any) -> Any:
    """The user's function, where it is wrapped by ours or by `partial`."""
    while isinstance(fn, partial):
        inner = [arg for arg in fn.args if callable(arg)] if _is_ours(fn.func) else []
        fn = inner[0] if inner else fn.func
    return fn


def _is_ours(fn: Any) -> bool:
    return _package(fn) == _OURS


def _by_name(fn: Any) -> bool:
    """Whether its name says enough: our own, and what comes with Python."""
    return _is_ours(fn) or (_package(fn) in sys.stdlib_module_names and _package(fn) != "__main__")


def _package(fn: Any) -> str:
    return (getattr(fn, "__module__", None) or "").partition(".")[0]


def _collect(fn: Any, parts: dict[str, bytes]) -> None:
    if isinstance(fn, partial):
        _collect(fn.func, parts)
        _add_values("argument", [*enumerate(fn.args), *sorted(fn.keywords.items())], parts)
    elif isinstance(fn, MethodType):
        _collect(fn.__func__, parts)
        if not isinstance(fn.__self__, type):
            _collect_class(type(fn.__self__), parts)
    elif isinstance(fn, FunctionType):
        _collect_function(fn, parts)
    elif isinstance(fn, type):
        _collect_class(fn, parts)
    elif type(fn).__module__ == "builtins":
        parts[name_of(fn)] = _hash(name_of(fn))
    else:
        _collect_class(type(fn), parts)
        _add_values("state of", [(type(fn).__qualname__, fn)], parts)


def _add_values(what: str, values: Iterable[tuple[Any, Any]], parts: dict[str, bytes]) -> None:
    for name, value in values:
        if isinstance(value, FunctionType | MethodType | partial):
            _collect(value, parts)
        else:
            parts[f"{what} {name}"] = _value(value)


def _fixed(named: tuple[Any, Any]) -> tuple[Any, Any]:
    """Of a value that can be changed only the type: a cache that fills changes no function."""
    name, value = named
    if isinstance(value, FunctionType | MethodType | partial) or all_atomic([value]):
        return name, value
    return name, type(value).__qualname__


def _value(value: Any) -> bytes:
    """Of what can be known again the digest, of anything else only the type."""
    try:
        return digest(value)
    except (UsageError, RecursionError):
        return _hash(f"{type(value).__module__}.{type(value).__qualname__}")


def _collect_function(fn: FunctionType, parts: dict[str, bytes]) -> None:
    code = fn.__code__
    module = None if _by_name(fn) else _module(code.co_filename)
    # By file: the same code is in __main__ today and imported tomorrow. And by the name of the
    # code: what a decorator made goes by the name of what it was made from.
    name = f"{fn.__module__ if module is None else module.name}:{code.co_qualname}"
    if name in parts:
        return
    if _by_name(fn):
        parts[name] = _hash(name)
        return
    nodes = module.functions(code) if module is not None else []
    if module is None or not nodes:
        parts[name] = _hash(repr(code_form(code)))
        parts.update(_functions_named(fn, code, parts))
    else:
        parts[name] = _hash(repr([module.form(node) for node in nodes]))
        _collect_names(module, nodes, parts)
    given = [*enumerate(fn.__defaults__ or ()), *sorted((fn.__kwdefaults__ or {}).items())]
    _add_values(f"default of {fn.__qualname__}:", map(_fixed, given), parts)
    _add_values("variable", map(_fixed, _closure(fn)), parts)
    wrapped = getattr(fn, "__wrapped__", None)
    if isinstance(wrapped, FunctionType):
        _collect_function(wrapped, parts)


def _closure(fn: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            value = cell.cell_contents
        except ValueError:  # not set yet: a function that calls itself, defined later
            continue
        if value is not fn:
            yield name, value


def _collect_class(kind: type, parts: dict[str, bytes]) -> None:
    name = f"{kind.__module__}:{kind.__qualname__}"
    if name in parts:
        return
    parts[name] = _hash(name)
    methods = [value for value in vars(kind).values() if isinstance(value, FunctionType)]
    if _by_name(kind) or not methods:
        return
    module = _module(methods[0].__code__.co_filename)
    node = None if module is None else module.definition(kind.__qualname__)
    if module is not None and node is not None:
        parts[name] = _hash(repr(module.form(node)))
        _collect_names(module, [node], parts)
    else:
        parts[name] = _hash(repr([code_form(method.__code__) for method in methods]))


def _collect_names(module: Module, nodes: list[ast.AST], parts: dict[str, bytes]) -> None:
    """What of its own module a piece of code names, and what that names."""
    waiting = list(nodes)
    while waiting:
        for name in module.named(waiting.pop()):
            key = f"{module.name}:{name}"
            if key not in parts:
                found = module.names[name]
                parts[key] = _hash(repr([module.form(one) for one in found]))
                waiting += found


def _module(filename: str) -> Module | None:
    from piecework.journal import syntax  # ast takes longer to load than a command to run

    return syntax.module(filename)


def _functions_named(fn: FunctionType, code: CodeType, parts: dict[str, bytes]) -> dict[str, bytes]:
    """The same without source: the functions of its module that the bytecode names."""
    for name in _names(code):
        other = fn.__globals__.get(name)
        if isinstance(other, FunctionType) and other.__module__ == fn.__module__:
            _collect_function(other, parts)
    return parts


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)


def _hash(text: str) -> bytes:
    return hashed(text.encode("utf-8", "surrogatepass"))
