"""map with a journal: what is recorded, what is run again, in every way to run."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import piecework
from piecework.errors import JournalChanged, JournalError, UsageError
from piecework.journal import directory
from piecework.journal.reader import Reader
from piecework.journal.rows import NOT_KEPT

WAYS = ["threads", "processes", "inline", "auto"]


class Counted:
    """A function that notes what it was called with; in a file, so in any process."""

    def __init__(self, ran: Path, bad: tuple[Any, ...] = ()) -> None:
        self.ran = str(ran)
        self.bad = bad

    def __call__(self, item: Any) -> Any:
        with open(self.ran, "ab", buffering=0) as file:
            file.write(repr(item).encode() + b"\n")
        if item in self.bad and os.path.exists(f"{self.ran}.bad"):
            raise ValueError(f"no {item}")
        return item, "done"

    def fail(self, fails: bool) -> None:
        path = Path(f"{self.ran}.bad")
        path.touch() if fails else path.unlink(missing_ok=True)

    def calls(self) -> Counter[str]:
        path = Path(self.ran)
        found = Counter(path.read_text().splitlines() if path.exists() else ())
        path.unlink(missing_ok=True)
        return found


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path / "ran")


def path_of(name: str) -> Path:
    return directory.default_directory() / f"{name}.journal"


@pytest.mark.parametrize("on", WAYS)
def test_what_is_done_is_not_run_again_and_its_value_is_there(counted: Counted, on: str) -> None:
    with piecework.map(counted, range(200), on=on, name="x") as run:
        first = list(run)
    assert sum(counted.calls().values()) == 200
    with piecework.map(counted, range(210), on=on, name="x", resume=True) as run:
        assert list(run)[:200] == first
        summary = run.summary
    assert counted.calls() == Counter(map(repr, range(200, 210)))
    assert (summary.done, summary.recalled, summary.executions) == (210, 200, 10)
    assert (summary.percentiles["max"] > 0, summary.ok) == (True, True)
    assert "200 of them in an earlier session" in str(summary)


@pytest.mark.parametrize("on", ["threads", "processes", "inline"])
def test_closing_while_the_last_results_go_to_disk_cancels_nothing(tmp_path: Path, on: str) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.journal"
        run = piecework.map(abs, range(50), on=on, journal=path, batch_size=20)
        assert [next(run) for _ in range(50)] == list(range(50))
        run.close()
        assert (run.summary.stopped, run.summary.ok) == ("", True)
        with Reader(path) as reader:
            assert reader.complete


def test_coroutines_and_executors_of_the_user_are_journalled_too(tmp_path: Path) -> None:
    calls: list[int] = []

    async def work(n: int) -> int:
        calls.append(n)
        return n * n

    for _ in range(2):
        path = tmp_path / "c.journal"
        run = piecework.map(work, range(50), on="coroutines", journal=path, resume=True)
        assert list(run) == [n * n for n in range(50)]
    assert sorted(calls) == list(range(50))
    with piecework.ThreadExecutor(2) as executor:
        for _ in range(2):
            path = tmp_path / "t.journal"
            again = piecework.map(calls.append, range(9), on=executor, journal=path, resume=True)
            assert list(again) == [None] * 9
    assert len(calls) == 59


def test_failed_ones_stay_failed_at_their_place_unless_asked(counted: Counted) -> None:
    counted.bad = (3, 7)
    counted.fail(True)
    assert piecework.map(counted, range(10), on="threads", name="x").wait().failed == 2
    counted.calls()
    counted.fail(False)
    run = piecework.map(counted, range(10), on="threads", name="x", resume=True)
    assert [next(run) for _ in range(3)] == [(n, "done") for n in range(3)]
    with pytest.raises(ValueError, match="no 3"):
        next(run)
    results = list(run.results())
    assert [result.index for result in results if not result.ok] == [7]
    assert all(result.recalled for result in results)
    assert counted.calls() == Counter()
    run = piecework.map(counted, range(10), on="threads", name="x", resume="failed")
    assert len(list(run)) == 10
    assert counted.calls() == Counter(["3", "7"])
    with Reader(path_of("x")) as reader:
        assert (reader.counts().done, reader.counts().failed, reader.complete) == (10, 0, True)


def test_inputs_keep_their_identity_wherever_they_stand(counted: Counted) -> None:
    inputs = [{"b": 1, "a": n} for n in range(20)]
    piecework.map(counted, inputs, on="threads", name="x").wait()
    counted.calls()
    turned = [{"a": n, "b": 1} for n in reversed(range(25)) if n != 11]
    with piecework.map(counted, turned, on="threads", name="x", resume=True) as run:
        assert [value[0]["a"] for value in run] == [item["a"] for item in turned]
    assert len(counted.calls()) == 5


@settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.data())
def test_as_many_are_recalled_as_are_recorded_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Against a model: a bag of records, from which each input takes its own, else is run."""
    folder = tmp_path_factory.mktemp("model")
    item = st.one_of(st.integers(0, 5), st.tuples(st.integers(0, 2)), st.lists(st.integers(0, 1)))
    recorded: Counter[str] = Counter()
    calls: list[str] = []

    def work(value: Any) -> Any:
        calls.append(repr(value))
        return value

    inputs = data.draw(st.lists(item, max_size=30), "inputs")
    for session in range(data.draw(st.integers(1, 4), "sessions")):
        stop = data.draw(st.integers(0, len(inputs)), "stop")
        run = piecework.map(
            work, iter(inputs) if session % 2 else inputs, on="inline", batch_size=3,
            journal=folder / "x.journal", resume="anyway",
        )  # fmt: skip
        read = [value for value, _ in zip(run, range(stop), strict=False)]
        run.cancel()
        results = list(run.results())
        assert read == inputs[:stop]
        run.close()
        settled = Counter(map(repr, read)) + Counter(repr(r.input) for r in results if r.ok)
        recorded |= settled
        with Reader(folder / "x.journal") as reader:
            found = Counter(repr(result.value) for result in reader.results())
        assert found == Counter(calls)  # each execution is recorded once, and never repeated
        assert all(found[value] >= times for value, times in settled.items())
        inputs = data.draw(st.permutations([*inputs, *data.draw(st.lists(item, max_size=5))]))
    calls.clear()
    before = recorded.copy()
    with piecework.map(
        work, inputs, on="inline", journal=folder / "x.journal", resume="anyway"
    ) as run:
        assert list(run) == inputs
    wanted = Counter(map(repr, inputs))
    assert all(wanted[value] - before[value] >= times for value, times in Counter(calls).items())


