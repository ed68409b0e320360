"""The output file of a journalled run: cut to what the journal knows of, and never a line twice."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from piecework.cli.output import CannotWrite, Output


class Kept:
    """A record in memory."""

    def __init__(
        self, output: tuple[str, int, bytes] | None = None, written: Iterable[int] = ()
    ) -> None:
        self.output = output
        self.written = set(written)

    def commit_output(self, path: str, length: int, tail: bytes, indexes: list[int]) -> None:
        self.output = (path, length, tail)
        self.written.update(indexes)

    def forget_output(self) -> None:
        self.written.clear()

    def is_written(self, index: int) -> bool:
        return index in self.written


def written(path: Path, count: int) -> Kept:
    """A file with `count` committed lines, a line that was not committed, and half of one."""
    kept, out = Kept(), Output(str(path))
    out.start(kept)
    for index in range(count):
        out.write(b"line %d\n" % index, index)
    out.close()
    with path.open("ab") as file:
        file.write(b"line %d\nhalf a li" % count)
    return kept


def test_what_the_journal_does_not_know_of_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out"
    kept = written(path, 3)
    out = Output(str(path))
    out.start(kept)
    assert [out.has(n) for n in range(4)] == [True, True, True, False]
    out.write(b"line 3\n", 3)
    out.close()
    assert path.read_bytes() == b"line 0\nline 1\nline 2\nline 3\n"
    assert kept.written == {0, 1, 2, 3}
    assert kept.output is not None
    assert kept.output[1] == path.stat().st_size


@pytest.mark.parametrize("harm", ["gone", "shorter", "another", "elsewhere", "in order"])
def test_a_file_that_is_not_the_one_left_is_written_anew(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "out"
    kept = written(path, 300)
    if harm == "gone":
        path.unlink()
    elif harm == "shorter":
        os.truncate(path, 100)
    elif harm == "another":
        path.write_bytes(b"x" * path.stat().st_size)
    elif harm == "elsewhere":
        path = tmp_path / "other"
    out = Output(str(path))
    out.start(kept, anew=harm == "in order")
    assert not any(out.has(n) for n in range(300))
    out.close()
    assert path.read_bytes() == b""


def test_without_a_journal_the_file_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "out"
    written(path, 3)
    out = Output(str(path))
    out.start()
    out.close()
    assert path.read_bytes() == b""


def test_a_run_that_is_refused_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out"
    written(path, 3)
    before = path.read_bytes()
    out = Output(str(path))
    out.start()
    out.close(refused=True)
    assert path.read_bytes() == before


def test_a_result_in_parts_counts_when_its_last_part_is_there(tmp_path: Path) -> None:
    kept, out = Kept(), Output(str(tmp_path / "out"))
    out.start(kept)
    seen = []

    def parts() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x" * (1 << 16)
            seen.append(set(kept.written))
        yield b"\n"

    out.write_parts(parts(), 7)
    out.flush()
    out.commit(now=True)
    assert seen == [set()] * 4
    assert kept.written == {7}
    out.close()


def test_a_pipe_keeps_no_record(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    kept = Kept(("/elsewhere", 10, b""), {1, 2})
    out = Output(str(fifo))
    out.start(kept)
    out.write(b"line\n", 5)
    out.close()
    assert os.read(reader, 100) == b"line\n"
    assert not kept.written
    os.close(reader)


def test_a_file_that_takes_no_more_ends_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    kept, out = Kept(), Output(str(path))
    out.start(kept)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        for index in range(300):
            out.write(b"line %d\n" % index, index)
        out.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    with pytest.raises(CannotWrite, match="File too large"):
        out.check()
    out.close()
    assert path.read_bytes().endswith(b"\n")
    assert 900 < path.stat().st_size <= 1000
    assert kept.output is None or kept.output[1] <= path.stat().st_size


def test_lines_are_added_to_what_a_run_left(tmp_path: Path) -> None:
    path = tmp_path / "out"
    kept = written(path, 3)
    out = Output(str(path), adding=True)
    out.start(kept, anew=True)
    out.write(b"line 1 again\n", 1)
    out.close()
    assert path.read_bytes() == b"line 0\nline 1\nline 2\nline 1 again\n"


@pytest.mark.parametrize("same", [True, False])
def test_lines_are_added_to_a_file_that_was_changed_and_another_one_is_emptied(
    tmp_path: Path, same: bool
) -> None:
    path = tmp_path / "out"
    kept = written(path, 3)
    other = path if same else tmp_path / "other"
    other.write_bytes(b"changed by hand\n")
    before = kept.output
    out = Output(str(other), adding=True)
    out.start(kept)
    out.write(b"line 1 again\n", 1)
    out.close()
    assert other.read_bytes() == (b"changed by hand\n" if same else b"") + b"line 1 again\n"
    assert (kept.output, kept.written) == (before, {0, 1, 2})


def test_commits_of_two_threads_are_told_one_after_the_other(tmp_path: Path) -> None:
    class Slow(Kept):
        """Holds up the first one who tells it something, until somebody else has tried."""

        def __init__(self) -> None:
            super().__init__()
            self.told: list[int] = []
            self.first = threading.Event()
            self.go_on = threading.Event()

        def commit_output(self, path: str, length: int, tail: bytes, indexes: list[int]) -> None:
            if not self.first.is_set():
                self.first.set()
                self.go_on.wait(10)
            self.told.append(length)
            super().commit_output(path, length, tail, indexes)

    kept, out = Slow(), Output(str(tmp_path / "out"))
    out.start(kept)
    out.write(b"line 0\n", 0)
    out.flush()
    one = threading.Thread(target=out.commit, kwargs={"now": True})
    one.start()
    kept.first.wait(10)
    out.write(b"line 1\n", 1)
    out.flush()
    other = threading.Thread(target=out.commit, kwargs={"now": True})
    other.start()
    other.join(0.1)  # it cannot end before the first one has
    kept.go_on.set()
    one.join()
    other.join()
    out.close()
    assert kept.told == sorted(kept.told)
    assert kept.output is not None
    assert kept.output[1] == 14
    assert kept.written == {0, 1}
