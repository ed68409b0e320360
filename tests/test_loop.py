"""The control loop: who turns it, what wakes it, and signals that cannot tear it."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from piecework.loop import READ, WRITE, Loop

LONG = 10.0  # seconds that nothing here takes unless it hangs


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop("test")
    yield loop
    loop.close()
    loop.join(LONG)


@pytest.fixture
def started(loop: Loop) -> Loop:
    loop.start()
    return loop


@pytest.fixture
def pair(loop: Loop) -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs
        loop.close()
        loop.join(LONG)


def never() -> bool:
    return False


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def held_by_nobody(loop: Loop) -> bool:
    """True where another thread can take the lock now."""
    free: list[bool] = []

    def look() -> None:
        free.append(loop.lock.acquire(timeout=0.2))
        if free[0]:
            loop.lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return free[0]


# -- callbacks --------------------------------------------------------------------------------


def test_a_callback_runs_in_the_thread_that_drives(loop: Loop) -> None:
    ran: list[int] = []
    loop.call_soon(lambda: ran.append(threading.get_ident()))
    assert loop.drive(lambda: bool(ran), LONG)
    assert ran == [threading.get_ident()]


def test_nobody_drives_and_the_background_thread_runs_it(started: Loop) -> None:
    ran: Future[str] = Future()
    started.call_soon(lambda: ran.set_result(threading.current_thread().name))
    assert ran.result(LONG) == "test-control"


def test_callbacks_run_with_the_lock_held_and_after_without(loop: Loop) -> None:
    seen: dict[str, bool] = {}

    def callback() -> None:
        seen["callback"] = held_by_nobody(loop)
        loop.after(lambda: seen.update(after=held_by_nobody(loop)))

    loop.call_soon(callback)
    assert loop.drive(lambda: "after" in seen, LONG)
    assert seen == {"callback": False, "after": True}


def test_what_callbacks_ask_for_runs_in_order(loop: Loop) -> None:
    ran: list[int] = []

    def first() -> None:
        loop.call_soon(ran.append, 3)
        ran.append(1)

    loop.call_soon(first)
    loop.call_soon(ran.append, 2)
    assert loop.drive(lambda: len(ran) == 3, LONG)
    assert ran == [1, 2, 3]


def test_a_fault_in_a_callback_is_told_and_the_loop_goes_on(started: Loop) -> None:
    told: Future[BaseException] = Future()
    went_on: Future[bool] = Future()
    started.on_error = told.set_result
    started.call_soon(lambda: 1 // 0)
    assert isinstance(told.result(LONG), ZeroDivisionError)
    started.call_soon(went_on.set_result, True)
    assert went_on.result(LONG)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
def test_whatever_a_users_callback_raises_the_background_thread_goes_on(
    started: Loop, error: type[BaseException]
) -> None:
    def rude() -> None:
        raise error

    went_on: Future[bool] = Future()
    started.after(rude)
    started.call_soon(lambda: None)
    started.after(went_on.set_result, True)
    assert went_on.result(LONG)


# -- channels ---------------------------------------------------------------------------------


def test_a_readable_channel_calls_back(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    got: list[bytes] = []
    loop.register(ours.fileno(), READ, lambda _: got.append(ours.recv(9)))
    theirs.send(b"hello")
    assert loop.drive(lambda: bool(got), LONG)
    assert got == [b"hello"]


def test_a_channel_unregistered_by_another_callback_of_the_turn_is_not_called(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    called: list[int] = []

    def only_once(number: int, other: int) -> None:
        called.append(number)
        loop.unregister(other)
        loop.unregister(number)

    a, b = (sock.fileno() for sock in pair)
    loop.register(a, WRITE, lambda _: only_once(a, b))
    loop.register(b, WRITE, lambda _: only_once(b, a))
    assert loop.drive(lambda: bool(called), LONG)
    loop.drive(never, 0.01)
    assert len(called) == 1


def test_a_channel_registered_while_the_background_thread_sleeps_is_seen(
    started: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    got: Future[bytes] = Future()

    def read(_: int) -> None:
        if not got.done():  # rule 3: it may be called when there is nothing to read
            got.set_result(ours.recv(9))

    with started.lock:
        started.register(ours.fileno(), READ, read)
    theirs.send(b"x")
    assert got.result(LONG) == b"x"


# -- timers -----------------------------------------------------------------------------------


def test_timers_run_in_the_order_of_their_times_and_cancelled_ones_never(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_later(0.02, ran.append, "second")
    loop.call_later(0.01, ran.append, "first")
    loop.call_later(0.015, ran.append, "never").cancel()
    loop.call_later(0.03, ran.append, "third")
    assert loop.drive(lambda: len(ran) == 3, LONG)
    assert ran == ["first", "second", "third"]


def test_a_timer_set_by_another_thread_shortens_the_sleep_of_the_driver(loop: Loop) -> None:
    ran: list[float] = []
    loop.call_later(600, ran.append, 0)
    threading.Thread(target=lambda: loop.call_later(0.01, ran.append, 1)).start()
    assert loop.drive(lambda: bool(ran), LONG)
    assert ran == [1]


def test_a_timer_shortens_the_sleep_of_the_background_thread(started: Loop) -> None:
    ran: Future[int] = Future()
    started.call_later(600, ran.set_result, 0)
    started.call_later(0.01, ran.set_result, 1)
    assert ran.result(LONG) == 1


def test_a_timer_that_a_driver_leaves_behind_is_run_by_the_background_thread(
    started: Loop,
) -> None:
    ran: Future[int] = Future()
    started.call_soon(lambda: started.call_later(0.05, ran.set_result, 1))
    started.drive(never, 0.01)
    assert ran.result(LONG) == 1


def test_an_idle_loop_costs_no_processor_time(started: Loop) -> None:
    over: Future[bool] = Future()
    before = time.process_time()
    started.call_later(0.3, over.set_result, True)
    assert over.result(LONG)
    assert time.process_time() - before < 0.1


# -- driving ----------------------------------------------------------------------------------


def test_driving_ends_with_its_timeout_and_says_so(loop: Loop) -> None:
    before = time.monotonic()
    assert loop.drive(never, 0.02) is False
    assert 0.02 <= time.monotonic() - before < LONG
    assert loop.drive(lambda: True, 0) is True


def test_any_number_of_threads_wait_and_each_returns_when_its_own_is_done(loop: Loop) -> None:
    done: set[int] = set()
    ended: list[bool] = []

    def wait(number: int) -> None:
        ended.append(loop.drive(lambda: number in done, LONG))

    threads = [threading.Thread(target=wait, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    order = list(range(8))
    random.Random(1).shuffle(order)
    for number in order:
        loop.call_soon(done.add, number)
        threads[number].join(LONG)
        assert not threads[number].is_alive(), f"number {number} was done, its thread waits on"
    assert ended == [True] * 8


def test_a_waiting_thread_ends_in_time_while_another_drives(loop: Loop) -> None:
    stop: list[int] = []
    driver = threading.Thread(target=loop.drive, args=(lambda: bool(stop), LONG))
    driver.start()
    before = time.monotonic()
    assert loop.drive(never, 0.05) is False
    assert time.monotonic() - before < 5
    loop.call_soon(stop.append, 1)
    driver.join(LONG)


def test_asking_again_and_again_without_waiting_lets_others_turn(
    started: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    """`future.result(timeout=0)` in a loop must not keep the result from coming."""
    ours, theirs = pair
    got: list[bytes] = []

    def read(_: int) -> None:
        try:
            got.append(ours.recv(9))
        except BlockingIOError:  # rule 3
            pass

    with started.lock:
        started.register(ours.fileno(), READ, read)
    theirs.send(b"x")
    until = time.monotonic() + LONG
    while not started.drive(lambda: bool(got), 0):
        assert time.monotonic() < until, "polled for ever"


def test_no_wake_up_is_lost_between_many_threads(started: Loop) -> None:
    """A wake-up that is taken away with another one must not silence the next."""
    called: list[int] = []

    def feed(calls: int = 3000) -> None:
        for _ in range(calls):
            started.call_soon(called.append, 1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            called.clear()
            threads = [threading.Thread(target=feed) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert started.drive(lambda: len(called) == 9000, LONG)
            seen = threading.Event()
            started.call_soon(seen.set)  # nobody drives: the background thread must wake
            assert seen.wait(5), "call_soon woke nobody"
    finally:
        sys.setswitchinterval(interval)


# -- signals ----------------------------------------------------------------------------------


def test_a_signal_handler_runs_between_two_turns_and_may_raise(loop: Loop) -> None:
    class Stop(Exception):
        pass

    free: list[bool] = []
    in_callback: list[bool] = []

    def handler(number: int, frame: object) -> None:
        free.append(held_by_nobody(loop))
        raise Stop

    def callback() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        in_callback.append(bool(free))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        loop.call_soon(callback)
        with pytest.raises(Stop):
            loop.drive(never, LONG)
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert in_callback == [False]
    assert free == [True]


def test_a_handler_that_returns_lets_the_wait_go_on(loop: Loop) -> None:
    seen: list[int] = []
    done: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.call_later(0.02, done.append, 1)
        assert loop.drive(lambda: bool(done), LONG)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


STORM = """
import os, random, signal, sys, threading, time
from piecework.loop import Loop

