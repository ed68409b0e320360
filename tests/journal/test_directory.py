"""Names, locks, requests, and which journals may go."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import piecework
from piecework.errors import JournalError, JournalLocked
from piecework.journal import directory
from piecework.journal.store import prune


def test_the_state_directory_is_ours_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    piecework.map(abs, [1], on="inline", name="x").wait()
    place = directory.default_directory()
    assert place == tmp_path / "state" / "piecework" / "runs"
    assert oct(place.stat().st_mode & 0o777) == "0o700"
    assert oct((place / "x.journal").stat().st_mode & 0o777) == "0o600"
    assert os.listdir(place) == ["x.journal"]
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert directory.default_directory() == Path.home() / ".local/state/piecework/runs"


def test_a_lock_is_held_by_one_and_freed_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from piecework.journal.directory import Lock\n"
        "lock = Lock(Path(sys.argv[1])); lock.claim(); lock.note(3, 12)\n"
        "print('held', flush=True)\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        found = directory.holder(path)
        assert found is not None
        assert found.pid == other.pid
        with pytest.raises(JournalLocked, match=f"process {other.pid} on .*piecework cancel x"):
            directory.Lock(path)
        other.kill()
    assert directory.holder(path) is None
    lock = directory.Lock(path)
    assert lock.claim() == (3, 12)
    assert lock.claim() == (3, 12)  # until it is replaced
    lock.note(4, 0)
    assert lock.claim() == (4, 0)
    lock.free()
    assert not os.listdir(tmp_path)


def test_a_child_of_fork_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    lock = directory.Lock(path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        os._exit(0)
    lock.free()
    assert directory.holder(path) is None
    directory.Lock(path).free()
    os.write(write, b"x")
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)


def test_looking_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    for _ in range(50):
        lock = directory.Lock(path)
        assert directory.holder(path) is not None
        lock.free()
        assert directory.holder(path) is None


def test_a_request_reaches_only_a_live_run(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    assert not directory.request_cancel(path)
    lock = directory.Lock(path)
    assert directory.request_cancel(path)
    assert directory.cancel_requested(path) == "stop"
    assert directory.request_cancel(path, kill=True)
    assert directory.cancel_requested(path) == "kill"
    directory.forget_cancel(path)
    assert directory.cancel_requested(path) == ""
    lock.free()


def test_a_journal_is_removed_whole_and_not_while_it_is_live(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    piecework.map(abs, [1], on="inline", journal=path).wait()
    lock = directory.Lock(path)
    with pytest.raises(JournalLocked):
        directory.remove(path)
    lock.free()
    directory.remove(path)
    assert not os.listdir(tmp_path)
    with pytest.raises(JournalError, match="no journal"):
        directory.remove(path)


def fail(n: int) -> int:
    raise ValueError(n)


def test_what_is_old_and_all_done_goes_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    place = directory.default_directory()
    for name in ("done", "new", "failed"):
        piecework.map(fail if name == "failed" else abs, [1], on="inline", name=name).wait()
    run = piecework.map(abs, range(100_000), on="inline", name="cancelled")
    next(run)
    run.close()
    (place / "garbage.journal").write_text("nothing of ours")
    old = time.time() - 20 * 86400
    for name in ("done", "failed", "cancelled", "garbage"):
        os.utime(place / f"{name}.journal", (old, old))
    piecework.map(abs, [1], on="inline", name="next").wait()
    left = {path.name.removesuffix(".journal") for path in directory.journals()}
    assert left == {"new", "failed", "cancelled", "garbage", "next"}
    monkeypatch.setattr(directory, "KEPT_RUNS", 1)
    prune(place)
    left = {path.name.removesuffix(".journal") for path in directory.journals()}
    assert left == {"failed", "cancelled", "garbage", "next"}


@pytest.mark.parametrize(
    ("given", "name"), [("a.b:c d", "a.b-c-d"), ("", "run"), ("<lambda>", "lambda")]
)
def test_a_name_is_made_from_the_function(given: str, name: str) -> None:
    made = directory.fresh_name(given)
    assert made.startswith(f"{name}-2")
    directory.check_name(made)
    assert made != directory.fresh_name(given)
