"""The command as a value, called here and now, and mapped."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import piecework
from piecework import CommandFailed, CommandResult, TaskTimeout, UsageError, command


def has_ended(pid: int) -> bool:
    """Wait for it; False where that takes long."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 30)[0])
    finally:
        os.close(fd)


def results(run: Any) -> list[Any]:
    return sorted(run.results(), key=lambda result: result.index)


def test_a_map_of_a_command_gives_its_results_in_input_order() -> None:
    run = piecework.map(command("echo {.} {#}", encoding="utf-8"), ["a b.c", "d"], workers=2)
    values = list(run)
    assert [value.stdout for value in values] == ["a b 1\n", "d 2\n"]
    assert values[0].args == ("echo", "a b", "1")
    assert "commands" in str(run.wait())


def test_without_a_placeholder_the_input_is_the_last_word() -> None:
    (value,) = piecework.map(command("printf %s"), ["x y"])
    assert value.stdout == b"x y"
    (value,) = piecework.map(command("echo", append=False), ["x y"])
    assert value.stdout == b"\n"


def test_a_result_tells_how_it_went() -> None:
    code = "import sys; sum(range(10**6)); print('out'); sys.exit(0)"
    (value,) = piecework.map(command([sys.executable, "-c", code]), [1])
    assert isinstance(value, CommandResult)
    assert (value.returncode, value.signal) == (0, None)
    assert value.seconds > 0.01
    assert value.cpu_seconds > 0.01
    assert value.started > 1.7e9
    assert value.slot >= 1


def test_the_peak_of_a_program_larger_than_this_one_is_exact() -> None:
    # In an interpreter of its own: the system tells of a child no less than its parent ever had.
    script = (
        "import piecework, sys\n"
        "words = [sys.executable, '-c', \"x = b'x' * 300_000_000\"]\n"
        "(value,) = piecework.map(piecework.command(words, append=False), [1])\n"
        "print(value.peak_memory)\n"
    )
    forked = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, script]  # by a small process
    told = subprocess.run(forked, capture_output=True, check=True).stdout
    assert 300_000_000 < int(told) < 400_000_000


def test_the_peak_of_a_small_program_is_not_our_own() -> None:
    held = bytearray(200_000_000)
    (value,) = piecework.map(command("true"), [1])
    assert value.peak_memory is None or value.peak_memory < 50_000_000
    del held


def test_another_exit_code_is_a_failure_that_carries_the_result() -> None:
    code = "echo out; for i in $(seq 60); do echo line $i >&2; done; exit 7"
    run = piecework.map(command(code, shell=True, append=False), ["x"])
    (result,) = results(run)
    failure = result.failure
    assert (failure.cause, failure.exitcode, failure.signal) == ("exit", 7, None)
    assert failure.message == "sh left with exit code 7: line 60"
    assert failure.output.splitlines() == [f"line {n}" for n in range(11, 61)]
    assert failure.result.stdout == b"out\n"
    assert not failure.lost
    summary = run.wait()
    assert (summary.failed, summary.quarantined, summary.losses) == (1, 0, 0)


def test_iterating_raises_what_failed_with_its_result() -> None:
    with pytest.raises(CommandFailed, match="left with exit code 1") as caught:
        list(piecework.map(command("false"), [1]))
    assert caught.value.result is not None
    assert caught.value.result.returncode == 1


def test_a_signal_is_told_from_an_exit_code() -> None:
    run = piecework.map(command("kill -USR1 $$", shell=True, append=False), [1])
    (result,) = results(run)
    assert (result.failure.cause, result.failure.signal) == ("signal", 10)
    assert result.failure.result.returncode == -10
    assert "SIGUSR1" in result.failure.message


def test_a_failed_command_is_tried_again_as_often_as_asked(tmp_path: Path) -> None:
    script = "echo x >> {}; test $(wc -l < {}) -ge 3"
    run = piecework.map(command(script, shell=True), [str(tmp_path / "count")], retries=5)
    (result,) = results(run)
    assert result.ok
    assert result.attempt == 3
    run = piecework.map(command("false"), [1], retries=3)
    (result,) = results(run)
    assert (result.attempt, run.wait().failed) == (4, 1)


def test_other_exit_codes_may_mean_success() -> None:
    run = piecework.map(command("exit {}", shell=True, ok=(0, 3)), ["0", "3", "4"])
    assert [result.ok for result in results(run)] == [True, True, False]


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 5_000_000])
def test_standard_input_of_any_size_is_fed_while_output_is_read(size: int) -> None:
    data = os.urandom(size)
    (value,) = piecework.map(command("cat", input="task"), [data])
    assert value.stdout == data


def test_what_reads_no_input_is_not_waited_for() -> None:
    (value,) = piecework.map(command("true", input="task"), [b"x" * 5_000_000])
    assert value.returncode == 0


