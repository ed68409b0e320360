"""The commands about runs: resume, retry, runs, show, results, replay, cancel, rm."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, TASKS, Outcome, map_, piecework

ONE = ("--on", "threads", "-j", "1", "-k", "--progress", "off")


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own journals, and works in a directory of its own."""
    state = tmp_path / "state"
    monkeypatch.setitem(ENVIRONMENT, "XDG_STATE_HOME", str(state))
    monkeypatch.chdir(tmp_path)
    return state / "piecework" / "runs"


def rows_of(path: str) -> list[Any]:
    text = Path(path).read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def show(name: str) -> Any:
    return json.loads(piecework("show", name, "--json").out)


@pytest.fixture
def moody() -> Path:
    """A run named r: a, then x and x again, which fail, then b."""
    mood = Path("mood")
    mood.write_text("x")
    done = map_("moody", "a", "x", "x", "b", *ONE, "-o", "out", "--name", "r", MOOD="mood")
    assert done.code == 1
    return mood


# -- going on ------------------------------------------------------------------------------------


def test_a_run_has_a_name_of_its_own_and_is_listed() -> None:
    done = map_("double", "a", "b", *ONE)
    name = done.err.partition(":")[0]
    assert name.startswith("double-")
    listed = [json.loads(line) for line in piecework("runs", "--json").out.splitlines()]
    assert [(run["name"], run["state"], run["done"]) for run in listed] == [(name, "done", 2)]
    assert piecework("runs").out.splitlines()[1].split()[:2] == [name, "done"]


def test_the_same_command_with_resume_goes_on_and_runs_nothing_twice(tmp_path: Path) -> None:
    words = ["a", "b", *ONE, "-o", "out"]
    first = map_("note", *words, EXECUTIONS="log")
    again = map_("note", *words, "--resume", EXECUTIONS="log")
    assert first.code == again.code == 0
    assert Path("log").read_text() == "a\nb\n"
    assert [row["index"] for row in rows_of("out")] == [0, 1]
    assert len(piecework("runs", "--json").out.splitlines()) == 1


def test_resume_without_a_run_to_go_on_with_begins_one() -> None:
    done = map_("double", "a", *ONE, "--resume")
    assert done.code == 0
    assert "a new one begins" in done.err
    assert done.rows[0]["value"] == "aa"


def test_a_name_that_is_taken_is_refused_with_both_ways_out() -> None:
    map_("double", "a", *ONE, "--name", "mine")
    done = map_("double", "b", *ONE, "--name", "mine")
    assert done.code == 2
    assert "--resume" in done.err
    assert "piecework rm mine" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("given", "written"),
    [("c\na\nb\n", ["a", "b", "c"]), ("b\n", ["a", "b"]), ("a\na\nb\n", ["a", "b", "a"])],
    ids=["reordered and more", "fewer", "one more of the same"],
)
def test_inputs_are_known_by_what_they_are(given: str, written: list[str]) -> None:
    words = ["-o", "out", "--name", "r", "--on", "threads", "-j", "1"]
    map_("note", *words, stdin="a\nb\n", EXECUTIONS="log")
    done = map_("note", *words, "--resume", stdin=given, EXECUTIONS="log")
    assert done.code == 0, done.err
    assert [row["input"] for row in rows_of("out")] == written
    assert Path("log").read_text().split() == written


def test_in_order_means_in_the_order_of_today() -> None:
    words = ["-o", "out", "--name", "r", *ONE]
    map_("note", *words, stdin="a\nb\n", EXECUTIONS="log")
    map_("note", *words, "--resume", stdin="c\nb\na\n", EXECUTIONS="log")
    assert [row["input"] for row in rows_of("out")] == ["c", "b", "a"]
    assert Path("log").read_text().split() == ["a", "b", "c"]


def test_another_list_of_inputs_is_refused_and_nothing_is_lost() -> None:
    words = ["-o", "out", "--name", "r", *ONE]
    map_("double", *words, stdin="a\nb\n")
    before = Path("out").read_text()
    done = map_("double", *words, "--resume", stdin="c\nd\n")
    assert done.code == 2
    assert "inputs of another run" in done.err
    assert [row["value"] for row in piecework("results", "r").rows] == ["aa", "bb"]
    assert Path("out").read_text() == before


