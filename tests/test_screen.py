"""Standard error, shared: no line is torn, no bar is left, nobody who left is waited for."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.screen import Screen, Through
from tests.terminal import screen as shown


class Terminal(io.StringIO):
    """What the screen writes to, in memory."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        return shown(self.getvalue())


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def streams() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = before


def test_lines_go_above_the_bar_and_the_bar_stays_last(terminal: Terminal) -> None:
    screen = Screen(terminal)
    screen.stand("a", "=== 1 of 3")
    screen.say("first")
    screen.stand("a", "=== 2 of 3")
    screen.say("second\nthird\n")
    assert terminal.lines == ["first", "second", "third", "=== 2 of 3"]
    screen.clear("a")
    assert terminal.lines == ["first", "second", "third", ""]


def test_several_bars_stand_below_each_other(terminal: Terminal) -> None:
    screen = Screen(terminal)
    screen.stand("a", "a 1")
    screen.stand("b", "b 1")
    screen.say("line")
    screen.stand("a", "a 2")
    assert terminal.lines == ["line", "a 2", "b 1"]
    screen.clear("a")
    assert terminal.lines[:2] == ["line", "b 1"]
    screen.clear("b")
    assert "".join(terminal.lines) == "line"


@given(st.lists(st.tuples(st.sampled_from("ab-+"), st.integers(0, 99)), max_size=30))
def test_in_any_order_every_line_is_there_once_and_whole(steps: list[tuple[str, int]]) -> None:
    terminal = Terminal()
    screen, said, bars = Screen(terminal), [], dict[str, str]()
    for what, number in steps:
        if what == "-":
            screen.clear("a")
            bars.pop("a", None)
        elif what == "+":
            said.append(f"line {number}")
            screen.say(said[-1])
        else:
            bars[what] = f"{what} at {number}"
            screen.stand(what, bars[what])
    assert [line for line in terminal.lines if line] == [*said, *bars.values()]


def test_a_passage_inside_another_leaves_one_bar(terminal: Terminal) -> None:
    screen = Screen(terminal)
    screen.stand("a", "=== 1 of 3")
    with screen.passing(), screen.passing():
        terminal.write("line\n")
    assert terminal.getvalue().endswith("=== 1 of 3")
    assert terminal.lines == ["line", "=== 1 of 3"]


@pytest.mark.usefixtures("streams")
def test_what_the_program_prints_goes_above_the_bar() -> None:
    sys.stdout = terminal = Terminal()
    screen = Screen(terminal)
    screen.stand("a", "=== 1 of 3")
    print("printed")
    print("a question? ", end="")
    screen.stand("a", "=== 2 of 3")  # not through an open line
    assert terminal.lines == ["printed", "a question?"]
    print("yes")
    assert terminal.lines == ["printed", "a question? yes", "=== 2 of 3"]
    screen.clear("a")
    assert sys.stdout is terminal


@pytest.mark.usefixtures("streams")
def test_a_stream_that_somebody_wrapped_meanwhile_stays_wrapped() -> None:
    sys.stdout = terminal = Terminal()
    screen = Screen(terminal)
    screen.stand("a", "=== 1 of 3")
    through = sys.stdout
    assert isinstance(through, Through)
    wrapped = sys.stdout = io.StringIO()
    screen.clear("a")
    assert sys.stdout is wrapped
    through.write("late\n")
    assert terminal.lines == ["late", ""]


def test_one_that_is_stuck_holds_up_nobody_for_long(terminal: Terminal) -> None:
    screen = Screen(terminal)
    stuck, go = threading.Event(), threading.Event()

    def hold() -> None:
        with screen.passing():
            stuck.set()
            go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    stuck.wait()
    screen.say("said all the same")
    assert "said all the same" in terminal.lines
    go.set()
    holder.join()


SPEAK = """
import sys
from piecework.screen import STDERR
sys.stdin.readline()
for _ in range(3):
    STDERR.say("x" * 100)
sys.stdout.write(str(STDERR.gone))
"""


@pytest.mark.parametrize("how", ["pipe", "terminal"])
def test_a_reader_that_has_gone_is_no_error(how: str) -> None:
    ours, theirs = os.pipe() if how == "pipe" else pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SPEAK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.close(ours)
        out, _ = process.communicate("\n", timeout=60)
    assert (process.returncode, out) == (0, "True")


def test_a_terminal_that_another_program_made_non_blocking_loses_nothing() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    code = "from piecework.screen import say\nfor n in range(200): say(str(n) * 1000)"
    with subprocess.Popen([sys.executable, "-c", code], stderr=write) as process:
        os.close(write)
        with open(read) as reader:
            lines = reader.read().split()
    assert process.returncode == 0
    assert lines == [str(n) * 1000 for n in range(200)]


def test_the_background_draws_no_bar_and_says_its_lines() -> None:
    code = """
import os, signal
from piecework.screen import STDERR
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
STDERR.stand("a", "in front")
os.setpgid(0, 0)
STDERR.stand("a", "behind")
STDERR.say("a line")
"""
    pid, master = pty.fork()
    if not pid:
        leader = "import os, sys; sys.exit(os.spawnv(os.P_WAIT, sys.executable, sys.argv[1:]))"
        os.execv(sys.executable, [sys.executable, "-c", leader, sys.executable, "-c", code])
    written = b""
    try:
        while block := os.read(master, 4096):
            written += block
    except OSError:  # what Linux says at the end
        pass
    os.close(master)
    assert os.waitpid(pid, 0)[1] == 0
    assert b"in front" in written
    assert b"behind" not in written
    assert written.endswith(b"in fronta line\r\n")  # and erases nothing there
    assert signal.getsignal(signal.SIGTTOU) == signal.SIG_DFL
