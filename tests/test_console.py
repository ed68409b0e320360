"""The thread that writes what worker processes print."""

from __future__ import annotations

import io
import logging
import marshal
import sys
import threading

import pytest

from piecework.console import WAITING_MAX, Console
from piecework.executors.logs import packed


class Slow(io.StringIO):
    """Writes when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()

    def write(self, text: str) -> int:
        self.let.wait(60)
        return super().write(text)


def _slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """In the test itself: pytest puts its own streams in place after the fixtures."""
    stream = Slow()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_what_is_put_is_written_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    console, err = Console(), _slow(monkeypatch)
    err.let.set()
    for number in range(1000):
        console.put("stderr", f"{number}\n")
    console.flush()
    assert err.getvalue() == "".join(f"{number}\n" for number in range(1000))


def test_it_is_full_while_nobody_takes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    console, err = Console(), _slow(monkeypatch)
    room = threading.Event()
    assert not console.full
    console.put("stderr", "x" * (WAITING_MAX + 1))
    assert console.full
    console.when_room(room.set)
    assert not room.is_set()
    err.let.set()
    assert room.wait(60)
    assert not console.full


def test_where_there_is_room_one_goes_on_at_once() -> None:
    room = threading.Event()
    Console().when_room(room.set)
    assert room.is_set()


@pytest.mark.parametrize("broken", [ValueError("closed"), BrokenPipeError()])
def test_a_stream_that_nobody_reads_stops_nothing(
    broken: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise broken

    into = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", into)
    console = Console()
    console.put("stdout", "lost\n")
    console.put("stderr", "said\n")
    console.flush()
    assert into.getvalue() == "said\n"
    monkeypatch.setattr(sys, "stderr", None)
    console.put("stderr", "to nobody\n")
    console.flush()


def test_what_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, "ascii"))
    console = Console()
    console.put("stdout", "größer\n")
    console.flush()
    assert data.getvalue() == rb"gr\xf6\xdfer" + b"\n"


def _record(**fields: object) -> bytes:
    record = logging.LogRecord("tests.far", logging.INFO, "f.py", 7, "to %s", ("you",), None)
    record.__dict__.update(fields)
    return packed(record)


def test_a_handler_that_raises_stops_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: raised.set())

    def refuse(record: logging.LogRecord) -> bool:
        if record.getMessage() == "bad":
            raise RuntimeError
        return True

    logger = logging.getLogger("tests.far")
    logger.addFilter(refuse)
    console = Console()
    with caplog.at_level(logging.INFO):
        console.log(_record(msg="bad", args=()), {"task": 1}, "")
        console.log(_record(), {"task": 2}, "")
        console.flush()
    logger.removeFilter(refuse)
    assert raised.is_set()
    assert [(r.getMessage(), r.task) for r in caplog.records] == [("to you", 2)]  # type: ignore[attr-defined]


def test_a_record_travels_without_the_classes_of_its_fields() -> None:
    class Own:
        def __repr__(self) -> str:
            return "own"

    fields = marshal.loads(_record(msg="%s and %s", args=(Own(), 1), extra=Own()))
    assert fields["msg"] == "own and 1"
    assert fields["extra"] == "own"
    assert marshal.loads(_record(msg="%d", args=("no number",)))["msg"].startswith("%d [")
