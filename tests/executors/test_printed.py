"""What the master makes of a worker's pipes, without the worker."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from piecework.executors.printed import Printed
from piecework.executors.printing import ERR, HEADER, LOG, MARK, MARKS, OUT, TOKEN
from piecework.executors.results import Outcome
from piecework.executors.slot import CURRENT
from piecework.executors.work import BatchWork
from piecework.executors.worker_process import WorkerProcess
from piecework.task import Failure
from tests.executors.test_worker_process import batch, worker


class Said:
    """A worker with a batch of ten at its slot, and what it is made to print."""

    def __init__(self, made: WorkerProcess) -> None:
        self.worker = made
        self.printed: Printed = made.printed
        self.printed.one_slot = True
        self.work: BatchWork = batch(10)
        self.work.call.label = "run"
        self.first = made.lines[0].note(self.work, 0, 10)

    def put(self, kind: int, data: bytes, number: int, who: int = 1, more: int = 0) -> None:
        token = self.printed.words[TOKEN].to_bytes(8, "little")
        head = HEADER.pack(token, kind, more, len(data), 0, number, who)
        os.write(self.printed.theirs[0], head + data)

    def run(self, number: int) -> None:
        self.worker.lines[0].words[CURRENT] = number

    def text(self) -> list[str]:
        self.printed.read()
        said, self.printed.said = self.printed.said, []
        return "".join(item for _, item in said).splitlines()


@pytest.fixture
def said() -> Iterator[Said]:
    with worker() as made:
        yield Said(made)


def test_a_line_is_its_tasks_by_the_number_in_its_record(said: Said) -> None:
    said.put(OUT, b"one\ntw", said.first)
    said.put(ERR, b"other\n", said.first + 4)
    said.put(OUT, b"o\n", said.first)
    assert said.text() == ["[run 0 | process #1] one", "[run 4 | process #1] other",
                           "[run 0 | process #1] two"]  # fmt: skip


def test_a_line_of_no_task_is_the_workers(said: Said) -> None:
    said.put(OUT, b"plain\n", 0)
    said.printed.tagged = True
    said.put(OUT, b"late\n", said.first + 99)
    assert said.text()[-1] == "[process #1] late"


def test_two_who_print_in_one_task_do_not_mix(said: Said) -> None:
    said.put(OUT, b"a", said.first, who=1)
    said.put(OUT, b"b", said.first, who=2)
    said.put(OUT, b"a\n", said.first, who=1)
    said.put(OUT, b"b\n", said.first, who=2)
    assert [line[-2:] for line in said.text()] == ["aa", "bb"]


def test_what_was_written_past_the_records_is_of_the_task_that_runs(said: Said) -> None:
    said.run(said.first + 2)
    os.write(said.printed.theirs[1], b"from C\n")
    assert said.text() == ["[run 2 | process #1] from C"]


def test_what_was_written_before_a_mark_is_of_the_task_that_failed(said: Said) -> None:
    os.write(said.printed.theirs[0], b"from C\nno end")
    said.put(MARK, b"", said.first + 1)
    said.run(said.first + 7)  # the slot has long gone on
    assert said.text() == ["[run 1 | process #1] from C", "[run 1 | process #1] no end"]
    failures = {said.first + 1: Failure("ValueError", "")}
    outcome = Outcome(said.first, [None, None], failures, [(2, 0.0)], 0.0, 0)
    said.printed.settle(said.worker.lines[0], outcome)
    assert outcome.failures[said.first + 1].output == "from C\nno end\n"
    assert not said.printed.active


def test_a_long_record_of_a_log_is_put_together(said: Said) -> None:
    said.put(LOG, b"first ", said.first, more=1)
    said.put(LOG, b"other ", said.first + 20, who=2, more=1)
    assert said.text() == []
    said.put(LOG, b"last", said.first + 20, who=2)
    said.printed.read()
    ((kind, (data, _, _)),) = said.printed.said
    assert (kind, data) == ("log", b"other last")


def test_last_words_are_attributed_although_the_worker_is_known_to_be_dead(said: Said) -> None:
    said.put(OUT, b"begun\nunfinished", said.first + 3)
    said.run(said.first + 3)
    os.write(said.printed.theirs[1], b"Segmentation fault")
    said.worker.lost = True
    words = said.printed.last_words()
    assert words == {(said.work, 3): "begun\nunfinished\nSegmentation fault\n"} or words == {
        (said.work, 3): "begun\nSegmentation fault\nunfinished\n"
    }


def test_a_token_of_another_worker_is_only_bytes(said: Said) -> None:
    os.write(said.printed.theirs[0], HEADER.pack(b"not ours", OUT, 0, 5, 0, 1, 1) + b"hello\n")
    assert len(said.text()) == 1


def test_a_worker_that_writes_past_the_records_is_asked_for_marks(said: Said) -> None:
    assert not said.printed.words[MARKS]
    said.run(said.first + 2)
    os.write(said.printed.theirs[1], b"from C\n")
    assert said.text() == ["[run 2 | process #1] from C"]
    assert said.printed.words[MARKS]
    os.write(said.printed.theirs[1], b"and again\n")
    token = said.printed.words[TOKEN].to_bytes(8, "little")
    os.write(said.printed.theirs[1], HEADER.pack(token, MARK, 0, 0, 0, said.first + 2, 0))
    os.write(said.printed.theirs[1], b"later\n")
    said.run(said.first + 3)
    assert said.text() == ["[run 2 | process #1] and again", "[run 3 | process #1] later"]
