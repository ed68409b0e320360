"""The README and the docs are true: their code runs and prints what they show.

    ```python           a script of its own; the ```text block after it is what it prints
    ```python           whose first line is `# name.py`: a file for the commands below it
    ```console          `$ command` lines and what they print, standard error included

Three dots stand for anything. Every page has a directory of its own.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Step(NamedTuple):
    """One thing to run and what it should print; `shown` is None where nothing is claimed."""

    line: int
    command: list[str]
    shown: str | None
    file: tuple[str, str] | None = None


def steps(page: Path) -> Iterator[Step]:
    text = page.read_text("utf-8")
    blocks = [(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in BLOCK.finditer(text)]
    for position, (language, code, line) in enumerate(blocks):
        if language == "python":
            if name := re.match(r"# (\w+\.py)\n", code):
                yield Step(line, [], None, (name[1], code))
                continue
            after = blocks[position + 1] if position + 1 < len(blocks) else ("", "", 0)
            shown = after[1] if after[0] == "text" else None
            yield Step(line, [sys.executable, f"block{line}.py"], shown, (f"block{line}.py", code))
        elif language == "console":
            for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE):
                yield Step(line, ["sh", "-c", command], shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_prints_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for step in steps(page):
        if step.file:
            (tmp_path / step.file[0]).write_text(step.file[1], "utf-8")
        if not step.command:
            continue
        done = subprocess.run(
            step.command,
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": path,
                "PYTHONWARNINGS": "error",
                "XDG_STATE_HOME": str(tmp_path / ".state"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        place = f"{page.name}:{step.line}"
        if step.shown is None:
            assert done.returncode == 0, f"{place} fails:\n{done.stdout}"
        else:
            matches = doctest.OutputChecker().check_output(step.shown, done.stdout, FLAGS)
            assert matches, f"{place} prints\n{done.stdout}\ninstead of\n{step.shown}"


def test_every_page_is_linked_from_the_readme() -> None:
    readme = PAGES[0].read_text("utf-8")
    missing = [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme]
    assert not missing, f"docs that no reader will find: {missing}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link} is not there"