def test_inputs_are_drawn_from_any_iterable_and_no_faster_than_they_are_read(
    tmp_path: Path,
) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[int]:
        for number in range(10**9):
            drawn.append(number)
            yield number

    for _ in range(2):
        path = tmp_path / "x.journal"
        run = piecework.map(abs, endless(), on="threads", journal=path, resume=True, buffersize=50)
        for number in range(500):
            assert next(run) == number
        assert max(drawn) <= 700
        run.close()
    assert run.summary.recalled >= 500


def test_what_waited_for_another_attempt_or_ran_when_it_was_stopped_is_run_again(
    tmp_path: Path,
) -> None:
    begun = threading.Event()

    def work(n: int) -> int:
        if n == 0:
            raise OSError("later")
        if n == 1:
            begun.set()
        return n

    backoff = piecework.Backoff(1000)
    run = piecework.map(
        work, range(2), on="threads", retries=3, backoff=backoff, journal=tmp_path / "x.journal"
    )
    results = run.results()
    assert next(results).index == 1
    run.cancel()
    assert [result.ok for result in results] == [False]
    run.close()
    with Reader(tmp_path / "x.journal") as reader:
        assert (reader.counts().done, reader.counts().failed) == (1, 0)


def wait_for_ever(path: str) -> None:
    Path(path).touch()
    threading.Event().wait()


