"""Journals that cannot be made, opened or written: a clear refusal, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import piecework
from piecework.errors import JournalError, JournalInvalid
from piecework.journal import directory
from piecework.journal.reader import Reader
from piecework.journal.rows import APPLICATION_ID

COUNT = 5000


def text(n: int) -> str:
    return f"value {n}" * 20


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "x.journal"
    piecework.map(text, range(COUNT), on="threads", journal=path).wait()
    return path


def refused(path: Path, match: str) -> None:
    """Reading and going on are refused alike, and the file is left as it is."""
    before = path.read_bytes()
    for attempt in (
        lambda: Reader(path).results().__next__(),
        lambda: piecework.map(text, range(COUNT), on="inline", journal=path, resume=True).wait(),
    ):
        with pytest.raises(JournalInvalid, match=match):
            attempt()
    assert path.read_bytes() == before
    assert os.listdir(path.parent).count(f"{path.name}.lock") == 0


@pytest.mark.parametrize("content", [b"not a journal\n" * 20, b"\0" * 5000, b"# x"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.journal"
    path.write_bytes(content)
    refused(path, r"is no journal, and is left as it is\. Give another name")


def test_an_empty_file_is_a_damaged_journal(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    path.touch()
    refused(path, r"is damaged \(it has 0 bytes.*another name, or remove it with piecework rm x")


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    refused(path, "is a SQLite database of another program")


def test_a_newer_version_says_so(journal: Path) -> None:
    db = sqlite3.connect(journal)
    assert db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    refused(journal, r"newer version of piecework \(format 99.*Update piecework")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_one_is_refused(journal: Path, part: float) -> None:
    os.truncate(journal, int(journal.stat().st_size * part))
    refused(journal, "is damaged .* bytes are left of ")


def test_garbage_in_the_middle_is_found_before_anything_is_run(journal: Path) -> None:
    size = journal.stat().st_size
    with open(journal, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 8192))
    with pytest.raises(JournalInvalid, match=r"is damaged .*piecework rm x"):
        piecework.map(text, range(COUNT), on="inline", journal=journal, resume=True)


def test_one_that_was_cut_in_its_head_too(journal: Path) -> None:
    os.truncate(journal, 50)
    refused(journal, "is damaged .*ends in its head")


def test_a_place_where_nothing_can_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/sys")
    with pytest.raises(JournalError, match=r"cannot be written.*journal=PATH or XDG_STATE_HOME"):
        piecework.map(abs, range(3), on="inline", name="x")


def test_a_directory_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be"):
        piecework.map(abs, range(3), on="inline", journal=tmp_path, resume=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command).returncode:
        pytest.skip("needs root: mount -t tmpfs -o size=1m tmpfs DIR")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_stops_the_run_and_keeps_what_was_finished(small_disk: Path) -> None:
    path = small_disk / "x.journal"
    inputs = [os.urandom(200) for _ in range(10_000)]
    run = piecework.map(bytes, inputs, on="threads", journal=path)
    summary = run.wait()
    assert summary.stopped == "journal"
    assert isinstance(summary.error, JournalError)
    assert re.search("no space for the journal .*Make room there", str(summary.error))
    with Reader(path) as reader:
        kept = reader.counts().done
    assert 0 < kept <= summary.done
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with piecework.map(bytes, inputs, on="threads", journal=path, resume=True) as run:
        assert list(run) == inputs
    assert run.summary.recalled == kept


def test_a_full_disk_is_said_before_anything_is_run(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(b"x" * (2 << 20))
    with pytest.raises(JournalError, match=r"no space for the journal"):
        piecework.map(abs, range(3), on="inline", journal=small_disk / "x.journal")
    assert not (small_disk / "x.journal").exists()


def test_a_file_system_that_is_read_only(small_disk: Path) -> None:
    path = small_disk / "x.journal"
    piecework.map(abs, range(30), on="threads", journal=path).wait()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Reader(path) as reader:
        assert (reader.counts().done, reader.live) == (30, False)
    with pytest.raises(JournalError, match=r"cannot be written: it is read-only\. Give another pl"):
        piecework.map(abs, range(30), on="inline", journal=path, resume=True)


LIMITED = """
import resource, sys
import piecework
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
run = piecework.map(bytes, [bytes([n % 256]) * 7 + str(n).encode() * 50 for n in range(20_000)],
                    on="threads", journal=sys.argv[1], resume=True)
done = sum(result.ok for result in run.results())
"""


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "piecework.errors.JournalError: " in done.stderr
    assert directory.holder(path) is None
    with Reader(path) as reader:
        kept = reader.counts().done
        assert len(list(reader.results())) == kept > 0
