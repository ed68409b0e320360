"""Feeder: draws what was asked for, in its own thread or the caller's, and hands over early."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from piecework.feeder import Feeder, Swift, is_swift, known_length


class Told:
    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self) -> None:
        self.event.set()

    def wait(self) -> None:
        assert self.event.wait(10)
        self.event.clear()


def all_from(feeder: Feeder, told: Told, most: int = 10) -> list[Any]:
    items: list[Any] = []
    while not feeder.ended:
        taken = feeder.take(most)
        items.extend(taken)
        if not taken and not feeder.ended:
            told.event.wait(feeder.poll_seconds or 1)
            told.event.clear()
    return items


def test_a_thread_draws_everything_in_order() -> None:
    told = Told()
    feeder = Feeder((x for x in range(1000)), told)
    feeder.start()
    assert all_from(feeder, told) == [*range(1000)]
    assert feeder.error is None


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    drawn: list[int] = []
    told = Told()
    feeder = Feeder((drawn.append(x) or x for x in range(1000)), told)
    feeder.start()
    assert drawn == []
    assert feeder.take(3) == []
    told.wait()
    assert feeder.take(3) == [0, 1, 2]
    assert drawn == [0, 1, 2]
    assert feeder.ahead == 0
    feeder.close()


def test_what_is_to_be_ready_next_is_drawn_ahead() -> None:
    told = Told()
    feeder = Feeder((x for x in range(1000)), told)
    feeder.start()
    feeder.take(2)
    told.wait()
    assert feeder.take(2, 5) == [0, 1]
    assert feeder.ahead == 5
    told.wait()
    assert feeder.take(5) == [2, 3, 4, 5, 6]
    feeder.close()


def test_without_a_thread_the_caller_draws() -> None:
    feeder = Feeder((x for x in range(5)), lambda: None)
    assert not feeder.wanting
    assert feeder.take(3) == []
    assert feeder.wanting
    while feeder.step():
        pass
    assert feeder.take(3) == [0, 1, 2]


def test_items_are_there_while_the_source_keeps_waiting_for_the_next() -> None:
    gate, told = threading.Event(), Told()
    reached = threading.Event()

    def source() -> Iterator[int]:
        yield from range(7)
        reached.set()
        gate.wait(30)
        yield 7

    feeder = Feeder(source(), told)
    feeder._pace = 100  # as for a source that was swift so far
    feeder.start()
    assert feeder.take(50) == []
    assert reached.wait(10)
    while not (items := feeder.take(50)):
        assert feeder.poll_seconds is not None
        threading.Event().wait(feeder.poll_seconds)
    assert items == [*range(7)]
    gate.set()
    assert all_from(feeder, told) == [7]


def test_an_input_that_raises_ends_the_drawing_after_those_before_it() -> None:
    def source() -> Iterator[int]:
        yield from range(3)
        raise OSError("disk gone")

    told = Told()
    feeder = Feeder(source(), told)
    feeder.start()
    assert all_from(feeder, told) == [0, 1, 2]
    assert isinstance(feeder.error, OSError)


def test_closing_gives_back_what_was_not_taken_and_closes_the_generator() -> None:
    told, closed = Told(), threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    feeder = Feeder(source(), told)
    feeder.start()
    feeder.take(4)
    told.wait()
    assert feeder.close() == [0, 1, 2, 3]
    assert closed.wait(10)
    assert feeder.take(4) == []


def test_ctrl_c_in_a_source_that_the_caller_draws_is_the_callers() -> None:
    def source() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    feeder = Feeder(source(), lambda: None)
    feeder.take(5)
    feeder.step()
    with pytest.raises(KeyboardInterrupt):
        feeder.step()
    assert feeder.close() == [0]


def test_containers_are_drawn_from_at_once() -> None:
    swift = Swift([1, 2, 3])
    assert swift.total == 3
    assert swift.take(2) == [1, 2]
    assert not swift.ended
    assert swift.take(2) == [3]
    assert swift.ended


def test_a_dict_that_changes_while_it_is_drawn_from_ends_with_its_error() -> None:
    inputs = {1: 1, 2: 2}
    swift = Swift(inputs)
    assert swift.take(1) == [1]
    inputs[3] = 3
    assert swift.take(1) == []
    assert isinstance(swift.error, RuntimeError)
    assert swift.ended


def test_only_builtin_containers_are_trusted_not_to_block() -> None:
    class Mine(list[int]): ...

    assert is_swift([])
    assert is_swift(range(3))
    assert not is_swift(Mine())
    assert not is_swift(iter([]))


def test_a_length_is_known_where_the_inputs_tell_it() -> None:
    class Odd:
        def __len__(self) -> int:
            raise OSError

    assert known_length([1, 2]) == 2
    assert known_length(iter([1])) is None
    assert known_length(Odd()) is None  # type: ignore[arg-type]
