"""Exceptions as data and back: never raising, bounded, of the user's own type where possible."""

from __future__ import annotations

import concurrent.futures
import json
import pickle
import subprocess
import sys
import threading
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework import errors, losses
from piecework.failures import MESSAGE_MAX, TRACEBACK_MAX, RemoteTraceback, failure_from, rebuild
from piecework.packing import PICKLED_MAX
from piecework.task import Failure


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as error:
        return error


def through(exc: BaseException) -> BaseException:
    """The exception as it arrives at the consumer: by way of a pickled Failure."""
    return rebuild(pickle.loads(pickle.dumps(failure_from(raised(exc)))))


class OtherInit(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.hint = hint


class NoArgs(Exception):
    def __init__(self) -> None:
        super().__init__("always this")


class HoldsLock(Exception):
    def __init__(self, lock: Any) -> None:
        super().__init__("locked", lock)
        self.lock = lock


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class ExitingStr(Exception):
    def __str__(self) -> str:
        sys.exit(3)


class BadReduce(Exception):
    def __reduce__(self) -> NoReturn:
        raise SystemExit(4)


class BadLoad(Exception):
    def __reduce__(self) -> Any:
        return _refuse, (self.args,)


def _refuse(args: Any) -> NoReturn:
    raise SystemExit(f"will not load {args}")


class ArgThatDoesNotLoad:
    def __reduce__(self) -> Any:
        return _refuse, (1,)

    def __repr__(self) -> str:
        return "<a stubborn argument>"


class BadRepr:
    def __reduce__(self) -> NoReturn:
        raise ValueError

    def __repr__(self) -> str:
        raise ValueError


class BadEverything(Exception):
    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in {"args", "add_note", "__reduce_ex__", "__dict__", "__cause__", "__notes__"}:
            raise KeyboardInterrupt(name)
        return super().__getattribute__(name)


class Slotted(Exception):
    __slots__ = ("where",)


class FalseError(Exception):
    def __bool__(self) -> bool:
        return False


class Frozen(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def add_note(self, note: str) -> None:
        raise AttributeError(note)


# ---------------------------------------------------------------- keeping the type


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("no"),
        KeyError("k"),
        OSError(2, "no such file", "a.txt"),
        ConnectionResetError(104, "reset"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        json.JSONDecodeError("bad", "{", 1),
        ImportError("no", name="x", path="y"),
        StopIteration(3),
        SystemExit(3),
        KeyboardInterrupt(),
        MemoryError(),
        RecursionError("deep"),
        subprocess.CalledProcessError(3, ["a"], output=b"o", stderr=b"e"),
        OtherInit(7, hint="h"),
        NoArgs(),
        Slotted("s"),
        FalseError("f"),
        losses.WorkerLost("gone", signal=9),
        errors.InputError("no", index=4),
        SyntaxError("bad", ("f.py", 3, 1, "x = ", 3, 5)),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_it_arrives_with_its_type_its_text_and_its_attributes(exc: BaseException) -> None:
    text, arguments = str(exc), exc.args
    again = through(exc)
    assert type(again) is type(exc)
    assert str(again) == text
    assert again.args == arguments
    kept = {name: value for name, value in vars(again).items() if name != "__notes__"}
    assert kept == {name: value for name, value in vars(exc).items() if name != "__notes__"}


@given(st.lists(st.none() | st.integers() | st.text() | st.binary(), max_size=4))
def test_arguments_come_back_equal(arguments: list[Any]) -> None:
    assert through(ValueError(*arguments)).args == tuple(arguments)


def test_what_cannot_travel_becomes_text_and_the_type_stays() -> None:
    again = through(HoldsLock(threading.Lock()))
    assert type(again) is HoldsLock
    assert again.args[0] == "locked"
    assert again.args[1].startswith("<unlocked _thread.lock")
    assert again.lock.startswith("<unlocked _thread.lock")
    assert type(through(ValueError(BadRepr()))) is ValueError


@pytest.mark.parametrize("kind", [BadReduce, BadLoad])
def test_a_hostile_reduction_does_not_cost_the_type(kind: type[Exception]) -> None:
    again = through(kind("x"))
    assert type(again) is kind
    assert again.args == ("x",)


def test_an_argument_that_does_not_load_leaves_type_and_message() -> None:
    again = through(ValueError("because", ArgThatDoesNotLoad()))
    assert type(again) is ValueError
    assert str(again) == "('because', <a stubborn argument>)"


def test_a_class_that_this_process_does_not_have_becomes_a_remote_error() -> None:
    failure = failure_from(raised(OtherInit(1, hint="")))
    pickled = failure.pickled.replace(b"OtherInit", b"OtherWhat")
    again = rebuild(Failure(failure.type, failure.message, pickled=pickled, traceback="t"))
    assert type(again) is errors.RemoteError
    assert str(again) == f"{__name__}.OtherInit: code 1"
    assert type(rebuild(Failure("x.Y", "m", pickled=b"no pickle"))) is errors.RemoteError
    assert type(rebuild(Failure("x.Y", "m", pickled=pickle.dumps((pickle.dumps(int), b""))))) is (
        errors.RemoteError
    )


def test_groups_arrive_whole_with_every_member_of_its_type() -> None:
    inner = ExceptionGroup("inner", [OtherInit(2, hint="h"), HoldsLock(threading.Lock())])
    again = through(BaseExceptionGroup("outer", [inner, KeyboardInterrupt(), ValueError(1)]))
    assert isinstance(again, BaseExceptionGroup)
    assert again.message == "outer"
    group, interrupt, value = again.exceptions
    assert isinstance(group, ExceptionGroup)
    assert [type(each) for each in group.exceptions] == [OtherInit, HoldsLock]
    assert type(interrupt) is KeyboardInterrupt
    assert value.args == (1,)


def test_a_class_made_in_a_function_is_the_same_class_on_arrival() -> None:
    class Local(Exception):
        pass

    assert type(through(Local("x"))) is Local


def test_notes_of_the_user_are_kept() -> None:
    exc = ValueError("x")
    exc.add_note("while reading a.txt")
    failure = failure_from(raised(exc))
    assert "while reading a.txt" in failure.traceback
    assert through(exc).__notes__ == ["while reading a.txt"]


# ---------------------------------------------------------------- what it tells


def test_a_failure_tells_type_bases_message_and_place() -> None:
    failure = failure_from(raised(ConnectionResetError("gone")))
    assert failure.type == "ConnectionResetError"
    assert failure.bases == (
        "ConnectionResetError", "ConnectionError", "OSError", "Exception", "BaseException",
    )  # fmt: skip
    assert failure.message == "gone"
    assert failure.where.startswith(f"{__file__}:")
    assert failure.where.endswith(" in raised")
    assert failure_from(errors.TaskTimeout("x")).type == "piecework.TaskTimeout"


def test_the_place_is_in_the_users_code_and_not_in_the_library_it_called() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        failure = failure_from(error)
    assert failure.where.endswith(
        " in test_the_place_is_in_the_users_code_and_not_in_the_library_it_called"
    )
    assert "json/decoder.py" in failure.traceback


def test_frames_of_ours_above_the_users_are_left_out() -> None:
    code = compile("def call(fn): fn()", errors.__file__, "exec")
    space: dict[str, Any] = {}
    exec(code, space)
    try:
        space["call"](lambda: raised_here())
    except ValueError as error:
        told = error
    told.__traceback__ = told.__traceback__.tb_next  # type: ignore[union-attr]  # the test's frame
    failure = failure_from(told)
    assert "errors.py" not in failure.traceback
    assert failure.where.endswith("in raised_here")


def raised_here() -> NoReturn:
    raise ValueError("here")


def test_the_text_shows_the_whole_chain() -> None:
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error
        except ValueError:
            raise ExceptionGroup("third", [OSError("inside")])  # noqa: B904  # the context is tested
    except ExceptionGroup as error:
        text = failure_from(error).traceback
    assert "KeyError: 'first'" in text
    assert "direct cause" in text
    assert "ValueError: second" in text
    assert "During handling" in text
    assert "OSError: inside" in text


def test_the_consumer_sees_where_it_was_raised_and_of_what_task() -> None:
    failure = failure_from(raised(ValueError("no")))
    again = rebuild(failure, index=17, input="a.txt", attempt=2, worker="process 12")
    assert isinstance(again.__cause__, RemoteTraceback)
    assert "in raised" in str(again.__cause__)
    assert again.__notes__ == ["task 17, input 'a.txt', attempt 2, worker process 12"]
    assert not hasattr(rebuild(failure), "__notes__")
    assert rebuild(failure, input=None).__notes__ == ["input None"]


@pytest.mark.parametrize("value", ["x" * 10_000_000, list(range(1_000_000)), BadRepr()])
def test_a_note_shows_large_and_hostile_inputs_briefly(value: object) -> None:
    (note,) = rebuild(failure_from(ValueError()), input=value).__notes__
    assert 10 < len(note) < 300


def test_each_rebuilding_makes_a_new_exception() -> None:
    failure = failure_from(raised(ValueError("no")))
    assert rebuild(failure, index=1) is not rebuild(failure, index=2)
    assert rebuild(failure, index=3).__notes__ == ["task 3"]


# ---------------------------------------------------------------- never raising


@pytest.mark.parametrize(
    "exc",
    [BadStr("x"), ExitingStr("x"), BadReduce("x"), BadLoad("x"), Frozen("x"), BadEverything("x")],
    ids=lambda exc: type(exc).__name__,
)
def test_nothing_an_exception_does_escapes(exc: BaseException) -> None:
    failure = failure_from(raised(exc))
    assert failure.type.endswith(f".{type(exc).__name__}")
    again = rebuild(failure, index=1, input=BadRepr(), attempt=1, worker="w")
    assert isinstance(again, BaseException)


def test_a_message_that_cannot_be_had_is_said_to_be_so() -> None:
    assert failure_from(BadStr()).message == "<its __str__ raised RuntimeError>"
    assert failure_from(ExitingStr()).message == "<its __str__ raised SystemExit>"


def test_an_endless_message_is_cut_and_says_by_how_much() -> None:
    failure = failure_from(raised(ValueError("a" + "x" * 5_000_000 + "z")))
    assert len(failure.message) < MESSAGE_MAX + 100
    assert failure.message.startswith("ax")
    assert failure.message.endswith("xz")
    assert f"[... {5_000_002 - MESSAGE_MAX} characters cut ...]" in failure.message
    assert len(failure.traceback) < TRACEBACK_MAX + 100
    assert len(failure.pickled) < PICKLED_MAX
    assert type(rebuild(failure)) is ValueError


def test_a_chain_of_thousands_and_a_stack_overflow_are_told_in_bounds() -> None:
    exc: BaseException = ValueError("first")
    for _ in range(3000):
        try:
            raise KeyError("again") from exc
        except KeyError as error:
            exc = error
    assert len(failure_from(exc).traceback) < TRACEBACK_MAX + 100

    def down() -> NoReturn:
        down()

    with pytest.raises(RecursionError) as caught:
        down()
    failure = failure_from(caught.value)
    assert failure.type == "RecursionError"
    assert "repeated" in failure.traceback
    assert failure.where.endswith("in down")


def test_no_memory_for_the_traceback_still_names_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: object) -> NoReturn:
        raise MemoryError

    exc = raised(ValueError("no"))
    monkeypatch.setattr("traceback.format_exception", exhausted)
    monkeypatch.setattr("piecework.failures.pack", exhausted)
    failure = failure_from(exc)
    assert (failure.type, failure.message, failure.pickled) == ("ValueError", "no", b"")
    assert "its traceback could not be written: MemoryError" in failure.traceback
    assert type(rebuild(failure)) is errors.RemoteError


# ---------------------------------------------------------------- other causes


def test_each_cause_has_its_error() -> None:
    assert type(rebuild(Failure("x", "too slow", "timeout"))) is errors.TaskTimeout
    assert type(rebuild(Failure("x", "", "cancelled"))) is concurrent.futures.CancelledError
    lost = rebuild(Failure("x", "killed", "memory", signal=9))
    assert type(lost) is losses.WorkerLost
    assert (lost.signal, lost.exitcode, lost.out_of_memory) == (9, None, True)
    left = rebuild(Failure("x", "left", "exit", exitcode=3))
    assert type(left) is losses.WorkerLost
    assert (left.signal, left.exitcode, left.out_of_memory) == (None, 3, False)


def test_a_value_that_did_not_travel_is_cannot_pickle_whatever_was_raised() -> None:
    refused = failure_from(raised(errors.CannotPickle("result: x")), cause="pickle")
    assert (type(rebuild(refused)), str(rebuild(refused))) == (errors.CannotPickle, "result: x")
    plain = failure_from(raised(pickle.PicklingError("no")), cause="pickle")
    assert type(rebuild(plain)) is pickle.PicklingError
    other = rebuild(failure_from(raised(AttributeError("gone")), cause="pickle"))
    assert type(other) is errors.CannotPickle
    assert str(other) == "AttributeError: gone"
    assert "in raised" in str(other.__cause__)
