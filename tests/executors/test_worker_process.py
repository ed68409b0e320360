"""The books of a slot: what was sent, reported, taken back; and all of it against the slot."""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piecework.executors import channel, shared
from piecework.executors.results import Outcome, deliver
from piecework.executors.slot import CHECKED, CLAIMED, CURRENT, SKIP_FROM, SKIP_TO, Slot
from piecework.executors.work import BatchWork, Call, Stretch
from piecework.executors.worker_process import Line, WorkerProcess
from piecework.loop import Loop
from piecework.task import Batch, Failure, Report


@contextmanager
def worker(slots: int = 1) -> Iterator[WorkerProcess]:
    """The master's side of a worker, sockets and memory included, without the process."""
    loop = Loop("test")
    made = WorkerProcess(1, loop, slots)
    made.watch(lambda line: None)
    try:
        yield made
    finally:
        made.close()
        loop.close()


def batch(size: int, reports: list[Report] | None = None) -> BatchWork:
    told = reports.append if reports is not None else (lambda report: None)
    return BatchWork(Call(b""), Batch(1, range(size), [None] * size), told)


class Model:
    """The books as a plain list: (number, work, position), and the ends of the frames."""

    def __init__(self) -> None:
        self.next = 1
        self.books: list[tuple[int, BatchWork, int]] = []

    def send(self, work: BatchWork, start: int, count: int) -> None:
        self.books += [(self.next + at, work, start + at) for at in range(count)]
        self.next += count

    def settle(self, count: int) -> list[tuple[BatchWork, int]]:
        gone, self.books = self.books[:count], self.books[count:]
        return [(work, position) for _, work, position in gone]

    def cut(self, low: int, high: int) -> list[tuple[BatchWork, int]]:
        gone = [entry for entry in self.books if low <= entry[0] < high]
        self.books = [entry for entry in self.books if not low <= entry[0] < high]
        return [(work, position) for _, work, position in gone]


def positions(stretches: list[Stretch]) -> list[tuple[Any, int]]:
    return [(s.work, at) for s in stretches for at in range(s.start, s.stop)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 5), st.integers(1, 12)),
        st.tuples(st.just("settle"), st.integers(0, 15), st.just(0)),
        st.tuples(st.just("cut"), st.integers(0, 60), st.integers(0, 20)),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_the_books_are_what_a_plain_list_would_be(steps: list[tuple[str, int, int]]) -> None:
    model = Model()
    with worker() as made:
        line = made.lines[0]
        for step, a, b in steps:
            if step == "send":
                work = batch(20)
                first = line.note(work, a, b)
                line.frame_ends.append(first + b)
                assert first == model.next
                model.send(work, a, b)
            elif step == "settle":
                count = min(a, len(model.books))
                parts = line.settle(count)
                told = [(sent.work, start + at) for sent, start, n in parts for at in range(n)]
                assert told == model.settle(count)
            else:
                assert positions(line.cut(a, a + b)) == model.cut(a, a + b)
            check(line, model)


def check(line: Line, model: Model) -> None:
    numbers = [number for number, _, _ in model.books]
    assert [number for sent in line.sent for number in range(sent.first, sent.end)] == numbers
    for number, work, position in model.books:
        sent = line.find(number)
        assert sent is not None
        assert (sent.work, sent.start + number - sent.first) == (work, position)
    for absent in {0, model.next} | ({numbers[0] - 1, numbers[-1] + 1} if numbers else set()):
        assert line.find(absent) is None
    assert line.outstanding == (numbers[-1] + 1 - numbers[0] if numbers else 0)
    if numbers:
        assert line.frame_ends[0] > numbers[0]  # the frame of the first that is outstanding
        run = next((n for n in range(len(numbers)) if numbers[n] != numbers[0] + n), len(numbers))
        assert line.holds(numbers[0], run)
        assert not line.holds(numbers[0], run + 1)
        assert not line.holds(numbers[0] + 1, 1)
    else:
        assert not line.frame_ends
        assert not line.holds(1, 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_what_runs_is_known_only_while_it_is_on_the_books(current: int, settled: int) -> None:
    with worker() as made:
        line = made.lines[0]
        line.note(batch(30), 0, 30)
        line.settle(min(settled, 30))
        line.words[CURRENT] = current
        assert line.running() == (current if settled < current <= 30 else 0)


# -- the two sides together -------------------------------------------------------------------


class Both:
    """The master's books and a slot that runs, with the master acting between any two looks of
    the slot at their shared words: what two processes do to each other, step by step."""

    def __init__(self, line: Line, actions: list[tuple[str, int, int]]) -> None:
        self.line = line
        self.loop = line.worker.loop
        self.actions = actions
        self.looks = 0
        self.frames: deque[tuple[int, range]] = deque()  # to the slot
        self.inbox: deque[Any] = deque()  # to the master
        self.ranges: deque[tuple[int, int]] = deque()  # being taken back
        self.ran: list[int] = []
        self.returned: list[int] = []
        self.values: dict[int, Any] = {}
        self.failed: set[int] = set()
        self.positions = 0
        self.slot = Slot(Watched(self), self._flush, self._skip)

    # the master
    def act(self) -> None:
        while self.actions and self.looks >= self.actions[-1][2]:
            action, number, _ = self.actions.pop()
            self.looks = 0
            self._do(action, number)
        self.looks += 1

    def _do(self, action: str, number: int) -> None:
        if action == "send":
            self.send(number)
        elif action == "forbid":
            taken = self.line.forbid(number) if self.line.unstarted else None
            if taken is not None:
                self.ranges.append(taken)
        elif action == "take" and self.ranges:
            low, high = self.ranges.popleft()
            self._back(self.line.cut(max(low, self.line.words[CLAIMED]), high))
        elif action == "read" and self.inbox:
            self.read()

    def send(self, count: int) -> None:
        start = self.positions
        self.positions += count
        work = BatchWork(Call(b""), Batch(start, range(count), []), self._report)
        first = self.line.note(work, 0, count)
        self.line.frame_ends.append(first + count)
        self.frames.append((first, range(start, start + count)))

    def read(self) -> None:
        kind, *rest = self.inbox.popleft()
        if kind == "results":
            deliver(self.line, Outcome(*rest, 0), self.loop)
        else:
            first, count = rest
            self._back(self.line.cut(first, first + count))

    def _back(self, stretches: list[Stretch]) -> None:
        for work, position in positions(stretches):
            self.returned.append(work.batch.id + position)

    def _report(self, report: Report) -> None:
        base = report.batch.id + report.offset
        for at, value in enumerate(report.values, base):
            assert at not in self.values, "reported twice"
            self.values[at] = value
        self.failed |= {report.batch.id + position for position in report.failures}
        assert sum(count for count, _ in report.timings) == len(report.values)

    # the slot
    def work_off(self) -> None:
        while self.frames:
            first, items = self.frames.popleft()
            self.slot.run(self._task, items, first)
            self.act()

    def _task(self, item: int) -> str:
        self.ran.append(item)
        self.act()
        if item % 7 == 3:
            raise ValueError
        return f"value {item}"

    def _flush(
        self,
        first: int,
        values: list[Any],
        failures: dict[int, Failure],
        timings: list[tuple[int, float]],
        cpu: float,
    ) -> None:
        self.inbox.append(("results", first, values, failures, timings, cpu))

    def _skip(self, first: int, count: int) -> None:
        self.inbox.append(("skipped", first, count))


class Watched:
    """The words as the slot sees them: before each look or change, the master may act."""

    def __init__(self, both: Both) -> None:
        self._both = both

    def __getitem__(self, place: int) -> int:
        self._both.act()
        return self._both.line.words[place]

    def __setitem__(self, place: int, number: int) -> None:
        self._both.act()
        self._both.line.words[place] = number


# Each action waits for so many looks of the slot after the one before: 0 is "at once".
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["send", "forbid", "take", "forbid", "take", "read"]),
        st.integers(1, 12),
        st.integers(0, 12),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 30), ACTIONS)
