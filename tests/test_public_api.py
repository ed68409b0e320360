"""What `import piecework` promises: its names, their docstrings, its cost, and its wheel."""

from __future__ import annotations

import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import piecework
from piecework.executors.base import BatchExecutor

ROOT = Path(__file__).parents[1]
HEAVY = ["rich", "click", "nats", "pyarrow", "asyncio", "multiprocessing", "cloudpickle", "msgspec"]


def test_the_public_names_are_sorted() -> None:
    assert list(piecework.__all__) == sorted(piecework.__all__)


def test_what_is_listed_is_there_and_dir_shows_it() -> None:
    assert set(piecework.__all__) <= set(dir(piecework))


@pytest.mark.parametrize("name", piecework.__all__)
def test_a_public_name_has_a_docstring_of_its_own(name: str) -> None:
    value = getattr(piecework, name)
    if inspect.isclass(value) or callable(value):
        text = inspect.getdoc(value)
        inherited = [inspect.getdoc(base) for base in getattr(value, "__mro__", ())[1:]]
        assert text, f"piecework.{name} has no docstring"
        assert text not in inherited, f"piecework.{name} shows the docstring of its base"


@pytest.mark.parametrize("name", piecework.__all__)
def test_public_methods_have_docstrings(name: str) -> None:
    value = getattr(piecework, name)
    if not inspect.isclass(value) or not value.__module__.startswith("piecework"):
        return
    for attribute, member in vars(value).items():
        if not attribute.startswith("_") and (inspect.isfunction(member) or is_property(member)):
            said = getattr(BatchExecutor, attribute, None)  # the contract says it for all of them
            assert inspect.getdoc(getattr(value, attribute)) or inspect.getdoc(said), (
                f"{name}.{attribute} has no docstring"
            )


def is_property(member: object) -> bool:
    return isinstance(member, property | classmethod | staticmethod)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="mapp"):
        piecework.mapp  # noqa: B018  # the attribute access is the test


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("statement", ["import piecework", "from piecework import map, Result"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    loaded = run(f"{statement}; import sys; print(*[m for m in {HEAVY} if m in sys.modules])")
    assert loaded == ""


def test_a_plain_version_command_imports_no_executor() -> None:
    code = (
        "import sys; from piecework.cli.app import run; run(['version'])\n"
        "print(*[m for m in sys.modules if m.startswith(('piecework.exec', 'rich', 'asyncio'))])"
    )
    assert run(code).splitlines()[1:] in ([], [""])


def test_the_wheel_holds_every_source_file(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend: make test installs it")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = (p for p in (ROOT / "src").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    missing = {p.relative_to(ROOT / "src").as_posix() for p in sources} - packed
    assert not missing, f"not in the wheel: {missing}"
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    assert "piecework/py.typed" in packed