def test_a_changed_function_is_said_and_asks(tmp_path: Path) -> None:
    module = tmp_path / "work.py"
    module.write_text("def f(text):\n    return text\n")
    words = ["map", "work.py:f", "--name", "r", *ONE]
    piecework(*words, "a")
    module.write_text("def f(text):\n    return text + text\n")
    refused = piecework(*words, "a", "b", "--resume")
    assert refused.code == 2
    assert "--resume=anyway" in refused.err
    refused = piecework("resume", "r")
    assert refused.code == 2
    assert "with --anyway" in refused.err
    went_on = piecework(*words, "a", "b", "--resume=anyway")
    assert [row["value"] for row in went_on.rows] == ["a", "bb"]
    assert piecework("resume", "r", "--anyway").code == 0


def test_resume_carries_out_the_command_where_it_was_given(tmp_path: Path) -> None:
    Path("there").mkdir()
    Path("there/in").write_text("a\nb\n")
    os.chdir("there")
    map_("note", "-a", "in", "-o", "out", *ONE, "--name", "r", EXECUTIONS=str(tmp_path / "log"))
    os.chdir("..")
    Path("there/in").write_text("a\nb\nc\n")
    done = piecework("resume", "r", EXECUTIONS=str(tmp_path / "log"))
    assert done.code == 0, done.err
    assert [row["input"] for row in rows_of("there/out")] == ["a", "b", "c"]
    assert Path("log").read_text() == "a\nb\nc\n"


def test_resume_knows_the_options_that_came_from_the_environment() -> None:
    map_("number", "--name", "r", *ONE, "4", "0", PIECEWORK_INPUTS="json", PIECEWORK_OUTPUT="out")
    done = piecework("resume", "r", "--failed", "--json")
    assert json.loads(done.err.splitlines()[-1])["summary"]["recalled"] == 1
    assert [row["input"] for row in rows_of("out")] == [4, 0]


def test_what_was_read_from_standard_input_must_be_given_again() -> None:
    map_("note", "--name", "r", *ONE, stdin="a\n", EXECUTIONS="log")
    refused = piecework("resume", "r")
    assert refused.code == 2
    assert "... | piecework resume r" in refused.err
    done = piecework("resume", "r", stdin="a\nb\n", EXECUTIONS="log")
    assert [row["input"] for row in done.rows] == ["a", "b"]
    assert Path("log").read_text() == "a\nb\n"


def test_names_that_are_not_utf8_are_recorded_and_found_again() -> None:
    folder = os.fsdecode(b"d\xff")
    os.mkdir(folder)
    os.chdir(folder)
    Path("in").write_bytes(b"a\xfe\nb\n")
    out = os.fsdecode(b"o\xfe")
    assert map_("size", "-a", "in", "--name", "r", "-o", out, *ONE).code == 1
    os.chdir("..")
    Path(folder, os.fsdecode(b"a\xfe")).write_text("four")
    assert piecework("resume", "r", "--failed").code == 1
    rows = rows_of(os.path.join(folder, out))
    assert [(row["input"], row.get("value")) for row in rows] == [("a\udcfe", 4), ("b", None)]
    assert "a\\udcfe" in piecework("show", "r").out


def test_a_run_from_python_is_resumed_there(tmp_path: Path) -> None:
    Path("program.py").write_text(
        "import piecework\n"
        "def half(n):\n"
        "    return n / 2 if n else 1 / n\n"
        "piecework.map(half, [0, 1, 2], on='threads', name='lib').wait()\n"
    )
    subprocess.run([sys.executable, "program.py"], env=ENVIRONMENT, check=True, timeout=60)
    refused = piecework("resume", "lib")
    assert refused.code == 2
    assert "name='lib', resume=True" in refused.err
    results = piecework("results", "lib").rows
    assert [(row["input"], row.get("value")) for row in results] == [(0, None), (1, 0.5), (2, 1.0)]
    refused = piecework("replay", "lib", "1")
    assert refused.code == 2
    assert "cannot be imported" in refused.err


def test_no_journal_means_none(own_state: Path) -> None:
    done = map_("double", "a", *ONE, "--no-journal")
    assert done.code == 0
    assert not list(own_state.glob("*")) if own_state.exists() else True
    assert "double: 1 done" in done.err


def test_where_no_journal_can_be_kept_the_run_goes_on_and_says_so(tmp_path: Path) -> None:
    Path("file").write_text("")
    done = map_("double", "a", *ONE, XDG_STATE_HOME=str(tmp_path / "file"))
    assert done.code == 0
    assert done.rows[0]["value"] == "aa"
    assert "keeps no journal" in done.err
    asked = map_("double", "a", *ONE, "--name", "r", XDG_STATE_HOME=str(tmp_path / "file"))
    assert asked.code == 125
    assert asked.out == ""


def test_a_journal_may_lie_anywhere() -> None:
    done = map_("double", "a", *ONE, "--journal", "here.journal")
    assert done.code == 0
    assert piecework("show", "./here.journal").out.startswith(f"{Path.cwd()}/here.journal: done")
    assert map_("double", "a", *ONE, "--journal", "here.journal", "--resume").code == 0