@pytest.mark.parametrize("how", ["kill", "deadline"])
def test_what_we_ended_ourselves_has_not_failed(tmp_path: Path, how: str) -> None:
    inputs = [str(tmp_path / "a"), str(tmp_path / "b")]
    deadline = 0.5 if how == "deadline" else None
    run = piecework.map(
        wait_for_ever, inputs, on="processes", workers=2, journal=tmp_path / "x.journal",
        deadline=deadline,
    )  # fmt: skip
    if how == "kill":
        run.cancel(kill=True)
    summary = run.wait()
    assert summary.done == 0
    run.close()
    with Reader(tmp_path / "x.journal") as reader:
        counts = reader.counts()
        assert (counts.done, counts.failed, counts.quarantined) == (0, 0, 0)
        assert reader.sessions()[0].why == summary.stopped


def test_values_are_recorded_as_they_were_when_the_task_was_done(tmp_path: Path) -> None:
    inputs = [[n] for n in range(5)]

    def work(item: list[int]) -> list[int]:
        item.append(99)
        return [item[0]]

    with piecework.map(work, inputs, on="threads", journal=tmp_path / "x.journal") as run:
        for value in run:
            value.append("changed by who reads")  # type: ignore[arg-type]
    fresh = [[n] for n in range(5)]
    with piecework.map(
        work, fresh, on="threads", journal=tmp_path / "x.journal", resume=True
    ) as run:
        assert list(run) == [[n] for n in range(5)]
    assert fresh == [[n] for n in range(5)]


def test_a_value_that_cannot_be_pickled_is_done_now_and_again_when_resumed(tmp_path: Path) -> None:
    calls: list[int] = []

    def work(n: int) -> Any:
        calls.append(n)
        return threading.Lock() if n % 10 == 0 else n

    for session in range(2):
        with (
            pytest.warns(RuntimeWarning, match="lock cannot be pickled, so the journal notes"),
            piecework.map(
                work, range(30), on="threads", journal=tmp_path / "x.journal", resume=True
            ) as run,
        ):
            assert len(list(run)) == 30
        assert run.summary.recalled == (27 if session else 0)
    assert Counter(calls) == Counter({n: 1 + (n % 10 == 0) for n in range(30)})
    with Reader(tmp_path / "x.journal") as reader:
        counts = reader.counts()
        assert (counts.done, counts.unkept, reader.complete) == (30, 3, False)


def test_a_key_names_what_pickle_cannot(tmp_path: Path) -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.name = name
            self.lock = threading.Lock()

    def inputs(*names: str) -> list[Named]:
        return [Named(name) for name in names]

    def key(item: Named) -> str:
        return item.name

    def work(item: Named) -> str:
        return item.name.upper()

    path = tmp_path / "x.journal"
    run = piecework.map(work, inputs("a", "b"), on="threads", journal=path)
    summary = run.wait()
    assert isinstance(summary.error, UsageError)
    assert "Give key=" in str(summary.error)
    run.close()
    path.unlink()
    with piecework.map(work, inputs("a", "b"), on="threads", journal=path, key=key) as run:
        assert list(run) == ["A", "B"]
    with pytest.raises(JournalChanged, match="begun with key= and cannot go on without"):
        piecework.map(work, inputs("a"), on="threads", journal=path, resume=True)
    again = piecework.map(
        work, inputs("c", "b", "a"), on="threads", journal=path, key=key, resume=True
    )
    assert list(again) == ["C", "B", "A"]
    assert again.summary.recalled == 2
    with Reader(path) as reader:
        assert {result.input for result in reader.results()} == {NOT_KEPT}


def test_a_key_that_raises_ends_the_run_with_its_error(tmp_path: Path) -> None:
    def key(n: int) -> int:
        return 1 // (n - 3)

    run = piecework.map(abs, range(5), on="threads", journal=tmp_path / "x.journal", key=key)
    summary = run.wait()
    assert isinstance(summary.error, piecework.InputError)
    assert "ZeroDivisionError" in str(summary.error)


