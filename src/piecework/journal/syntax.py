"""Syntax trees of files with functions in them, as far as they tell whether a function changed.

Loaded by `version` for functions that have a source.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

_LEFT_OUT = frozenset({"ctx", "kind", "type_comment"})
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BLOCKS = (ast.If, ast.Try, ast.With, ast.For, ast.While)


class Module:
    """The syntax tree of a file, and what its names are bound to on the outermost level."""

    def __init__(self, filename: str, tree: ast.Module) -> None:
        self.name = filename.rpartition("/")[2].removesuffix(".py")
        self.names: dict[str, list[ast.AST]] = {}
        self._tree = tree
        for node in _statements(tree.body):
            for name in _bound(node):
                self.names.setdefault(name, []).append(node)

    def form(self, node: ast.AST) -> Any:
        """A piece of it as plain tuples, without what makes no difference."""
        return _form(node)

    def named(self, node: ast.AST) -> list[str]:
        """Which names of its outermost level this piece of the file uses."""
        used = [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
        return [name for name in used if name in self.names]

    def functions(self, code: CodeType) -> list[ast.AST]:
        """The definition that this code was compiled from; all lambdas of its line."""
        found: list[ast.AST] = []
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Lambda) and code.co_name == "<lambda>":
                if node.lineno == code.co_firstlineno:
                    found.append(node)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if node.name == code.co_name and first == code.co_firstlineno:
                    found.append(node)
        return found

    def definition(self, qualname: str) -> ast.AST | None:
        """A class by its qualified name."""
        body: list[ast.stmt] = self._tree.body
        node: Any = None
        for name in qualname.split("."):
            if name == "<locals>":
                continue
            found = [n for n in _statements(body) if isinstance(n, _DEFINITIONS) and n.name == name]
            if not found:
                return None
            node = found[-1]
            body = node.body
        return node  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _parsed(filename: str, text: str) -> Module | None:
    try:
        return Module(filename, ast.parse(text))
    except (SyntaxError, ValueError, RecursionError):
        return None


def module(filename: str) -> Module | None:
    lines = linecache.getlines(filename)
    return _parsed(filename, "".join(lines)) if lines else None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of the outermost level, also inside `if` and `try`."""
    for node in body:
        if isinstance(node, _BLOCKS):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            for handler in getattr(node, "handlers", []):
                inner += handler.body
            yield from _statements(inner)
        else:
            yield node


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, _DEFINITIONS):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            for inner in ast.walk(target):
                if isinstance(inner, ast.Name):
                    yield inner.id


def _form(node: Any) -> Any:
    """A tree as plain tuples, without places, docstrings and what Python versions differ in."""
    if isinstance(node, list):
        return [_form(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name in _LEFT_OUT or value is None or value == []:
            continue
        if name == "body" and isinstance(value, list) and _has_docstring(node):
            value = value[1:]
        fields.append((name, _form(value)))
    return type(node).__name__, fields


def _has_docstring(node: ast.AST) -> bool:
    if not isinstance(node, _DEFINITIONS) or not node.body:
        return False
    first = node.body[0]
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