# -- trying again --------------------------------------------------------------------------------


def test_retry_runs_what_failed_and_adds_its_lines(moody: Path) -> None:
    moody.write_text("")
    done = piecework("retry", "r", MOOD="mood")
    assert done.code == 0, done.err
    assert [(row["index"], row["ok"]) for row in rows_of("out")] == [
        (0, True), (1, False), (2, False), (3, True), (1, True), (2, True),
    ]  # fmt: skip
    assert [row["index"] for row in piecework("results", "r").rows] == [0, 1, 2, 3]
    assert show("r")["state"] == "done"


def test_retry_takes_those_that_match(moody: Path) -> None:
    moody.write_text("")
    assert "nothing to try again" in piecework("retry", "r", "--match", "^OSError").err
    assert piecework("retry", "r", "--match", "ValueError: not", MOOD="mood").code == 0
    assert show("r")["failed"] == 0
    refused = piecework("retry", "r", "--match", "(")
    assert refused.code == 2


def test_what_fails_again_stays_failed_in_its_place(moody: Path) -> None:
    done = piecework("retry", "r", MOOD="mood")
    assert done.code == 1
    told = show("r")
    assert (told["state"], told["done"], told["failed"]) == ("failed", 2, 2)
    assert [row["ok"] for row in piecework("results", "r").rows] == [True, False, False, True]


def test_retry_needs_no_inputs_and_leaves_the_rest_to_do(tmp_path: Path) -> None:
    mood = Path("mood")
    mood.write_text("x")
    words = ["--name", "r", "--on", "threads", "-j", "1", "--halt", "1", "--batch-size", "1"]
    done = map_("moody", *words, stdin="x\n" + "b\n" * 5000, MOOD="mood")
    assert done.code == 3
    mood.write_text("")
    assert piecework("retry", "r", MOOD="mood").code == 0
    told = show("r")
    assert told["failed"] == 0
    assert told["state"] == "halted"


# -- looking -------------------------------------------------------------------------------------


def test_show_tells_all_of_it(moody: Path) -> None:
    told = show("r")
    assert (told["done"], told["failed"], told["open"], told["total"]) == (2, 2, 0, 4)
    assert told["groups"][0]["count"] == 2
    assert told["groups"][0]["type"] == "ValueError"
    assert told["command"][:2] == ["map", f"{TASKS}:moody"]
    assert len(told["slowest"]) == 4
    text = piecework("show", "r").out
    assert "4 inputs = 2 done + 2 failed + 0 quarantined + 0 to do" in text
    assert "2 × ValueError: not today" in text
    assert "piecework retry r" in text
    assert "\x1b" not in text


def test_results_are_the_lines_that_map_writes(moody: Path) -> None:
    done = piecework("results", "r", "-o", "copy")
    assert done.code == 0
    assert rows_of("copy") == rows_of("out")
    assert [row["index"] for row in piecework("results", "r", "--failed").rows] == [1, 2]
    assert [row["index"] for row in piecework("results", "r", "--done").rows] == [0, 3]


def test_replay_calls_the_function_here(moody: Path) -> None:
    failed = subprocess.run(
        [*COMMAND, "replay", "r", "1"], env={**ENVIRONMENT, "MOOD": "mood"}, capture_output=True
    )
    assert failed.returncode == 1
    trace = failed.stderr.decode()
    assert "ValueError: not today: x" in trace
    assert "tasks.py" in trace
    assert "cli/replay.py" not in trace
    moody.write_text("")
    done = piecework("replay", "r", "1", "--json", MOOD="mood")
    assert (done.code, done.rows) == (0, [{"index": 1, "input": "x", "ok": True, "value": "x"}])
    assert show("r")["failed"] == 2  # nothing of it is recorded


def test_replay_opens_the_debugger_where_it_fails(moody: Path) -> None:
    debugged = subprocess.run(
        [*COMMAND, "replay", "r", "1", "--pdb"],
        env={**ENVIRONMENT, "MOOD": "mood"}, input=b"p text\nq\n", capture_output=True,
    )  # fmt: skip
    assert debugged.returncode == 1
    assert b"'x'" in debugged.stdout


@pytest.mark.parametrize("command", ["show", "results", "resume", "retry", "cancel", "rm"])
def test_a_name_that_nobody_has_is_refused_with_the_one_that_was_meant(
    moody: Path, command: str
) -> None:
    map_("double", "a", *ONE, "--name", "weekly")
    done = piecework(command, "wekly")
    assert done.code == 2
    assert "Did you mean 'weekly'?" in done.err


