"""`progress=True`: what is shown of a run on a terminal, in a log and in a notebook."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import piecework
from tests.terminal import screen

HEAD = """
import sys, time
import piecework

def f(x):
    time.sleep(0.02)
    if x % 20 == 7:
        raise ValueError(f"bad {x}")
    return x
"""
WAYS = ["inline", "threads", "processes"]


def in_a_log(body: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def on_a_terminal(body: str) -> list[str]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(body)],
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    written = b""
    try:
        while block := os.read(master, 1 << 16):
            written += block
    except OSError:  # the other end is closed
        pass
    os.close(master)
    assert process.wait(60) == 0, written
    assert "─".encode() in written
    return screen(written.decode(), width=80)


def two(on: str) -> str:
    """Few slots, so that it takes long enough to see a bar."""
    return "" if on == "inline" else ", workers=2"


@pytest.mark.parametrize("on", WAYS)
def test_a_log_gets_each_kind_of_failure_once_and_the_account(on: str) -> None:
    err = in_a_log(f"piecework.map(f, range(60), on={on!r}, progress=True).wait()")
    assert "\x1b" not in err
    assert err.count("piecework: input ") == 1
    assert "ValueError: bad " in err
    assert err.splitlines()[-1].startswith("60 inputs = 57 done + 3 failed")


@pytest.mark.parametrize("on", WAYS)
def test_a_terminal_gets_a_bar_above_which_the_program_prints(on: str) -> None:
    lines = on_a_terminal(
        f"""
        for result in piecework.map(f, range(30), on={on!r}, progress=True{two(on)}).results():
            if result.ok:
                print("value", result.value)
        print("end")
        """
    )
    printed = [line for line in lines if line.startswith("value")]
    assert sorted(printed) == sorted(f"value {n}" for n in range(30) if n % 20 != 7)
    assert lines[-2] == "end"
    assert not any("─" in line or "━" in line for line in lines)
    assert any(line.startswith("30 inputs = 28 done") for line in lines)


@pytest.mark.parametrize("on", [*WAYS, "coroutines", "auto"])
def test_what_tasks_print_goes_above_the_bar(on: str) -> None:
    lines = on_a_terminal(
        f"""
        import asyncio

        def say(x):
            time.sleep(0.01)
            print("task", x, "says")
            print("task", x, "complains", file=sys.stderr)

        async def say_async(x):
            await asyncio.sleep(0.01)
            say(x)

        call = say_async if {on!r} == "coroutines" else say
        assert piecework.map(call, range(40), on={on!r}, progress=True{two(on)}).wait().ok
        """
    )
    said = [
        line.rpartition("] ")[2]
        for line in lines
        if "task" in line and "auto" not in line and "took" not in line
    ]
    wanted = [f"task {n} {what}" for n in range(40) for what in ("says", "complains")]
    assert sorted(said) == sorted(wanted)
    assert not any("─" in line or "━" in line for line in lines)


def test_two_runs_at_once_have_a_bar_each() -> None:
    lines = on_a_terminal(
        """
        first = piecework.map(f, range(20), on="threads", workers=1, progress=True)
        second = piecework.map(f, range(20), on="threads", workers=1, progress=True)
        first.wait(), second.wait()
        """
    )
    assert not any("─" in line or "━" in line for line in lines)
    assert sum(line.startswith("20 inputs = 19 done") for line in lines) == 2


def test_a_run_that_is_given_up_leaves_no_bar() -> None:
    lines = on_a_terminal(
        """
        for value in piecework.map(f, range(1000), on="threads", workers=2, progress=True):
            if value == 5:
                time.sleep(0.3)
                break
        print("end")
        """
    )
    assert "end" in lines
    assert not any("─" in line or "━" in line for line in lines)


def test_progress_is_true_or_a_function() -> None:
    with pytest.raises(piecework.UsageError, match="Give True for a bar"):
        piecework.map(str, [1], progress=3)  # type: ignore[arg-type]
    seen: list[piecework.Progress] = []
    piecework.map(str, [1], on="threads", progress=seen.append).wait()
    assert seen[-1].done == 1


# -- notebooks --------------------------------------------------------------------------------


def number(x: Any) -> float:
    return 1 / x


class Checked(HTMLParser):
    """Balanced tags, and the text without them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag != "script"
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_account_shows_itself_as_text_and_as_html() -> None:
    inputs = [1, 2, "<script>", 0]
    with piecework.map(number, inputs, on="threads") as run:
        summary = run.wait()
        for shown in (run._repr_mimebundle_(), summary._repr_mimebundle_(None, None)):
            assert shown["text/plain"] == str(summary)
            text = Checked(shown["text/html"]).text
            assert "2 tasks done" in text
            assert "ZeroDivisionError" in text
            assert "'<script>'" in text
            assert "4 inputs = 2 done + 2 failed" in text


def test_a_run_under_way_shows_how_far_it_is() -> None:
    import threading

    go = threading.Event()
    with piecework.map(lambda x: go.wait(60), range(4), on="threads", workers=2) as run:
        shown = run._repr_mimebundle_()
        go.set()
        run.wait()
    assert "0 of 4" in shown["text/plain"]
    assert "0 of 4" in Checked(shown["text/html"]).text


CELLS = [
    "import piecework, time\n"
    "def f(x):\n    time.sleep(0.02)\n    return 1 / (x - 7)\n"
    "run = piecework.map(f, range(60), on=ON, workers=2, progress=True)\n"
    "print(sum(result.ok for result in run.results()))",
    "run",
]


@pytest.mark.parametrize("on", ["threads", "processes"])
def test_a_real_notebook_has_one_output_that_is_updated(on: str, tmp_path: Path) -> None:
    pytest.importorskip("ipykernel", reason="pip install ipykernel nbclient")
    nbclient = pytest.importorskip("nbclient", reason="pip install ipykernel nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code.replace("ON", repr(on))) for code in CELLS]
    )
    updates = []
    client = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3")
    process = client.process_message

    def watched(message: Any, *rest: Any) -> Any:
        if message["msg_type"] == "update_display_data":
            updates.append(message["content"]["data"]["text/plain"])
        return process(message, *rest)

    client.process_message = watched
    client.execute(cwd=str(tmp_path))
    first, second = (cell.outputs for cell in notebook.cells)
    displays = [output for output in first if output.output_type == "display_data"]
    assert len(displays) == 1
    assert "60 inputs = 59 done + 1 failed" in displays[0].data["text/plain"]
    assert any("of 60" in update for update in updates)
    assert [output.text for output in first if output.output_type == "stream"] == ["59\n"]
    assert "59 tasks done" in Checked(second[0].data["text/html"]).text