def test_other_inputs_are_refused_before_anything_is_run(counted: Counted) -> None:
    piecework.map(counted, range(20), on="threads", name="x").wait()
    counted.calls()
    run = piecework.map(counted, ["a", "b"], on="threads", name="x", resume=True)
    with pytest.raises(
        JournalChanged, match=r"none of the 2 inputs is among the 20 that the run x"
    ):
        list(run)
    assert (run.summary.stopped, counted.calls()) == ("journal", Counter())
    summary = piecework.map(counted, iter("ab"), on="threads", name="x", resume="anyway").wait()
    assert (summary.done, summary.recalled) == (2, 0)


def test_a_changed_function_is_refused_and_named(counted: Counted) -> None:
    piecework.map(counted, range(3), on="threads", name="x").wait()
    other = Counted(Path(counted.ran), bad=(1,))
    with pytest.raises(JournalChanged, match=r"has changed since: state of Counted\..*anyway"):
        piecework.map(other, range(3), on="threads", name="x", resume=True)
    with pytest.raises(JournalChanged, match="is of another function, "):
        piecework.map(abs, range(3), on="threads", name="x", resume=True)
    summary = piecework.map(other, range(3), on="threads", name="x", resume="anyway").wait()
    assert summary.recalled == 3
    # It is the journal of that function now.
    summary = piecework.map(other, range(3), on="threads", name="x", resume=True).wait()
    assert summary.recalled == 3
    with pytest.raises(JournalChanged, match="has changed since"):
        piecework.map(counted, range(3), on="threads", name="x", resume=True)


def test_a_name_that_is_taken_is_refused_with_the_two_ways_out() -> None:
    piecework.map(abs, range(3), on="inline", name="x").wait()
    with pytest.raises(JournalChanged, match=r"resume=True .*another name, .*piecework rm x"):
        piecework.map(abs, range(3), on="inline", name="x")