def test_in_any_order_of_steps_a_task_is_run_once_or_given_back_once(
    count: int, actions: list[tuple[str, int, int]]
) -> None:
    with worker() as made:
        both = Both(made.lines[0], actions)
        both.send(count)
        both.work_off()
        both.actions = []
        while both.inbox:
            both.read()
        for low, high in both.ranges:
            both._back(made.lines[0].cut(max(low, made.lines[0].words[CLAIMED]), high))
        assert sorted(both.ran + both.returned) == list(range(both.positions))
        assert sorted(both.values) == sorted(both.ran)
        assert both.failed == {item for item in both.ran if item % 7 == 3}
        for item, value in both.values.items():
            assert value == (None if item in both.failed else f"value {item}")
        assert not made.lines[0].sent
        assert not made.lines[0].frame_ends


def test_a_range_that_the_slot_has_not_come_to_is_not_overwritten() -> None:
    with worker() as made:
        line = made.lines[0]
        line.note(batch(10), 0, 10)
        assert line.forbid(4) == (7, 11)
        line.cut(7, 11)
        line.note(batch(5), 0, 5)
        line.words[CLAIMED] = 12  # claimed, but the slot has not looked at the range yet
        assert line.forbid(2) is None
        assert (line.words[SKIP_FROM], line.words[SKIP_TO]) == (7, 11)
        line.words[CHECKED] = 12
        assert line.forbid(2) == (14, 16)


def test_what_is_taken_back_next_widens_the_range() -> None:
    with worker() as made:
        line = made.lines[0]
        line.note(batch(10), 0, 10)
        assert line.forbid(4) == (7, 11)
        line.cut(7, 11)
        assert line.forbid(2) == (5, 7)
        assert (line.words[SKIP_FROM], line.words[SKIP_TO]) == (5, 11)


# -- sending, and the end ---------------------------------------------------------------------


def test_a_function_is_sent_to_a_slot_once() -> None:
    with worker() as made:
        line = made.lines[0]
        call = Call(b"function")
        line.teach(call)
        line.teach(call)
        assert (
            made.theirs[1].recv(1000) == channel.encode(channel.CALL, b"function", call=call.id)[0]
        )
        made.theirs[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            made.theirs[1].recv(1)


def test_what_the_socket_does_not_take_follows_when_it_is_read() -> None:
    with worker() as made:
        line = made.lines[0]
        body = bytes(range(256)) * 20_000
        line.post(channel.CALL, body)
        memory = shared.Memory(made.descriptors[0])
        reader = channel.FrameReader(made.theirs[1], memory.reader(shared.ARGUMENTS))
        got: list[bytes] = []

        def read() -> bool:
            reader.fill()
            got.extend(bytes(frame.body) for frame in reader.frames())
            return bool(got)

        while not read():
            made.loop.drive(lambda: False, 0)
            made.loop.call_soon(lambda: None)
            made.loop.drive(lambda: False, 0.001)
        assert got == [body]


def test_posting_to_a_dead_worker_is_no_error() -> None:
    with worker() as made:
        made.theirs[1].close()
        made.lines[0].post(channel.CALL, b"x")
        made.close_line(made.lines[0])
        made.lines[0].post(channel.CALL, b"x")


def test_a_closed_worker_that_nobody_holds_leaves_no_descriptor() -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with worker(slots=3) as made:
        assert len(os.listdir("/proc/self/fd")) > before
    del made
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
