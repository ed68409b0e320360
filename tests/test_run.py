"""RunState: every decision on a task's fate, played without threads, processes or a clock."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from piecework.delivery import Piece
from piecework.errors import PieceworkError, RunHalted
from piecework.losses import ExecutorBroken
from piecework.retry import Backoff, Retry
from piecework.run import Halt, RunState
from piecework.states import BLOCK
from piecework.task import Batch, Cause, Failure, Report

EXACT = Backoff(1.0, factor=2, jitter=0)


def failure(message: str = "no", cause: Cause = "exception", type: str = "ValueError") -> Failure:
    return Failure(type=type, message=message, cause=cause, bases=(type, "Exception"))


LOST = failure("killed", cause="signal", type="piecework.WorkerLost")


def hand_out(state: RunState, count: int) -> Batch:
    indexes = state.draw(count)
    state.start(indexes)
    return Batch(indexes.start, indexes, [f"input {i}" for i in indexes])


def report(
    batch: Batch,
    failures: dict[int, Failure] | None = None,
    offset: int = 0,
    count: int | None = None,
    repeats: int = 0,
) -> Report:
    count = len(batch) - offset if count is None else count
    failures = failures or {}
    values = [
        None if offset + i in failures else batch.indexes[offset + i] * 10 for i in range(count)
    ]
    return Report(batch, offset, values, failures, [(count, 0.001 * count)], "w1", repeats)


def again(state: RunState, now: float) -> Batch:
    """The next batch of further attempts."""
    tasks = state.due(now, 100)
    indexes = tuple(task.index for task in tasks)
    return Batch(
        99, indexes, [task.payload for task in tasks], tasks[0].attempt, alone=tasks[0].alone
    )


def values_of(pieces: list[Piece]) -> dict[int, Any]:
    return {piece.start + i: v for piece in pieces for i, v in enumerate(piece.values)}


def test_a_batch_that_succeeds_settles_whole() -> None:
    state = RunState()
    batch = hand_out(state, 5)
    assert (state.running, state.pending, state.settled) == (5, 0, 0)
    (piece,) = state.record(report(batch), now=0)
    assert (piece.start, piece.values) == (0, [0, 10, 20, 30, 40])
    assert (state.running, state.done) == (0, 5)
    state.end()
    state.check()


def test_a_result_delivered_twice_counts_once() -> None:
    state = RunState()
    batch = hand_out(state, 5)
    state.record(report(batch, count=3), now=0)
    pieces = state.record(report(batch), now=0)
    assert values_of(pieces) == {3: 30, 4: 40}
    assert state.record(report(batch), now=0) == []
    assert (state.done, state.duplicates) == (5, 8)


def test_a_duplicate_of_a_forgotten_block_is_dropped() -> None:
    state = RunState()
    batch = hand_out(state, BLOCK + 10)
    state.record(report(batch), now=0)
    early = Batch(7, range(3), ["a", "b", "c"])
    assert state.record(report(early), now=0) == []
    assert (state.done, state.duplicates) == (BLOCK + 10, 3)


def test_failures_without_retries_are_final_and_named() -> None:
    state = RunState()
    batch = hand_out(state, 5)
    (piece,) = state.record(report(batch, {2: failure()}), now=0)
    assert piece.failures == {2: failure()}
    assert (state.done, state.failed) == (4, 1)
    assert list(state.failures.indexes) == [2]
    (kept,) = state.failures
    assert (kept.index, kept.input, kept.ok, kept.attempt) == (2, "input 2", False, 1)


def test_a_failed_task_is_due_again_after_its_delay() -> None:
    state = RunState(Retry(2, backoff=EXACT))
    batch = hand_out(state, 3)
    pieces = state.record(report(batch, {1: failure()}), now=10)
    assert values_of(pieces) == {0: 0, 2: 20}
    assert (state.pending, state.next_due) == (1, 11)
    assert state.due(10.9, 100) == []
    second = again(state, 11)
    assert (second.indexes, second.payloads, second.attempt) == ((1,), ["input 1"], 2)
    assert not second.alone
    assert state.record(report(second, {0: failure()}), now=20) == []
    assert state.next_due == 22
    (piece,) = state.record(report(again(state, 22)), now=23)
    assert (piece.start, piece.attempt, state.retries) == (1, 3, 2)
    state.end()
    state.check()


def test_attempts_end_when_retries_are_used_up() -> None:
    state = RunState(Retry(1))
    batch = hand_out(state, 1)
    assert state.record(report(batch, {0: failure()}), now=0) == []
    (piece,) = state.record(report(again(state, 0), {0: failure("still no")}), now=0)
    assert piece.failures[0].message == "still no"
    assert (state.failed, state.executions) == (1, 2)


def test_retries_of_different_attempts_travel_apart() -> None:
    state = RunState(Retry(5))
    batch = hand_out(state, 4)
    state.record(report(batch, {0: failure(), 1: failure()}, count=2), now=0)
    state.record(report(again(state, 0), {0: failure(), 1: failure()}), now=1)
    state.record(report(batch, {2: failure(), 3: failure()}, offset=2), now=1)
    assert {again(state, 2).attempt, again(state, 2).attempt} == {2, 3}
    assert state.due(2, 100) == []


def test_a_task_that_lost_its_worker_runs_alone_next() -> None:
    state = RunState(Retry(3))
    batch = hand_out(state, 3)
    state.record(report(batch, {0: LOST, 1: LOST}), now=0)
    first, second = again(state, 0), again(state, 0)
    assert first.alone
    assert second.alone
    assert (first.indexes, second.indexes) == ((0,), (1,))


def test_two_losses_in_a_row_quarantine() -> None:
    state = RunState(Retry(5))
    batch = hand_out(state, 1)
    state.record(report(batch, {0: LOST}), now=0)
    (piece,) = state.record(report(again(state, 0), {0: LOST}), now=0)
    assert piece.failures == {0: LOST}
    assert (state.quarantined, state.failed, state.losses) == (1, 0, 2)
    assert list(state.failures.indexes) == [0]


@pytest.mark.parametrize("retries", [0, 3])
def test_memory_is_tried_once_more_alone_whatever_the_retries(retries: int) -> None:
    state = RunState(Retry(retries))
    batch = hand_out(state, 1)
    lost = failure("held 3 GB", cause="memory", type="piecework.WorkerLost")
    assert state.record(report(batch, {0: lost}), 0.0) == []
    second = again(state, 0.0)
    assert second.alone
    state.record(report(second, {0: lost}), 1.0)
    assert (state.quarantined, state.failed, state.losses) == (1, 0, 2)


def test_a_command_that_memory_ran_out_for_is_tried_again_as_retries_say() -> None:
    ended = Failure(
        type="piecework.CommandFailed", message="killed", cause="memory", bases=("Exception",),
        result=object(),  # type: ignore[arg-type]  # what counts is that it is a command's
    )  # fmt: skip
    state = RunState(Retry(1))
    batch = hand_out(state, 1)
    assert state.record(report(batch, {0: ended}), 0.0) == []
    state.record(report(again(state, 0.0), {0: ended}), 1.0)
    assert (state.failed, state.quarantined, state.losses) == (1, 0, 0)


def test_memory_that_was_enough_alone_is_no_failure() -> None:
    state = RunState()
    batch = hand_out(state, 1)
    state.record(report(batch, {0: failure("3 GB", cause="memory")}), 0.0)
    state.record(report(again(state, 0.0)), 1.0)
    assert (state.done, state.quarantined, state.failed) == (1, 0, 0)


def test_losses_apart_do_not_quarantine() -> None:
    state = RunState(Retry(5))
    batch = hand_out(state, 1)
    state.record(report(batch, {0: LOST}), now=0)
    state.record(report(again(state, 0), {0: failure()}), now=0)
    state.record(report(again(state, 0), {0: LOST}), now=0)
    assert state.quarantined == 0
    state.record(report(again(state, 0)), now=0)
    assert state.done == 1


def test_without_retries_the_first_loss_is_the_failure() -> None:
    state = RunState()
    state.record(report(hand_out(state, 1), {0: LOST}), now=0)
    assert (state.failed, state.quarantined, state.losses) == (1, 0, 1)


def test_a_late_failure_of_an_earlier_attempt_is_a_duplicate() -> None:
    state = RunState(Retry(3))
    batch = hand_out(state, 1)
    state.record(report(batch, {0: failure()}), now=0)
    second = again(state, 0)
    assert state.record(report(batch, {0: failure()}), now=0) == []
    assert (state.duplicates, state.running) == (1, 1)
    state.record(report(second), now=0)
    assert state.done == 1


def test_a_late_success_of_an_earlier_attempt_counts() -> None:
    state = RunState(Retry(3, backoff=EXACT))
    batch = hand_out(state, 1)
    state.record(report(batch, {0: LOST}), now=0)
    (piece,) = state.record(report(batch), now=0.5)
    assert piece.values == [0]
    assert (state.next_due, state.done) == (None, 1)
    state.end()
    state.check()


def test_a_late_success_while_the_next_attempt_runs_leaves_nothing_behind() -> None:
    state = RunState(Retry(3))
    batch = hand_out(state, 2)
    state.record(report(batch, {0: failure(), 1: failure()}), now=0)
    second = again(state, 0)
    state.record(report(batch), now=0)
    state.record(report(second, {0: failure(), 1: failure()}), now=0)
    state.end()
    state.check()
    assert (state.done, state.duplicates) == (2, 2)


def test_stopping_fails_what_waits_for_another_attempt() -> None:
    state = RunState(Retry(3, backoff=EXACT))
    batch = hand_out(state, 2)
    state.record(report(batch, {0: failure()}, count=1), now=0)
    (piece,) = state.stop("cancelled")
    assert (piece.start, piece.failures, piece.inputs) == (0, {0: failure()}, ["input 0"])
    assert not state.finished
    state.record(report(batch, {1: failure()}, offset=1), now=0)
    assert (state.failed, state.retries) == (2, 1)
    state.check()


def test_what_was_never_started_is_cancelled() -> None:
    state = RunState()
    batch = hand_out(state, 2)
    drawn = state.draw(3)
    state.stop("cancelled")
    (piece,) = state.cancel(drawn, ["a", "b", "c"])
    assert [f.cause for f in piece.failures.values()] == ["cancelled"] * 3
    pieces = state.record(report(batch, {1: failure(cause="cancelled")}), now=0)
    assert [len(p.failures) for p in pieces] == [1]
    assert (state.done, state.cancelled, state.executions, len(state.failures)) == (1, 4, 1, 0)
    state.check()


def test_a_second_attempt_that_never_started_keeps_the_first_ones_failure() -> None:
    state = RunState(Retry(3))
    state.record(report(hand_out(state, 1), {0: failure()}), now=0)
    second = again(state, 0)
    state.stop("cancelled")
    (piece,) = state.record(report(second, {0: failure(cause="cancelled")}), now=0)
    assert piece.failures == {0: failure()}
    assert (state.failed, state.cancelled) == (1, 0)
    state.check()


def test_halt_by_count_stops_at_that_many_failures() -> None:
    state = RunState(halt=Halt(count=2))
    batch = hand_out(state, 4)
    state.record(report(batch, {0: failure()}, count=1), now=0)
    assert not state.stopping
    state.record(report(batch, {1: failure()}, offset=1, count=1), now=0)
    assert state.stopped == "halted"
    assert isinstance(state.error, RunHalted)
    assert "2 of 2 finished tasks failed" in str(state.error)


def test_halt_by_share_waits_until_a_share_says_something() -> None:
    state = RunState(halt=Halt(share=0.05))
    batch = hand_out(state, 100)
    state.record(report(batch, {0: failure(), 1: failure()}, count=2), now=0)
    state.record(report(batch, {2: failure()}, offset=2, count=1), now=0)
    assert not state.stopping
    state.record(report(batch, {3: failure()}, offset=3, count=17), now=0)
    assert state.stopped == "halted"


def test_an_executor_that_can_start_no_worker_stops_the_run() -> None:
    state = RunState(Retry(5))
    broken = failure("no worker can be started", type="piecework.ExecutorBroken")
    told = report(hand_out(state, 3), {0: broken, 1: broken, 2: broken})
    told.worker = ""
    state.record(told, now=0)
    assert (state.stopped, state.cancelled, state.failed) == ("broken", 3, 0)
    assert isinstance(state.error, ExecutorBroken)
    state.check()


def test_a_task_that_raises_broken_executor_itself_has_failed() -> None:
    state = RunState()
    state.record(report(hand_out(state, 1), {0: failure(type="piecework.ExecutorBroken")}), now=0)
    assert (state.stopped, state.failed) == ("", 1)


def test_an_input_that_cannot_be_drawn_ends_the_run_with_its_error() -> None:
    state = RunState(Retry(1))
    batch = hand_out(state, 1)
    error = ValueError("cannot draw")
    state.end(error)
    assert not state.finished
    state.record(report(batch, {0: failure()}), now=0)
    state.record(report(again(state, 0)), now=0)
    assert state.finished
    assert (state.stopped, state.error, state.done) == ("input", error, 1)
    state.check()


def test_the_audit_raises_where_a_task_is_unaccounted_for() -> None:
    state = RunState()
    batch = hand_out(state, 2)
    state.record(report(batch, count=1), now=0)
    state.end()
    with pytest.raises(PieceworkError, match="the audit does not close: 1 running"):
        state.check()


def test_repeats_and_executions_are_counted() -> None:
    state = RunState()
    state.record(report(hand_out(state, 5), repeats=3), now=0)
    assert (state.executions, state.repeats, state.done) == (8, 3, 5)


def test_memory_stays_flat_over_five_million_inputs() -> None:
    state = RunState()
    values: list[Any] = [None] * 5000
    inputs: list[Any] = [None] * 5000

    def play(batches: int) -> None:
        for _ in range(batches):
            indexes = state.draw(5000)
            state.start(indexes)
            batch = Batch(0, indexes, inputs)
            state.record(Report(batch, 0, values, {}, [(5000, 0.004)], "w"), now=0)

    play(50)
    tracemalloc.start()
    play(1000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1_000_000
    assert state.done == 5_250_000


def recalled(state: RunState, count: int, failed: Failure | None = None, **how: bool) -> Piece:
    inputs = [f"input {index}" for index in range(state.drawn, state.drawn + count)]
    failures = {} if failed is None else {0: failed}
    return state.recall(Piece(0, [None] * count, failures, inputs), **how)


def test_what_is_recalled_is_settled_and_was_not_run() -> None:
    state = RunState()
    assert recalled(state, 3).start == 0
    batch = hand_out(state, 2)
    assert recalled(state, 1, failure()).start == 5
    recalled(state, 1, LOST, quarantined=True)
    state.record(report(batch), now=0)
    state.end()
    assert (state.done, state.failed, state.quarantined, state.recalled) == (5, 1, 1, 5)
    assert (state.executions, state.timings.tasks, state.finished) == (2, 2, True)
    assert [result.recalled for result in state.failures] == [True, True]
    state.check()


def test_recalled_failures_halt_nothing() -> None:
    state = RunState(halt=Halt(count=2))
    for _ in range(5):
        recalled(state, 1, failure())
    state.record(report(hand_out(state, 2), {0: failure()}), now=0)
    assert not state.stopping
    state.record(report(hand_out(state, 2), {0: failure()}), now=0)
    assert state.stopped == "halted"


def test_a_failure_is_final_unless_attempts_were_left_when_the_run_was_stopped() -> None:
    state = RunState(Retry(1))
    first, waiting = hand_out(state, 1), hand_out(state, 1)
    state.record(report(first, {0: failure()}), now=0)
    state.record(report(again(state, 0), {0: failure()}), now=0)
    assert state.unfinal == set()
    state.record(report(waiting, {0: failure()}), now=0)
    running = hand_out(state, 1)
    state.stop("cancelled")
    state.record(report(running, {0: failure()}), now=0)
    assert (state.failed, state.unfinal) == (3, {1, 2})


def test_a_worker_that_we_ended_blames_no_task() -> None:
    state = RunState()
    batch = hand_out(state, 1)
    state.stop("interrupted")
    state.killing = True
    state.record(report(batch, {0: LOST}), now=0)
    assert (state.failed, state.unfinal) == (1, {0})


# -- any order of events ----------------------------------------------------------------------

FATES: list[Callable[[], Failure] | None] = [
    None,
    None,
    failure,
    lambda: LOST,
    lambda: failure(cause="timeout"),
    lambda: failure(cause="pickle"),
    lambda: failure(cause="cancelled"),
]


class Play:
    """A master, workers and a network that deliver in any order, late and twice."""

    def __init__(self, data: st.DataObject, retries: int, halt: Halt | None) -> None:
        self.data = data
        self.now = 0.0
        self.state = RunState(Retry(retries, backoff=Backoff(1.0)), halt=halt)
        self.out: list[tuple[Batch, int]] = []  # batches with the position to report from
        self.sent: list[Report] = []
        self.undrawn: list[range] = []
        self.seen: dict[int, bool] = {}
        self.recalled = 0

    def settle(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            assert len(piece.values) == len(piece.inputs)
            for position in range(len(piece)):
                index = piece.start + position
                assert index not in self.seen, f"{index} settled twice"
                assert piece.inputs[position] == f"input {index}"
                self.seen[index] = position not in piece.failures

    def draw(self) -> None:
        if not self.state.stopping and not self.state.ended:
            batch = hand_out(self.state, self.data.draw(st.integers(1, 6), "count"))
            self.out.append((batch, 0))

    def draw_ahead(self) -> None:
        if not self.state.stopping and not self.state.ended:
            self.undrawn.append(self.state.draw(self.data.draw(st.integers(1, 3))))

    def report_some(self) -> None:
        if not self.out:
            return
        which = self.data.draw(st.integers(0, len(self.out) - 1), "which")
        batch, offset = self.out.pop(which)
        count = self.data.draw(st.integers(1, len(batch) - offset), "reported")
        fates = self.data.draw(st.lists(st.sampled_from(FATES), min_size=count, max_size=count))
        failures = {offset + i: fate() for i, fate in enumerate(fates) if fate is not None}
        sent = report(batch, failures, offset, count)
        self.sent.append(sent)
        self.settle(self.state.record(sent, self.now, lambda: 0.5))
        if offset + count < len(batch):
            self.out.append((batch, offset + count))

    def deliver_again(self) -> None:
        if self.sent:
            sent = self.data.draw(st.sampled_from(self.sent))
            self.settle(self.state.record(sent, self.now, lambda: 0.5))

    def wait(self) -> None:
        self.now += self.data.draw(st.floats(0, 3))
        while tasks := self.state.due(self.now, 3):
            indexes = tuple(task.index for task in tasks)
            assert not tasks[0].alone or len(tasks) == 1
            payloads = [task.payload for task in tasks]
            self.out.append((Batch(0, indexes, payloads, tasks[0].attempt, tasks[0].alone), 0))

    def recall(self) -> None:
        if self.state.stopping or self.state.ended:
            return
        fate = self.data.draw(st.sampled_from(["done", "failed", "quarantined"]), "recalled")
        count = self.data.draw(st.integers(1, 4)) if fate == "done" else 1
        first = self.state.drawn
        inputs = [f"input {index}" for index in range(first, first + count)]
        failures = {} if fate == "done" else {0: failure()}
        piece = Piece(0, [None] * count, failures, inputs)
        self.settle([self.state.recall(piece, quarantined=fate == "quarantined")])
        self.recalled += count

    def stop(self) -> None:
        self.state.killing = self.data.draw(st.booleans(), "kill")
        self.settle(self.state.stop("cancelled"))

    def end(self) -> None:
        self.state.end()

    def finish(self) -> None:
        """Let everything that is out come back; then nothing may be missing."""
        self.state.end()
        for indexes in self.undrawn:
            self.settle(self.state.cancel(indexes, [f"input {i}" for i in indexes]))
        while not self.state.finished:
            self.now += 100
            self.wait()
            while self.out:
                self.report_some()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_audit_holds_in_any_order_of_events(data: st.DataObject) -> None:
    halt = data.draw(st.sampled_from([None, Halt(count=3), Halt(share=0.2)]))
    play = Play(data, data.draw(st.integers(0, 3), "retries"), halt)
    steps = [
        Play.draw, Play.draw, Play.draw, Play.draw_ahead, Play.report_some, Play.report_some,
        Play.report_some, Play.deliver_again, Play.wait, Play.wait, Play.stop, Play.end,
        Play.recall,
    ]  # fmt: skip
    weights = data.draw(st.lists(st.sampled_from(steps), max_size=40), "steps")
    for step in weights:
        step(play)
    play.finish()
    state = play.state
    state.check()
    assert sorted(play.seen) == list(range(state.drawn))
    assert sum(play.seen.values()) == state.done
    assert state.recalled == play.recalled <= state.settled
    failed = set(state.failures.indexes)
    assert state.in_quarantine <= failed
    assert state.unfinal <= failed
    assert state.unfinal.isdisjoint(state.in_quarantine)
    assert not state.unfinal or state.stopping
    assert state.drawn == state.done + state.failed + state.quarantined + state.cancelled
