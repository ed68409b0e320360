"""Whether a function is still the one that a journal is of."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import piecework
from piecework.cli import values
from piecework.journal.version import changed, name_of, parts_of

BASE = '''
import math

LIMIT = 5

def helper(x):
    return x + LIMIT

def unrelated(x):
    return x

class Model:
    def __init__(self, size):
        self.size = size
    def __call__(self, x):
        return helper(x) * self.size
    def predict(self, x):
        return x

def work(x, y=1):
    """Says something."""
    # a comment
    return helper(x) + y

def make(n):
    def inner(x):
        return x + n
    return inner

both = lambda x: helper(x)

async def later(x):
    return helper(x)
'''

_numbers = itertools.count()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    def make(text: str) -> ModuleType:
        """The module `tasks`, as another process would import it from a changed file."""
        folder = tmp_path / str(next(_numbers))
        folder.mkdir()
        path = folder / "tasks.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("tasks", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "tasks", module)
        spec.loader.exec_module(module)
        return module

    return make


Load = Callable[[str], ModuleType]


def difference(load: Load, old: str, new: str, pick: Callable[[Any], Any]) -> list[str]:
    assert old in BASE
    before, now = pick(load(BASE)), pick(load(BASE.replace(old, new)))
    return changed(parts_of(before), parts_of(now))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another one"),
        ('"""Says something."""', '"""Says more."""'),
        ("return helper(x) + y", "return (helper( x )\n            + y)"),
        ("def unrelated(x):\n    return x", "def unrelated(x):\n    return 2 * x"),
        ("import math", "import math\nimport os"),
    ],
)
def test_what_changes_nothing_makes_no_difference(load: Load, old: str, new: str) -> None:
    assert difference(load, old, new, lambda m: m.work) == []


@pytest.mark.parametrize(
    ("pick", "old", "new", "named"),
    [
        (lambda m: m.work, "+ y", "- y", "tasks:work"),
        (lambda m: m.work, "y=1", "y=2", "tasks:work"),
        (lambda m: m.work, "x + LIMIT", "x - LIMIT", "tasks:helper"),
        (lambda m: m.work, "LIMIT = 5", "LIMIT = 6", "tasks:LIMIT"),
        (lambda m: m.later, "x + LIMIT", "x - LIMIT", "tasks:helper"),
        (lambda m: m.both, "lambda x: helper(x)", "lambda x: -helper(x)", "tasks:<lambda>"),
        (lambda m: m.make(1), "return x + n", "return x * n", "tasks:make.<locals>.inner"),
        (lambda m: m.Model(2), "* self.size", "+ self.size", "tasks:Model"),
        (lambda m: m.Model(2), "x + LIMIT", "x - LIMIT", "tasks:helper"),
        (lambda m: m.Model(2).predict, "        return x\n", "        return -x\n", "tasks:Model"),
        (lambda m: partial(m.work, y=3), "+ y", "- y", "tasks:work"),
    ],
)  # fmt: skip
def test_what_changes_is_named(
    load: Load, pick: Callable[[Any], Any], old: str, new: str, named: str
) -> None:
    assert named in difference(load, old, new, pick)


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        (lambda m: partial(m.work, y=1), lambda m: partial(m.work, y=2), "argument y"),
        (lambda m: m.make(1), lambda m: m.make(2), "variable n"),
        (lambda m: m.Model(1), lambda m: m.Model(2), "state of Model"),
    ],
)  # fmt: skip
def test_what_a_function_carries_belongs_to_it(
    load: Load, one: Callable[[Any], Any], other: Callable[[Any], Any], named: str
) -> None:
    module = load(BASE)
    assert changed(parts_of(one(module)), parts_of(other(module))) == [named]
    assert changed(parts_of(one(module)), parts_of(one(load(BASE)))) == []


def test_the_same_code_is_the_same_in_main_and_imported(load: Load) -> None:
    module = load(BASE)
    before = parts_of(module.work)
    module.work.__module__ = "__main__"
    assert parts_of(module.work) == before


def test_without_source_the_bytecode_stands_for_it() -> None:
    def made(text: str) -> Any:
        names: dict[str, Any] = {"__name__": "nowhere"}
        exec(compile(text, "<prompt>", "exec"), names)
        return names["f"]

    text = "def g(x):\n    return x + 1\ndef f(x):\n    return g(x)\n"
    assert parts_of(made(text)) == parts_of(made("\n\n" + text))
    assert changed(parts_of(made(text)), parts_of(made(text.replace("+ 1", "+ 2")))) == [
        "nowhere:g"
    ]


def test_what_comes_with_python_and_with_us_is_known_by_its_name(load: Load) -> None:
    assert list(parts_of(math.sqrt)) == ["math:sqrt"]
    assert list(parts_of(len)) == ["builtins:len"]
    wrapped = partial(values.call, load(BASE).work, False)
    assert name_of(wrapped) == "tasks:work"
    assert "tasks:helper" in parts_of(wrapped)
    assert name_of("".join) == "builtins:str.join"


def test_a_decorated_function_is_that_of_its_decorator_and_its_own(load: Load) -> None:
    text = (
        "import functools\n"
        "def twice(fn):\n"
        "    @functools.wraps(fn)\n"
        "    def run(x):\n"
        "        return 2 * fn(x)\n"
        "    return run\n"
        "@twice\n"
        "def work(x):\n"
        "    return x\n"
    )
    before = parts_of(load(text).work)
    assert changed(before, parts_of(load(text.replace("2 * fn", "3 * fn")).work))
    assert changed(before, parts_of(load(text.replace("return x\n", "return -x\n")).work))
    assert not changed(before, parts_of(load(text).work))


def test_a_function_that_cannot_be_looked_into_has_a_name_at_least() -> None:
    assert parts_of(partial(print, file=sys.stderr))


def test_a_command_is_its_words_and_not_how_much_of_its_output_is_kept() -> None:
    before = piecework.command("gzip -k {}")
    assert name_of(before) == "command gzip"
    parts = parts_of(before)
    assert changed(parts, parts_of(piecework.command("gzip -k {}", keep_bytes=5))) == []
    assert changed(parts, parts_of(piecework.command("gzip -9 {}"))) != []
    assert changed(parts, parts_of(piecework.command("gzip -k {}", cwd="/"))) != []
