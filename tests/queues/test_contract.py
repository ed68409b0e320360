"""What every queue must do. Another queue is one more parameter of the fixture."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from piecework.queues.base import Lease, Queue
from piecework.queues.memory import MemoryQueue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Make(Protocol):
    def __call__(self, maxsize: int = 0, lease_seconds: float | None = None) -> Queue[Any]: ...


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory"])
def make(request: pytest.FixtureRequest, clock: Clock) -> Make:
    def memory(maxsize: int = 0, lease_seconds: float | None = None) -> Queue[Any]:
        return MemoryQueue(maxsize, lease_seconds=lease_seconds, clock=clock)

    return {"memory": memory}[request.param]


def leased(queue: Queue[Any], **how: Any) -> Lease[Any]:
    lease = queue.lease(**how)
    assert lease is not None
    return lease


def test_values_are_leased_in_the_order_they_were_put(make: Make) -> None:
    queue = make()
    for value in "abc":
        assert queue.put(value)
    assert [leased(queue).value for _ in range(3)] == ["a", "b", "c"]
    assert queue.lease() is None


def test_an_acked_value_never_comes_back(make: Make, clock: Clock) -> None:
    queue = make(lease_seconds=10)
    queue.put("a")
    assert leased(queue).ack()
    clock.now += 100
    assert queue.lease() is None


def test_an_ack_counts_once(make: Make) -> None:
    queue = make()
    queue.put("a")
    lease = leased(queue)
    assert lease.ack()
    assert not lease.ack()
    assert not lease.nack()
    assert not lease.extend(5)
    assert queue.lease() is None


def test_a_nacked_value_is_leased_again_at_once(make: Make) -> None:
    queue = make()
    queue.put("a")
    first = leased(queue)
    assert first.nack()
    second = leased(queue)
    assert (first.delivery, second.value, second.delivery) == (1, "a", 2)
    assert not first.ack()
    assert second.ack()


def test_a_nacked_value_waits_out_its_delay(make: Make, clock: Clock) -> None:
    queue = make()
    queue.put("a")
    leased(queue).nack(delay_seconds=5)
    assert queue.lease() is None
    assert queue.wakeup() == pytest.approx(5)
    clock.now += 5
    assert leased(queue).delivery == 2


def test_an_expired_lease_is_given_to_another_and_its_ack_is_refused(
    make: Make, clock: Clock
) -> None:
    queue = make(lease_seconds=10)
    queue.put("a")
    first = leased(queue)
    clock.now += 9
    assert queue.lease() is None
    clock.now += 1
    second = leased(queue)
    assert (second.value, second.delivery) == ("a", 2)
    assert not first.ack()
    assert second.ack()


def test_an_ack_after_the_deadline_is_refused_though_nobody_leased_since(
    make: Make, clock: Clock
) -> None:
    queue = make(lease_seconds=10)
    queue.put("a")
    first = leased(queue)
    clock.now += 11
    assert not first.ack()
    assert leased(queue).delivery == 2


def test_an_extended_lease_stands_until_its_new_deadline(make: Make, clock: Clock) -> None:
    queue = make(lease_seconds=10)
    queue.put("a")
    lease = leased(queue)
    clock.now += 9
    assert lease.extend(10)
    clock.now += 9
    assert queue.lease() is None
    assert lease.ack()
    clock.now += 100
    assert queue.lease() is None


def test_without_a_lease_time_no_lease_expires(make: Make, clock: Clock) -> None:
    queue = make()
    queue.put("a")
    lease = leased(queue)
    clock.now += 1e9
    assert queue.lease() is None
    assert lease.ack()


def test_a_full_queue_refuses_until_something_is_leased(make: Make) -> None:
    queue = make(maxsize=2)
    assert queue.room() == 2
    assert queue.put("a")
    assert queue.put("b")
    assert queue.room() == 0
    assert not queue.put("c")
    leased(queue)
    assert queue.room() == 1
    assert queue.put("c")


def test_a_closed_queue_takes_nothing_and_gives_what_it_has(make: Make) -> None:
    queue = make()
    queue.put("a")
    queue.close()
    with pytest.raises(ValueError, match="closed"):
        queue.put("b")
    assert leased(queue).ack()
    assert queue.lease(timeout=None) is None


def test_whoever_subscribed_is_told_of_values_and_of_room(make: Make) -> None:
    told: list[str] = []
    queue = make(maxsize=1)
    queue.subscribe(filled=lambda: told.append("filled"), emptied=lambda: told.append("emptied"))
    queue.put("a")
    assert told == ["filled"]
    lease = leased(queue)
    assert told == ["filled", "emptied"]
    lease.nack()
    assert told == ["filled", "emptied", "filled"]


def test_a_subscriber_may_use_the_queue(make: Make) -> None:
    queue = make()
    seen: list[str] = []
    queue.subscribe(filled=lambda: seen.append(leased(queue).value))
    queue.put("a")
    assert seen == ["a"]


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_a_waiting_lease_gets_what_is_put(make: Make) -> None:
    queue = make()
    thread, answers = in_thread(lambda: queue.lease(timeout=None))
    queue.put("a")
    thread.join(5)
    assert answers[0].value == "a"


def test_a_waiting_put_goes_on_when_there_is_room(make: Make) -> None:
    queue = make(maxsize=1)
    queue.put("a")
    thread, answers = in_thread(lambda: queue.put("b", timeout=None))
    assert leased(queue).value == "a"
    thread.join(5)
    assert answers == [True]
    assert leased(queue).value == "b"


def test_closing_wakes_who_waits(make: Make) -> None:
    queue = make(maxsize=1)
    thread, answers = in_thread(lambda: queue.lease(timeout=None))
    queue.close()
    thread.join(5)
    assert answers == [None]


def test_a_wait_ends_with_its_timeout() -> None:
    queue: MemoryQueue[str] = MemoryQueue(maxsize=1)
    assert queue.lease(timeout=0.001) is None
    queue.put("a")
    assert not queue.put("b", timeout=0.001)


def test_many_threads_lease_each_value_once(make: Make) -> None:
    queue = make(maxsize=10)
    seen: list[int] = []

    def work() -> None:
        while (lease := queue.lease(timeout=None)) is not None:
            if lease.value % 7 == 0 and lease.delivery == 1:
                lease.nack()
            elif lease.ack():
                seen.append(lease.value)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1000):
        assert queue.put(number, timeout=None)
    queue.close()
    for thread in threads:
        thread.join(10)
    assert sorted(seen + list(iter(lambda: drained(queue), None))) == list(range(1000))


def drained(queue: Queue[Any]) -> int | None:
    lease = queue.lease()
    return None if lease is None else lease.value
