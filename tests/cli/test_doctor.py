"""`piecework doctor`: what it finds, and that each trouble comes with its fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from piecework.cli.doctor import packages
from piecework.cli.doctor.places import file_system
from tests.cli.command import COMMAND, ENVIRONMENT, Outcome, piecework

TROUBLED = """
import functools
import sys
import threading

def square(number):
    return number * number

def pair(left, right):
    return left, right

async def soon(text):
    return text

class Holder:
    def __init__(self):
        self.guard = threading.Lock()
    def __call__(self, text):
        return text

holder = Holder()
half = functools.partial(pair, "left")
large = functools.partial(pair, b"x" * (11 << 20))
"""
HERE_ONLY = """
import sys
if "piecework.executors.child" in sys.modules:
    raise RuntimeError("needs the main script")

def shout(text):
    return text.upper()
"""
KILLER = """
import os, sys
if "piecework.executors.child" in sys.modules:
    os._exit(9)

def shout(text):
    return text.upper()
"""


def found(outcome: Outcome) -> list[dict[str, str]]:
    told = json.loads(outcome.out)
    assert told["ok"] == (outcome.code == 0)
    assert told["ok"] == all(finding["level"] != "fix" for finding in told["findings"])
    findings: list[dict[str, str]] = told["findings"]
    for finding in findings:
        assert finding["level"] in ("ok", "note", "fix")
        assert finding["fix"] or finding["level"] != "fix", finding
    return findings


def about(topic: str, findings: list[dict[str, str]]) -> list[dict[str, str]]:
    return [finding for finding in findings if finding["topic"] == topic]


def wrong(topic: str, findings: list[dict[str, str]]) -> dict[str, str]:
    [finding] = [f for f in about(topic, findings) if f["level"] == "fix"]
    return finding


def doctor(*arguments: str, **environ: str) -> list[dict[str, str]]:
    return found(piecework("doctor", "--json", *arguments, **environ))


@pytest.fixture
def module(tmp_path: Path) -> str:
    path = tmp_path / "troubled_tasks.py"
    path.write_text(TROUBLED)
    return str(path)


def test_every_topic_is_looked_at() -> None:
    topics = {finding["topic"] for finding in doctor()}
    assert topics >= {
        "python", "cores", "memory", "BLAS", "journal", "packages", "nats-server",
        "start methods", "workers",
    }  # fmt: skip


def test_for_people_it_is_a_line_each_and_a_closing_one() -> None:
    outcome = piecework("doctor")
    lines = outcome.out.splitlines()
    assert "\x1b" not in outcome.out
    assert outcome.err == ""
    assert lines[0].startswith("python        ok   CPython 3.")
    assert "findings: " in lines[-1]
    assert outcome.code == ("needs a fix" in lines[-1] and "nothing" not in lines[-1])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_it_says_why_there_are_so_many_cores() -> None:
    one = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [*COMMAND, "doctor", "--json"], capture_output=True, timeout=60, env=ENVIRONMENT,
        preexec_fn=lambda: os.sched_setaffinity(0, [one]),
    )  # fmt: skip
    [cores] = about("cores", json.loads(done.stdout)["findings"])
    assert cores["text"].startswith("1 used: ")


def test_too_few_open_files() -> None:
    words = " ".join(COMMAND)
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 60; exec {words} doctor --json"],
        capture_output=True, timeout=60, env=ENVIRONMENT,
    )  # fmt: skip
    finding = wrong("open files", found(Outcome(done.returncode, done.stdout.decode(), "")))
    assert "60 at once" in finding["text"]
    assert "ulimit -n" in finding["fix"]


def test_native_threads_that_the_user_has_set() -> None:
    findings = about("BLAS", doctor(OMP_NUM_THREADS="64"))
    assert any("OMP_NUM_THREADS=64 is set" in finding["text"] for finding in findings)
    assert any("unset OMP_NUM_THREADS" in finding["fix"] for finding in findings)


# -- journals -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="nothing can be made in /proc")
def test_a_place_where_no_journal_can_be_kept() -> None:
    finding = wrong("journal", doctor(XDG_STATE_HOME="/proc/sys"))
    assert "no journal can be kept there" in finding["text"]
    assert "XDG_STATE_HOME" in finding["fix"]


def test_journals_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    place = tmp_path / "piecework" / "runs"
    place.mkdir(parents=True)
    (place / "rotten.journal").write_bytes(b"this is no journal" * 100)
    finding = wrong("journal", doctor(XDG_STATE_HOME=str(tmp_path)))
    assert "rotten.journal is no journal" in finding["text"]
    assert (place / "rotten.journal").read_bytes() == b"this is no journal" * 100


def test_nothing_is_left_where_journals_would_go(tmp_path: Path) -> None:
    findings = doctor(XDG_STATE_HOME=str(tmp_path))
    assert any("not made yet: can be written" in finding["text"] for finding in findings)
    assert list(tmp_path.iterdir()) == []


MOUNTS = """22 1 8:1 / / rw - ext4 /dev/sda1 rw
40 22 0:40 / /home rw - nfs4 server:/home rw
41 40 8:2 / /home/anna/my\\040disk rw - xfs /dev/sdb1 rw
odd line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/anna", "nfs4"),
        ("/homeless", "ext4"),
        ("/home/anna/my disk/state", "xfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system(MOUNTS, path) == kind
    assert file_system("", path) == ""


# -- a function -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [("square", "takes one input"), ("soon", "a coroutine"), ("half", "one input")],
)
def test_a_function_that_workers_can_have(module: str, name: str, says: str) -> None:
    findings = doctor(f"{module}:{name}")
    about_it = [finding for finding in findings if "a worker loaded it" in finding["text"]]
    assert len(about_it) == 1
    assert any(says in finding["text"] for finding in about(about_it[0]["topic"], findings))