def test_a_run_is_found_by_the_beginning_of_its_name_by_path_and_as_the_last(
    own_state: Path,
) -> None:
    for name in ("alpha", "beta1", "beta2"):
        map_("double", "a", *ONE, "--name", name)
    assert show("al")["name"] == "alpha"
    assert show("last")["name"] == "beta2"
    assert show(str(own_state / "beta1.journal"))["name"] == "beta1"
    refused = piecework("show", "beta")
    assert refused.code == 2
    assert "2 runs begin with" in refused.err


# -- under way -----------------------------------------------------------------------------------


class Live:
    """A run named live that has done `first` and waits for somebody to write to its FIFO."""

    def __init__(self) -> None:
        os.mkfifo("fifo")
        words = ["map", f"{TASKS}:hold", "--on", "threads", "-j", "1", "--batch-size", "1"]
        self.process = subprocess.Popen(
            [*COMMAND, *words, "--name", "live", "-o", "out", "first", "fifo", "last"],
            env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.writer = os.open("fifo", os.O_WRONLY)  # once the task has opened it to read

    def release(self) -> None:
        os.write(self.writer, b"released")
        os.close(self.writer)

    def end(self) -> Outcome:
        _, err = self.process.communicate(timeout=60)
        return Outcome(self.process.returncode, "", err.decode())


@pytest.fixture
def live() -> Iterator[Live]:
    run = Live()
    yield run
    if run.process.poll() is None:
        os.killpg(run.process.pid, signal.SIGKILL)
        run.process.communicate()


def test_cancel_from_another_terminal_finishes_what_runs(live: Live) -> None:
    done = piecework("cancel", "live")
    assert done.code == 0
    assert "takes nothing new" in done.err
    live.release()
    ended = live.end()
    assert "piecework resume live" in ended.err
    assert [row["value"] for row in rows_of("out")] == ["first", "released"]
    assert show("live")["state"] == "interrupted"
    Path("fifo").unlink()
    assert piecework("resume", "live").code == 0
    assert [row["value"] for row in rows_of("out")] == ["first", "released", "last"]


def test_cancel_now_ends_what_runs_too() -> None:
    os.mkfifo("fifo")
    words = ["map", f"{TASKS}:hold", "--on", "processes", "-j", "1", "--name", "now", "fifo"]
    process = subprocess.Popen([*COMMAND, *words], env=ENVIRONMENT, stderr=subprocess.PIPE)
    writer = os.open("fifo", os.O_WRONLY)
    done = piecework("cancel", "now", "--now", "--json")
    assert json.loads(done.out)["state"] == "ended", done.err
    _, err = process.communicate(timeout=60)
    os.close(writer)
    assert b"piecework resume now" in err
    assert show("now")["open"] == 1


def test_cancel_reaches_the_run_of_a_program() -> None:
    Path("program.py").write_text(
        "import piecework\n"
        "def hold(name):\n"
        "    return open(name).read()\n"
        "inputs = ['fifo'] * 3\n"
        "run = piecework.map(hold, inputs, on='threads', workers=1, batch_size=1, name='lib')\n"
        "summary = run.wait()\n"
        "print(summary.stopped, summary.done, summary.cancelled)\n"
    )
    os.mkfifo("fifo")
    program = subprocess.Popen(
        [sys.executable, "program.py"], env=ENVIRONMENT, stdout=subprocess.PIPE
    )
    writer = os.open("fifo", os.O_WRONLY)
    assert "takes nothing new" in piecework("cancel", "lib").err
    os.close(writer)
    out, _ = program.communicate(timeout=60)
    stopped, done, cancelled = out.decode().split()
    assert (stopped, done) == ("cancelled", "1")
    assert int(cancelled) <= 2


def test_a_full_disk_under_the_output_file_loses_nothing(tmp_path: Path) -> None:
    words = ["map", f"{TASKS}:blow_up", "-o", "out", "--name", "r", "--on", "threads"]
    given = "".join(f"{n}\n" for n in range(2000))
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    full = subprocess.run(
        [*COMMAND, *words], env=ENVIRONMENT, input=given.encode(), stderr=subprocess.PIPE,
        preexec_fn=limit, timeout=60,
    )  # fmt: skip
    assert full.returncode == 125, full.stderr
    assert b"cannot write out: File too large" in full.stderr
    assert b"piecework resume r" in full.stderr
    assert 0 < len(rows_of("out")) < 2000
    done = piecework("resume", "r", stdin=given)
    assert done.code == 0, done.err
    assert sorted(int(row["input"]) for row in rows_of("out")) == list(range(2000))


def test_a_live_run_is_listed_and_not_removed_nor_resumed(live: Live) -> None:
    assert show("live")["state"] == "running"
    assert show("live")["pid"] == live.process.pid
    for command in ("rm", "resume", "retry"):
        refused = piecework(command, "live")
        assert refused.code in (0, 2)
        assert "under way" in refused.err or "nothing to try" in refused.err
    taken = map_("double", "x", "--name", "live", "--resume")
    assert taken.code == 125 or taken.code == 2
    assert "under way" in taken.err
    live.release()
    assert live.end().code == 0


def test_a_killed_run_is_known_as_killed_and_cannot_be_cancelled(live: Live) -> None:
    os.killpg(live.process.pid, signal.SIGKILL)
    live.process.communicate()
    os.close(live.writer)
    assert show("live")["state"] == "killed"
    refused = piecework("cancel", "live")
    assert refused.code == 2
    assert "not under way" in refused.err
    assert "It is killed" in refused.err
    Path("fifo").unlink()
    assert piecework("resume", "live").code == 0
    assert sorted(row["input"] for row in rows_of("out")) == ["fifo", "first", "last"]
    assert show("live")["in_flight_at_kills"] >= 1


# -- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["truncated", "foreign", "newer", "another database", "empty"])
def test_a_journal_that_cannot_be_read_is_refused_and_left_as_it_is(
    own_state: Path, harm: str
) -> None:
    map_("double", *map(str, range(500)), *ONE, "--name", "r")
    path = own_state / "r.journal"
    if harm == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif harm == "empty":
        os.truncate(path, 0)
    elif harm == "foreign":
        path.write_bytes(b"something else entirely\n" * 1000)
    else:
        with sqlite3.connect(path) as db:
            what = "user_version = 99" if harm == "newer" else "application_id = 7"
            db.execute(f"PRAGMA {what}")
        db.close()
    before = path.read_bytes()
    for words in (["show", "r"], ["results", "r"], ["resume", "r"], ["retry", "r"]):
        done = piecework(*words)
        assert done.code == 125, (words, done.err)
        assert str(path) in done.err
    resumed = map_("double", "1", *ONE, "--name", "r", "--resume")
    assert resumed.code == 125
    assert path.read_bytes() == before
    assert "unreadable" in piecework("runs").out
    assert piecework("rm", "r").code == 0
    assert not path.exists()


# -- removing ------------------------------------------------------------------------------------


def test_rm_all_done_leaves_what_is_not_done(moody: Path) -> None:
    map_("double", "a", *ONE, "--name", "fine")
    done = piecework("rm", "--all-done", "--json")
    assert [row["name"] for row in done.rows] == ["fine"]
    assert [json.loads(r)["name"] for r in piecework("runs", "--json").out.splitlines()] == ["r"]
    assert piecework("rm", "r").code == 0
    assert piecework("runs").out == ""


def test_version_and_the_help_import_no_database() -> None:
    for words in (["version"], ["--help"], ["runs", "--help"], ["map", "--help"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "piecework", *words],
            env=ENVIRONMENT, capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0
        assert b"sqlite3" not in done.stderr, words


def test_a_second_interrupt_leaves_no_line_of_what_it_ended() -> None:
    os.mkfifo("fifo")
    words = ["map", f"{TASKS}:hold", "--on", "processes", "-j", "2", "--batch-size", "1"]
    process = subprocess.Popen(
        [*COMMAND, *words, "--name", "r", "-o", "out", "first", "fifo", "last"],
        env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    writer = os.open("fifo", os.O_WRONLY)
    assert process.stderr is not None
    os.kill(process.pid, signal.SIGINT)
    assert b"stopping" in process.stderr.readline()
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    os.close(writer)
    assert process.returncode == 130
    assert all(row["ok"] for row in rows_of("out"))
    Path("fifo").unlink()
    assert piecework("resume", "r").code == 0
    assert sorted(row["input"] for row in rows_of("out")) == ["fifo", "first", "last"]


def test_a_full_disk_under_the_journal_doubles_no_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount).returncode:
        pytest.skip("needs root: mount -t tmpfs -o size=300k tmpfs DIR")
    try:
        Path("in").write_text("".join(f"{n}\n" for n in range(100_000)))
        words = ["-a", "in", "-o", "out", "--on", "threads", "--journal", str(disk / "r.journal")]
        full = map_("double", *words)
        assert full.code == 125
        assert "no space for the journal" in full.err
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert map_("double", *words, "--resume").code == 0
        assert sorted(row["index"] for row in rows_of("out")) == list(range(100_000))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