def test_standard_input_is_empty_unless_given() -> None:
    (value,) = piecework.map(command("wc -c", append=False), ["x"])
    assert value.stdout.strip() == b"0"
    (value,) = piecework.map(command("cat", input="äb", encoding="latin-1", append=False), ["x"])
    assert value.stdout == "äb"


def test_both_outputs_of_any_size_are_captured() -> None:
    script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero | tr '\\0' e >&2; echo end"
    (value,) = piecework.map(command(script, shell=True, append=False), [1])
    assert value.out.size == 3_000_004
    assert value.stderr == b"e" * 3_000_000
    assert value.out.tail(4) == b"end\n"


def test_what_cannot_be_decoded_is_replaced() -> None:
    (value,) = piecework.map(command(["printf", r"a\377b"], encoding="utf-8", append=False), [1])
    assert value.stdout == "a�b"
    (value,) = piecework.map(command(["printf", r"a\377b"], append=False), [1])
    assert value.stdout == b"a\xffb"


def test_environment_and_folder(tmp_path: Path) -> None:
    made = command(
        "echo $NEW $HOME; pwd",
        shell=True,
        env={"NEW": "x", "HOME": None},
        cwd=tmp_path,
        append=False,
    )
    (value,) = piecework.map(made, [1])
    assert value.stdout == f"x\n{tmp_path}\n".encode()


def test_a_relative_folder_is_one_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "other" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CDPATH", str(tmp_path / "other"))
    (value,) = piecework.map(command("pwd", cwd="sub", append=False), [1])
    assert value.stdout == f"{tmp_path}/sub\n".encode()


def test_a_journal_keeps_results_and_a_changed_command_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    script = "head -c {} /dev/zero; echo {} >> calls; test {} != 30"
    made = command(script, shell=True, keep_bytes=100, cwd=tmp_path)
    inputs = [10, 20, 30, 200]
    first = results(piecework.map(made, inputs, journal=path))
    assert [result.ok for result in first] == [True, True, False, True]
    again = results(piecework.map(made, inputs, journal=path, resume=True))
    assert [result.recalled for result in again] == [True] * 4
    assert len((tmp_path / "calls").read_text().split()) == 4
    assert again[0].value == first[0].value
    assert again[2].failure.result.returncode == 1
    assert (again[3].value.out.size, again[3].value.out.truncated) == (200, True)
    other = command(script + "; true", shell=True, keep_bytes=100, cwd=tmp_path)
    with pytest.raises(UsageError, match="changed"):
        piecework.map(other, inputs, journal=path, resume=True)


def test_a_program_that_prints_for_ever_without_a_newline_is_ended() -> None:
    script = "yes | tr -d '\\n'"
    run = piecework.map(command(script, shell=True, append=False, output_max=20_000_000), [1])
    (result,) = results(run)
    assert "printed more than 20,000,000 bytes" in result.failure.message