def test_what_cannot_be_sent_is_named_by_its_path(module: str) -> None:
    finding = wrong("holder", doctor(f"{module}:holder"))
    assert "guard" in finding["text"]
    assert "lock" in finding["fix"].lower()


def test_a_function_of_two_arguments(module: str) -> None:
    finding = wrong("pair", doctor(f"{module}:pair"))
    assert (
        "cannot be called with one input: missing a required argument: 'right'" in finding["text"]
    )


def test_what_carries_much(module: str) -> None:
    findings = [f for f in doctor(f"{module}:large") if "carries" in f["text"]]
    assert [finding["level"] for finding in findings] == ["note"]
    assert "11.5 MB" in findings[0]["text"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (HERE_ONLY, "a worker cannot load it: RuntimeError: needs the main script"),
        (KILLER, "a worker does not come to load it: the worker left with exit code 9"),
    ],
)
def test_what_a_worker_cannot_load(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "here_only.py").write_text(source)
    finding = wrong("shout", doctor(f"{tmp_path}/here_only.py:shout"))
    assert says in finding["text"]


def test_a_function_that_is_not_there_is_a_matter_of_usage() -> None:
    outcome = piecework("doctor", "os.path:getsise")
    assert (outcome.code, outcome.out) == (2, "")
    assert "Did you mean 'getsize'?" in outcome.err


# -- packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "name", "version"),
    [
        ("click>=8.1", "click", "8.1"),
        ("msgspec >= 0.19", "msgspec", "0.19"),
        ("cloudpickle", "cloudpickle", "0"),
        ("x-y.z[extra]>=1.2,<3", "x-y.z", "1.2"),
    ],
)
def test_what_a_requirement_asks_for(requirement: str, name: str, version: str) -> None:
    assert packages._least(requirement) == (name, version)


def test_versions_are_compared_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    versions: dict[str, Any] = {"click": "8.0.9", "msgspec": "0.22"}
    monkeypatch.setattr(packages.metadata, "requires", lambda _: ["click>=8.1", "msgspec>=0.19"])
    monkeypatch.setattr(packages, "_version", lambda name: versions.get(name, ""))
    [old, rest] = packages._needed()
    assert (old.level, old.fix) == ("fix", "pip install 'click>=8.1'")
    assert "msgspec 0.22" in rest.text
