"""Looking before sleeping: for a little while, and not at all where the processor is wanted."""

from __future__ import annotations

import pytest

from piecework import spin
from piecework.spin import Spin


class Clock:
    """Time that passes only by giving way."""

    def __init__(self, step: float) -> None:
        self.now = 100.0
        self.step = step

    def give_way(self) -> None:
        self.now += self.step


def watched(monkeypatch: pytest.MonkeyPatch, step: float) -> Clock:
    clock = Clock(step)
    monkeypatch.setattr(spin, "_give_way", clock.give_way)
    monkeypatch.setattr(spin.time, "perf_counter", lambda: clock.now)
    return clock


def looks(spinning: Spin) -> int:
    spinning.begin()
    count = 0
    while spinning.goes_on():
        count += 1
    return count


def test_it_looks_for_as_long_as_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    watched(monkeypatch, step=10e-6)
    assert looks(Spin(105e-6)) == 10


def test_where_others_want_the_processor_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = watched(monkeypatch, step=0.002)
    spinning = Spin(0.05)
    assert looks(spinning) == 0
    clock.step = 10e-6
    assert looks(spinning) == 0, "it looked again at once"
    clock.now += 1
    assert looks(spinning) > 0
