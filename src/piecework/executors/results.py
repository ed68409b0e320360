"""Frames of results: decoded, and shared out to the works that they belong to.

The usual frame belongs to one batch and is handed over whole. A value that was pickled by itself
is unpickled by itself: what cannot be is a failure of its task alone.
"""

from __future__ import annotations

from piecework import codec
from piecework.executors import channel
from piecework.executors.work import BatchWork, Timings, Work
from piecework.executors.worker_process import Line
from piecework.failures import failure_from
from piecework.lean import pickle
from piecework.loop import Loop
from piecework.record import record
from piecework.task import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record(slots=True)
class Outcome:
    """A decoded frame: `failures` by task number."""

    first: int
    values: list[Any]
    failures: dict[int, Failure]
    timings: Timings
    cpu: float
    nbytes: int


def decode(frame: channel.Frame) -> Outcome:
    values, failures, timings, cpu = pickle.loads(frame.body)
    nbytes = len(frame.body)
    if frame.flags & channel.PER_ITEM:
        nbytes += sum(len(buffer) for buffer in frame.buffers)
        _unpack(values, frame, failures)
    return Outcome(frame.first, values, failures, timings, cpu, nbytes)


def _unpack(values: list[Any], frame: channel.Frame, failures: dict[int, Failure]) -> None:
    at = 0
    for offset, packed in enumerate(values):
        if packed is None:
            continue
        data, count = packed
        buffers = frame.buffers[at : at + count]
        at += count
        try:
            values[offset] = codec.loads(data, buffers)
        except BaseException as error:
            failures[frame.first + offset] = failure_from(error, cause="pickle")
            values[offset] = None
    frame.buffers.clear()


def deliver(line: Line, outcome: Outcome, loop: Loop) -> None:
    """Take the outcome off the line's books and tell the works, each its own part."""
    count = len(outcome.values)
    if not line.holds(outcome.first, count):
        _deliver_stray(line, outcome, loop)
        return
    sent = line.sent[0]
    if count <= sent.count and isinstance(sent.work, BatchWork):
        _deliver_whole(line, sent.work, sent.start, outcome)
    else:
        _deliver_parts(line, outcome, loop)


def _deliver_whole(line: Line, work: BatchWork, start: int, outcome: Outcome) -> None:
    line.settle(len(outcome.values))
    failures = outcome.failures
    if failures:
        shift = start - outcome.first
        failures = {number + shift: failure for number, failure in failures.items()}
    for count, seconds in outcome.timings:
        if seconds:
            work.call.learn(count, seconds)
    work.deliver(
        start,
        outcome.values,
        failures,
        outcome.timings,
        line.worker.name,
        outcome.nbytes,
        outcome.cpu,
    )


def _deliver_parts(line: Line, outcome: Outcome, loop: Loop) -> None:
    """Results of several works in one frame."""
    mean = _mean(outcome)
    number = outcome.first
    for sent, start, count in line.settle(len(outcome.values)):
        sent.work.call.learn(count, mean * count)
        for position in range(start, start + count):
            _deliver_one(line, sent.work, position, outcome, number, mean, loop)
            number += 1


def _deliver_stray(line: Line, outcome: Outcome, loop: Loop) -> None:
    """Results that do not begin where the books do: coroutines end in any order."""
    mean = _mean(outcome)
    for number in range(outcome.first, outcome.first + len(outcome.values)):
        for stretch in line.cut(number, number + 1):
            stretch.work.call.learn(1, mean)
            _deliver_one(line, stretch.work, stretch.start, outcome, number, mean, loop)


def _mean(outcome: Outcome) -> float:
    return sum(seconds for _, seconds in outcome.timings) / max(len(outcome.values), 1)


def _deliver_one(
    line: Line, work: Work, position: int, outcome: Outcome, number: int, seconds: float, loop: Loop
) -> None:
    value = outcome.values[number - outcome.first]
    failure = outcome.failures.get(number)
    if isinstance(work, BatchWork):
        failures = {} if failure is None else {position: failure}
        work.deliver(position, [value], failures, [(1, seconds)], line.worker.name)
    elif failure is not None:
        loop.after(work.future.fail, failure)
    else:
        loop.after(work.future.set_result, value)