class Hit(Exception):
    pass

counts = {number: 0 for number in (signal.SIGUSR1, signal.SIGUSR2)[: int(sys.argv[1])]}
def handler(number, frame):
    counts[number] += 1
    raise Hit

for number in counts:
    signal.signal(number, handler)
loop = Loop()
rounds = 400
go = threading.Semaphore(0)

def send():
    dice = random.Random(3)
    for _ in range(rounds):
        go.acquire()
        until = time.perf_counter() + dice.random() * 400e-6
        while time.perf_counter() < until:
            pass
        for number in counts:
            os.kill(os.getpid(), number)

sender = threading.Thread(target=send, daemon=True)
sender.start()
for turn in range(1, rounds + 1):
    go.release()
    until = time.monotonic() + 10
    while min(counts.values()) < turn:
        try:
            while min(counts.values()) < turn:
                assert time.monotonic() < until, f"a signal was lost: {counts}, round {turn}"
                loop.drive(lambda: False, 0.0003)
        except Hit:
            pass
sender.join()
for number in counts:
    assert signal.getsignal(number) is handler, "a handler was not put back"
done = []
loop.call_soon(done.append, 1)
assert loop.drive(lambda: bool(done), 5), "nobody turns the loop any more"
print("fine")
"""


@pytest.mark.parametrize("signals", ["1", "2"])
def test_signals_at_any_moment_leave_loop_and_handlers_whole(signals: str) -> None:
    """Every signal reaches its handler once, wherever in `drive` the main thread is."""
    ended = subprocess.run(
        [sys.executable, "-c", STORM, signals],
        capture_output=True,
        text=True,
        timeout=60,
        env=with_source(),
    )
    assert ended.stdout == "fine\n", ended.stderr


def with_source() -> dict[str, str]:
    import piecework

    return {**os.environ, "PYTHONPATH": str(Path(piecework.__file__).parents[1])}


# -- the end ----------------------------------------------------------------------------------


def test_a_closed_loop_lets_everybody_go(started: Loop) -> None:
    ended: list[Any] = []
    threads = [
        threading.Thread(target=lambda: ended.append(started.drive(never, None))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    started.call_later(0.01, started.close)
    for thread in threads:
        thread.join(LONG)
    assert ended == [False] * 3
    started.join(LONG)
    started.close()  # again: nothing happens


def test_closing_in_the_turn_that_also_takes_a_wake_up_ends_the_background_thread(
    started: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair

    def both() -> None:
        theirs.send(b"x")
        started.wake()

    with started.lock:
        started.register(ours.fileno(), READ, lambda _: started.close())
    started.call_soon(both)
    started.drive(lambda: started.closed, LONG)
    ended = threading.Thread(target=started.join)
    ended.start()
    ended.join(5)
    assert not ended.is_alive(), "the background thread waits for ever"


def test_a_loop_that_was_never_started_can_be_closed_from_its_own_callback() -> None:
    loop = Loop("short")
    loop.after(loop.close)
    assert loop.drive(lambda: loop.closed, 5)


def test_closed_loops_leave_no_descriptor_and_no_thread() -> None:
    before, threads = descriptors(), threading.active_count()
    for number in range(50):
        loop = Loop("many")
        if number % 2:
            loop.start()
        loop.call_soon(lambda: None)
        loop.drive(never, 0)
        loop.close()
        loop.join(LONG)
    assert descriptors() == before
    assert threading.active_count() == threads


def test_a_dropped_loop_that_was_never_started_leaves_no_descriptor() -> None:
    before = descriptors()
    for _ in range(50):
        Loop("dropped")
    gc.collect()
    assert descriptors() == before


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_its_copy_closed_and_the_parent_goes_on(started: Loop) -> None:
    told: list[int] = []
    started.on_fork = lambda: told.append(os.getpid())
    pid = os.fork()
    if pid == 0:
        fine = started.closed and told == [os.getpid()] and started.drive(never, 5) is False
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    went_on: Future[bool] = Future()
    started.call_soon(went_on.set_result, True)
    assert went_on.result(LONG)
    assert told == []


def test_a_driver_is_told_of_what_another_thread_ran_for_it(loop: Loop) -> None:
    begun, looked, gate, over = (threading.Event() for _ in range(4))

    def slow() -> None:
        begun.set()
        gate.wait(LONG)
        over.set()

    def done() -> bool:
        if begun.is_set():
            looked.set()
        return over.is_set()

    def other() -> None:
        with loop.entered():
            loop.after(slow)

    seconds: list[float] = []

    def drive() -> None:
        start = time.monotonic()
        loop.drive(done, LONG)
        seconds.append(time.monotonic() - start)

    driver, runner = threading.Thread(target=drive), threading.Thread(target=other)
    with loop.lock:  # so that the driver does not run it
        driver.start()
        runner.start()
    begun.wait(LONG)
    looked.wait(LONG / 10)  # where the driver itself runs it, it cannot look
    gate.set()
    driver.join(LONG)
    runner.join(LONG)
    assert seconds[0] < LONG


def test_a_callback_may_wait_while_its_thread_drives(loop: Loop) -> None:
    got: list[bool] = []
    inner, outer = threading.Event(), threading.Event()

    def callback() -> None:
        loop.call_later(0.01, inner.set)
        got.append(loop.drive(inner.is_set, LONG / 2))
        outer.set()

    loop.call_later(0.01, loop.after, callback)
    assert loop.drive(outer.is_set, LONG)
    assert got == [True]