def test_an_output_that_cannot_be_kept_costs_its_task() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # as a full disk would
    try:
        run = piecework.map(command("head -c {} /dev/zero"), [20_000_000, 100], workers=1)
        (large, small) = results(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "its output could not be kept" in large.failure.message
    assert small.value.out.size == 100


def test_where_exit_codes_go_elsewhere_the_failure_says_so() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        (result,) = results(piecework.map(command("true"), [1]))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert "SIGCHLD is ignored" in result.failure.message


def test_a_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    made = command("sleep 1000 & echo $! > {}; wait", shell=True)
    path = tmp_path / "pid"
    run = piecework.map(made, [str(path)], task_timeout=0.5)
    (result,) = results(run)
    assert result.failure.cause == "timeout"
    assert "time limit of 0.5 s" in result.failure.message
    assert has_ended(int(path.read_text()))
    with pytest.raises(TaskTimeout):
        list(piecework.map(command("sleep 1000", append=False), [1], task_timeout=0.1))


def test_who_does_not_heed_sigterm_is_killed() -> None:
    script = "trap '' TERM; while :; do sleep 1000; done"
    made = command(script, shell=True, append=False, grace_seconds=0.1)
    (result,) = results(piecework.map(made, [1], task_timeout=0.2))
    assert result.failure.cause == "timeout"
    assert result.failure.result.signal == 9


def test_who_cleans_up_after_sigterm_is_let() -> None:
    script = "trap 'echo cleaned >&2; exit 5' TERM; while :; do sleep 0.01; done"
    made = command(script, shell=True, append=False, grace_seconds=30)
    (result,) = results(piecework.map(made, [1], task_timeout=0.3))
    assert result.failure.output.endswith("cleaned")
    assert result.failure.result.returncode == 5


def test_a_daemon_that_holds_the_pipes_is_not_waited_for_and_left(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    made = command("setsid sleep 1000 & echo $! > {}; echo begun", shell=True)
    (value,) = piecework.map(made, [str(path)])
    assert value.stdout == b"begun\n"
    os.kill(int(path.read_text()), 9)  # it lives


def test_what_is_printed_just_after_the_exit_is_waited_for() -> None:
    (value,) = piecework.map(
        command("(sleep 0.1; echo late) & echo x", shell=True, append=False), [1]
    )
    assert value.stdout == b"x\nlate\n"


def test_what_is_unknown_is_refused_before_anything_runs(tmp_path: Path) -> None:
    def inputs() -> Iterator[str]:
        raise AssertionError("drawn")
        yield ""

    with pytest.raises(UsageError, match=r"no program 'no-such-program' on PATH\. Install"):
        piecework.map(command("no-such-program {}"), inputs())
    with pytest.raises(UsageError, match="there is no such file"):
        piecework.map(command("./no-such-program {}"), inputs())
    plain = tmp_path / "plain"
    plain.write_text("x")
    with pytest.raises(UsageError, match="chmod"):
        piecework.map(command([str(plain)]), inputs())
    with pytest.raises(UsageError, match=r"\{3\} names part 3 of an input, and the input has 2"):
        piecework.map(command("echo {1} {3}"), [("a", "b")] * 9)
    with pytest.raises(UsageError, match="no folder"):
        piecework.map(command("true", cwd=tmp_path / "none"), inputs())


def test_a_program_of_one_input_that_does_not_exist_costs_that_input(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_text("#!/no/such/interpreter\n")
    nothing.chmod(0o755)
    data = tmp_path / "data"
    data.write_bytes(b"\x00\x01\x02")
    data.chmod(0o755)
    inputs = ["no-such-program", "true", str(nothing), str(data), str(tmp_path)]
    run = piecework.map(command("{}"), inputs)
    found = [result.failure.message if result.failure else "" for result in results(run)]
    assert found[1] == ""
    assert "'no-such-program' cannot be run: there is no such program on PATH" in found[0]
    assert "#! line" in found[2]
    assert "is no program" in found[3]
    assert "folder" in found[4]


@pytest.mark.parametrize("bad", ["a\0b", {"a": 1}, None, "x" * 3_000_000])
def test_an_input_that_makes_no_command_costs_itself(bad: Any) -> None:
    run = piecework.map(command("echo {}"), [bad, "a", bad, "b"])
    assert [result.ok for result in results(run)] == [False, True, False, True]
    run = piecework.map(command("echo {2}"), [bad, ("a", "b"), "b"])
    assert [result.ok for result in results(run)] == [False, True, False]


@pytest.mark.parametrize("on", ["threads", "processes", "coroutines", "inline"])
def test_a_command_runs_only_as_one(on: str) -> None:
    with pytest.raises(UsageError, match='Use on="commands"'):
        piecework.map(command("true"), [1], on=on)
    with piecework.ThreadExecutor(1) as executor, pytest.raises(UsageError, match="commands"):
        piecework.map(command("true"), [1], on=executor)


def test_commands_run_only_commands() -> None:
    with pytest.raises(UsageError, match=r"piecework\.command"):
        piecework.map(len, ["a"], on="commands")


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "nonsense"},
        {"encoding": "utf-8", "errors": "nonsense"},
        {"env": {"a=b": "c"}},
        {"env": {"a": 1}},
        {"ok": ()},
        {"ok": "x"},
        {"grace_seconds": -1},
        {"output_max": 0},
        {"marks": {"{x}": "y"}},
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        command("true", **options)


def test_a_command_is_a_value() -> None:
    made = command("echo {}", env={"A": "1"}, encoding="utf-8")
    assert pickle.loads(pickle.dumps(made)) == made
    assert made.identity == command("echo {}", env={"A": "1"}, encoding="utf-8").identity
    assert made.identity != command("echo {.}", env={"A": "1"}, encoding="utf-8").identity
    assert made.__name__ == "echo"
    assert command("gzip -9 | wc", shell=True).__name__ == "gzip"


def test_called_it_runs_here() -> None:
    assert command("echo {}", encoding="utf-8")("x").stdout == "x\n"
    assert command("cat", input="task")(b"x").stdout == b"x"
    with pytest.raises(CommandFailed):
        command("false")("x")


def test_a_result_travels() -> None:
    (value,) = piecework.map(command("head -c 2000000 /dev/zero", append=False), [1])
    again = pickle.loads(pickle.dumps(value))
    assert again.returncode == 0
    assert again.out.size == 2_000_000
    assert again.out.truncated
    again = pickle.loads(pickle.dumps(CommandFailed("why", value)))
    assert again.result.out.size == 2_000_000


def test_many_at_once_are_fed_and_heard() -> None:
    data = [os.urandom(300_000) for _ in range(30)]
    run = piecework.map(command("cat", input="task"), data, workers=20)
    assert [value.stdout for value in run] == data
