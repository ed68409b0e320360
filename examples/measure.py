"""Parse a Python source file and measure it: a CPU-bound function, one file a call.

piecework map examples/measure.py:measure $(find . -name '*.py') -o measures.jsonl
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measures:
    """What one file is made of."""

    lines: int
    code: int  # lines that are neither blank nor only a comment
    functions: int
    classes: int
    branches: int  # if, for, while, except, case, and, or: where a path divides
    depth: int  # of the deepest statement
    longest: int  # lines of the longest function
    documented: float  # share of functions and classes with a docstring


_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case, ast.IfExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def measure(path: str) -> Measures:
    """Measure the file; a file that Python cannot decode or parse raises what Python says of it."""
    data = Path(path).read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    text = data.decode(encoding)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in old files are not our subject
        tree = ast.parse(data, filename=path)
    nodes = list(ast.walk(tree))
    functions = [n for n in nodes if isinstance(n, _FUNCTIONS)]
    classes = [n for n in nodes if isinstance(n, ast.ClassDef)]
    named = [*functions, *classes]
    return Measures(
        lines=len(text.splitlines()),
        code=len(_code_lines(text)),
        functions=len(functions),
        classes=len(classes),
        branches=sum(isinstance(n, _BRANCHES) for n in nodes)
        + sum(len(n.values) - 1 for n in nodes if isinstance(n, ast.BoolOp)),
        depth=_depth(tree),
        longest=max((_length(f) for f in functions), default=0),
        documented=sum(ast.get_docstring(n) is not None for n in named) / (len(named) or 1),
    )


def _code_lines(text: str) -> set[int]:
    """Numbers of the lines that carry a token other than a comment or a line's end."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    silent |= {tokenize.ENCODING, tokenize.ENDMARKER}
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            found.update(range(token.start[0], token.end[0] + 1))
    return found


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _depth(tree: ast.AST) -> int:
    """How many statements deep the deepest one stands, without recursion: some tests are deep."""
    deepest, waiting = 0, [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        below = depth + isinstance(node, ast.stmt)
        waiting.extend((child, below) for child in ast.iter_child_nodes(node))
    return deepest