def test_a_live_run_is_not_resumed_beside_itself(tmp_path: Path) -> None:
    go_on = threading.Event()
    path = tmp_path / "x.journal"
    run = piecework.map(lambda _: go_on.wait(), range(3), on="threads", journal=path)
    with pytest.raises(piecework.JournalLocked, match=rf"under way in process {os.getpid()} on"):
        piecework.map(abs, range(3), on="threads", journal=path, resume=True)
    go_on.set()
    assert run.wait().done == 3
    assert not Path(f"{path}.lock").exists()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"journal": 3}, "journal is 3. Give True, or the path"),
        ({"journal": ""}, "Give True, or the path"),
        ({"resume": True}, "resume= needs a journal. Give name="),
        ({"key": abs}, "key= needs a journal"),
        ({"journal": True, "resume": True}, "which run"),
        ({"name": "x", "resume": "again"}, "resume is 'again'. Give True"),
        ({"name": "x", "key": 3}, "key is 3. Give a function"),
        ({"name": "a/b"}, "names a file"),
        ({"name": ""}, "names a file"),
        ({"name": "-x"}, "names a file"),
        ({"name": "x" * 300}, "names a file"),
        ({"name": "a\nb"}, "names a file"),
        ({"journal": "no/such/place.journal"}, "no directory .*no/such. Make it first: mkdir -p"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises((UsageError, JournalError), match=match):
        piecework.map(abs, range(3), on="inline", **given)
    assert not directory.journals()


def test_a_journal_without_a_name_gets_one_and_false_keeps_none() -> None:
    run = piecework.map(abs, range(3), on="inline", journal=True)
    run.wait()
    assert run.journal is not None
    assert run.journal.name.startswith("abs-2")
    run = piecework.map(abs, range(3), on="inline", journal=False, name="x")
    assert (run.journal, len(directory.journals())) == (None, 1)


def test_a_run_that_is_dropped_keeps_what_was_finished(tmp_path: Path) -> None:
    for on in ("threads", "inline"):
        path = tmp_path / f"{on}.journal"
        run = piecework.map(abs, range(10**6), on=on, journal=path)
        assert [next(run) for _ in range(100)] == list(range(100))
        journal = run.journal
        del run
        gc.collect()
        assert journal is not None
        journal.join()
        with Reader(path) as reader:
            assert reader.counts().done >= 100
            assert (reader.sessions()[0].why, reader.live) == ("cancelled", False)


def test_large_inputs_and_values_come_back_whole(tmp_path: Path) -> None:
    chance = random.Random(1)
    inputs = [chance.randbytes(size) for size in (10, 5_000, 3_000_000, 0)]

    def turned(data: bytes) -> bytes:
        return data[::-1]

    for _ in range(2):
        path = tmp_path / "x.journal"
        with piecework.map(turned, inputs, on="threads", journal=path, resume=True) as run:
            assert list(run) == [data[::-1] for data in inputs]
    assert run.summary.recalled == 4


def test_a_request_from_another_terminal_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"

    def slow(n: int) -> int:
        threading.Event().wait(0.01)
        return n

    run = piecework.map(slow, range(10**6), on="threads", workers=2, journal=path)
    assert directory.request_cancel(path)
    assert run.wait().stopped == "cancelled"
    assert not directory.request_cancel(path)
    assert not Path(f"{path}.cancel").exists()


@pytest.mark.parametrize("make", [list, iter, set], ids=["list", "iterator", "set"])
def test_reordered_inputs_take_their_own_values(tmp_path: Path, make: Callable[[Any], Any]) -> None:
    path = tmp_path / "x.journal"
    with piecework.map(str, make(range(3000)), on="threads", journal=path) as run:
        assert sorted(map(int, run)) == list(range(3000))
    inputs = list(range(3500))
    random.Random(2).shuffle(inputs)
    with piecework.map(str, inputs, on="threads", journal=path, resume=True) as run:
        assert list(run) == list(map(str, inputs))
    assert run.summary.recalled == 3000


def refuse() -> None:
    raise ValueError("not here")


def test_an_executor_that_breaks_ends_the_journal_too(tmp_path: Path) -> None:
    with piecework.ProcessExecutor(1, initializer=refuse) as executor:
        run = piecework.map(abs, range(5), on=executor, journal=tmp_path / "x.journal")
        summary = run.wait()
    assert summary.stopped == "broken"
    run.close()
    with Reader(tmp_path / "x.journal") as reader:
        assert [session.why for session in reader.sessions()] == ["broken"]
        assert not reader.live


LEFT_OVER = """
import sys
import piecework
run = piecework.map(abs, range(10**7), on="threads", journal=sys.argv[1])
print(next(run))
{end}
"""


@pytest.mark.parametrize("end", ["", "del run", "raise SystemExit(0)", "run.cancel()"])
def test_the_interpreter_ends_when_everything_is_committed(tmp_path: Path, end: str) -> None:
    path = tmp_path / "x.journal"
    code = LEFT_OVER.format(end=end)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    with Reader(path) as reader:
        (session,) = reader.sessions()
        assert session.why == "cancelled"
        assert reader.counts().done == session.done > 0
    assert os.listdir(tmp_path) == ["x.journal"]


def peak_kb() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def test_large_values_are_recalled_no_faster_than_they_are_read(tmp_path: Path) -> None:
    def large(n: int) -> bytes:
        return bytes([n]) * (2 << 20)

    path = tmp_path / "x.journal"
    with piecework.map(large, range(200), on="threads", workers=2, journal=path) as run:
        assert sum(map(len, run)) == 400 << 20
    del run
    gc.collect()
    before, most = peak_kb(), 0
    with piecework.map(large, range(200), on="threads", journal=path, resume=True) as run:
        for n, value in enumerate(run):
            assert value[:1] == bytes([n])
            most = max(most, peak_kb())
    assert run.summary.recalled == 200
    assert most - before < 300_000


def test_a_hundred_thousand_small_tasks_take_less_than_four_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    with piecework.map(abs, range(100_000), on="processes", workers=2, journal=path) as run:
        assert sum(run) == sum(range(100_000))
    assert directory.size_of(path) < 4_000_000
    with Reader(path) as reader:
        rows = reader.execute("SELECT count(*) FROM pieces").fetchone()[0]
        assert rows < 500  # what was written together is one row, whatever batches it came in
        assert [result.value for result in reader.results()] == list(range(100_000))
        assert reader.result(77_777) is not None
        assert len(reader.slowest(5)) == 5
