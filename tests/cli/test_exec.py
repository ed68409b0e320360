"""`piecework exec` as its users run it: real commands, their output, their ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ENVIRONMENT, Outcome, piecework

PARALLEL = shutil.which("parallel")
needs_parallel = pytest.mark.skipif(
    PARALLEL is None, reason="GNU parallel is not here to compare with: apt-get install parallel"
)


def exec_(*words: str, stdin: str | bytes = b"", **environment: str) -> Outcome:
    return piecework("exec", *words, stdin=stdin, **environment)


def raw(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """For output that is no text."""
    return subprocess.run(
        [*COMMAND, "exec", *words], input=stdin, capture_output=True, timeout=60, env=ENVIRONMENT
    )


# -- arguments --------------------------------------------------------------------------------


@needs_parallel
@pytest.mark.parametrize(
    "words",
    [
        ["echo", ":::", "a b", "it's", "*", ""],
        ["echo", "{}", "{.}", "{/}", "{//}", "{/.}", ":::", "/x/a.b.c", "d", ".e"],
        ["echo", "x{}y", ":::", "a", ":::", "b", "c"],
        ["echo", "{2}-{1}", "{#}", ":::", "a", "b", ":::", "1", "2"],
        ["-n2", "echo", ":::", "a", "b", "c"],
        ["-N2", "echo", "x{}y", ":::", "a", "b", "c", "d"],
        ["-n0", "echo", "hi", ":::", "a", "b"],
        ["-j2", "-X", "echo", "x{}y", ":::", "a", "b", "c", "d", "e"],
        ["-j2", "-m", "echo", "x{}y", ":::", "a", "b", "c", "d", "e"],
        ["-I", ",,", "echo", ",,", "{}", ":::", "a"],
        ["--tag", "echo", ":::", "a", "b", ":::", "c"],
        ["--tagstring", "{#}-{}", "echo", ":::", "a", "b"],
        ["--colsep", ",", "echo", "{2}{1}", ":::", "a,b", "c,d"],
        ["--link", "echo", ":::", "a", "b", "c", ":::", "1", "2"],
        ["-d", ",", "echo", "::::", "-"],
        ["-0", "echo", "::::", "-"],
        ["echo"],
        ["-v", "echo", ":::", "a"],
    ],
    ids=" ".join,
)
def test_the_same_output_as_gnu_parallel(words: list[str]) -> None:
    assert PARALLEL is not None
    stdin = b"one\ntwo,three\n"
    if "-0" in words:
        stdin = b"one\0two\0"
    # -q: no shell reads the words there, as none does here
    theirs = subprocess.run(
        [PARALLEL, "--will-cite", "-k", *(["-q"] if "-v" not in words else []), *words],
        input=stdin, capture_output=True, check=True,
    )  # fmt: skip
    ours = raw("-k", *words, stdin=stdin)
    assert ours.stdout == theirs.stdout
    assert ours.returncode == 0


@pytest.mark.skipif(shutil.which("xargs") is None, reason="xargs is not here: install findutils")
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["-n3", "echo"], ["-n3", "echo"]),
        (["-0", "-n2", "echo"], ["-0", "-n2", "echo"]),
        (["-d", ",", "-n1", "echo"], ["-d", ",", "echo"]),
        (["-s", "30", "echo"], ["--xargs", "-s", "30", "echo"]),
        (["-I%", "echo", "<%>"], ["-I%", "echo", "<%>"]),
        (["echo"], ["--xargs", "echo"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_the_same_output_as_xargs(theirs: list[str], ours: list[str]) -> None:
    end = {"-0": b"\0", "-d": b","}.get(theirs[0], b"\n")
    stdin = end.join(b"%d" % n for n in range(1, 21))
    done = subprocess.run(["xargs", *theirs], input=stdin, capture_output=True, check=True)
    assert raw("-k", *ours, stdin=stdin).stdout == done.stdout


@needs_parallel
def test_the_job_log_and_the_folders_of_gnu_parallel(tmp_path: Path) -> None:
    assert PARALLEL is not None
    words = ["sh", "-c", "echo $1; echo e >&2; exit $1", "x", "{1}", ":::", "0", "3", ":::", "a/b"]
    subprocess.run(
        [PARALLEL, "--will-cite", "-q", "--joblog", "theirs", "--results", "T", *words],
        cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        [*COMMAND, "exec", "--joblog", "ours", "--results", "O", *words],
        cwd=tmp_path, capture_output=True, env=ENVIRONMENT,
    )  # fmt: skip

    def log(name: str) -> list[list[str]]:
        rows = [line.split("\t") for line in (tmp_path / name).read_text().splitlines()]
        return [row[:2] + row[4:8] for row in [rows[0], *sorted(rows[1:])]]

    def tree(name: str) -> dict[str, bytes]:
        top = tmp_path / name
        files = (path for path in top.rglob("*") if path.is_file())
        return {str(path.relative_to(top)): path.read_bytes() for path in files}

    assert log("ours") == log("theirs")
    assert len((tmp_path / "ours").read_text().splitlines()[1].split("\t")) == 9
    assert tree("O") == tree("T")


def test_an_argument_is_never_shell_code() -> None:
    done = exec_("-k", "echo", ":::", "$(id)", "`id`", "a;b", "'\"")
    assert done.out == "$(id)\n`id`\na;b\n'\"\n"


def test_with_a_shell_the_template_is_code_and_the_arguments_are_not() -> None:
    done = exec_("-k", "--shell", "echo {} '{}' \"{}\" | tr a-z A-Z", ":::", "$(id)", "it's")
    assert done.out == "$(ID) $(ID) $(ID)\nIT'S IT'S IT'S\n"


def test_lines_may_be_command_lines_of_a_shell() -> None:
    done = exec_("-k", "--shell", stdin="echo a | tr a b\nfalse\n")
    assert (done.code, done.out) == (1, "b\n")


def test_a_header_gives_the_columns_names() -> None:
    done = exec_("-k", "--header", ",", "echo", "{name}={size.}", stdin="name,size\na,1.5\nb,2\n")
    assert done.out == "a=1\nb=2\n"


def test_an_endless_input_is_drawn_as_it_is_needed() -> None:
    process = subprocess.Popen(
        [*COMMAND, "exec", "-k", "-j2", "echo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"first\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"first\n"  # the input has not ended
    process.stdin.close()
    assert process.wait() == 0
    process.stdout.close()


# -- output -----------------------------------------------------------------------------------


def test_output_comes_whole_and_where_it_was_written() -> None:
    script = "for i in 1 2 3; do echo $1$i; echo e$1$i >&2; done"
    done = exec_("-j3", "--silent", "sh", "-c", script, "x", ":::", "a", "b", "c")
    for lines, prefix in ((done.out.split(), ""), (done.err.split(), "e")):
        assert sorted(lines) == [f"{prefix}{c}{i}" for c in "abc" for i in "123"]
        assert [line[len(prefix)] for line in lines[::3]] == [
            line[len(prefix)] for line in lines[2::3]
        ]


def test_binary_output_without_an_end_of_line_is_passed_on_as_it_is() -> None:
    data = bytes(range(256)) * 3
    done = raw("--pipe", "cat", stdin=data)
    assert done.stdout == data


def test_a_json_object_a_command_whatever_it_prints() -> None:
    script = r"printf '\377\000x'; printf 'no end' >&2; exit $1"
    done = exec_("--json", "-k", "sh", "-c", script, "x", ":::", "0", "3")
    good, bad = done.rows
    assert done.code == 1
    assert good["input"] == "0"
    assert (
        good["value"] | {"stdout": "\ufffd\0x", "stderr": "no end", "exitcode": 0} == good["value"]
    )
    assert not bad["ok"]
    assert bad["failure"]["exitcode"] == 3
    assert bad["failure"]["stdout"] == "\ufffd\0x"
    assert "no end" in bad["failure"]["message"]
    assert '"inputs":2' in done.err


def test_lines_as_they_come_are_whole_and_tagged() -> None:
    script = "printf half; sleep 0.05; printf ' line\\nlast'; echo e >&2"
    done = exec_("--line-buffer", "--tag", "-j4", "sh", "-c", script, "x", ":::", *"abcd")
    assert sorted(done.out.splitlines()) == sorted(
        f"{c}\t{text}" for c in "abcd" for text in ("half line", "last")
    )
    assert sum(line.endswith("\te") for line in done.err.splitlines()) == 4


def test_a_line_is_there_before_its_command_ends(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*COMMAND, "exec", "--lb", "sh", "-c", 'echo first; read x < "$1"', "x", ":::", str(fifo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    fifo.write_text("go on\n")
    assert process.wait() == 0
    process.stdout.close()


def test_ungrouped_commands_write_by_themselves() -> None:
    done = exec_("-u", "--silent", "sh", "-c", "echo $1; echo e >&2", "x", ":::", "a")
    assert (done.out, done.err) == ("a\n", "e\n")


def test_more_output_than_any_pipe_takes() -> None:
    done = raw("-j2", "--silent", "-n0", "head", "-c", "3000000", "/dev/zero", ":::", "a", "b")
    assert done.returncode == 0
    assert len(done.stdout) == 6_000_000


def test_who_reads_only_the_first_line_ends_the_run() -> None:
    process = subprocess.Popen(
        [*COMMAND, "exec", "-k", "echo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"x\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"x\n"
    process.stdout.close()
    try:
        for _ in range(10_000):
            process.stdin.write(b"x\n")
            process.stdin.flush()
            if process.poll() is not None:
                break
    except BrokenPipeError:
        pass
    assert process.wait(30) == 141
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass


def test_commands_read_an_empty_standard_input() -> None:
    assert exec_("-k", "sh", "-c", "cat; echo end", "x", stdin="a\nb\n").out == "end\nend\n"


def test_blocks_of_standard_input_reach_commands_once_each() -> None:
    data = b"".join(b"%d\n" % n for n in range(100_000))
    done = raw("--pipe", "--block", "64k", "-k", "cat", stdin=data)
    assert done.stdout == data
    counted = raw("--pipe", "-N", "30000", "-k", "wc", "-l", stdin=data)
    assert [int(line) for line in counted.stdout.split()] == [30000, 30000, 30000, 10000]


# -- what fails, and what ends it ---------------------------------------------------------------


def test_a_failed_command_is_counted_and_named() -> None:
    done = exec_("sh", "-c", "echo oh no >&2; exit $1", "x", ":::", "0", "7")
    assert done.code == 1
    assert "exit code 7" in done.err
    assert "2 inputs = 1 done + 1 failed" in done.err


def test_retries_are_further_attempts(tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 3"
    words = ["--retry-delay", "0", "-n0", "--shell", script, ":::", "a"]
    assert exec_("--retries", "1", *words).code == 1
    assert exec_("--retries", "1", *words).code == 0


def test_a_time_limit_ends_the_command_and_what_it_started(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # the grandchild holds the fifo open to write: reading it to the end waits for its death
    script = f"sleep 600 > {fifo} & wait"
    process = subprocess.Popen(
        [*COMMAND, "exec", "--timeout", "1", "-n0", "--shell", script, ":::", "a"],
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert fifo.read_bytes() == b""
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"1 failed" in err


def test_a_time_limit_may_go_by_the_median() -> None:
    words = ["0.01", "0.01", "0.01", "0.01", "600"]
    done = exec_("-j2", "--timeout", "2000%", "sleep", ":::", *words)
    assert done.code == 1
    assert "4 done + 1 failed" in done.err


def test_halting_now_ends_what_runs() -> None:
    done = exec_("-j2", "--halt", "now,fail=1", "--shell", "sleep {}; exit 1", ":::", "0", "600")
    assert done.code == 3
    assert "1 failed" in done.err


def test_the_first_success_may_be_enough() -> None:
    done = exec_("-j2", "--halt", "now,success=1", "sleep", ":::", "0", "600")
    assert done.code == 0
    assert "1 done" in done.err


def test_a_deadline_ends_the_run() -> None:
    assert exec_("--deadline", "0.5", "sleep", ":::", "600").code == 124


def test_starts_keep_their_distance() -> None:
    script = "import time; print(time.time())"
    done = exec_("-k", "-j4", "--delay", "0.2", "-n0", sys.executable, "-c", script, ":::", *"abc")
    times = [float(line) for line in done.out.split()]
    assert len(times) == 3


@pytest.mark.parametrize("option", [["--memfree", "900T"], ["--load", "0.00001"]])
def test_nothing_starts_where_the_machine_has_too_little(option: list[str]) -> None:
    done = exec_(*option, "--deadline", "0.3", "--grace", "0", "echo", ":::", "a")
    assert (done.code, done.out) == (124, "")


def test_the_environment_and_the_folder_are_the_commands_own(tmp_path: Path) -> None:
    words = [
        "--env",
        "GREETING=hi",
        "--cwd",
        str(tmp_path),
        "--shell",
        "echo $GREETING; pwd",
        ":::",
        "a",
    ]
    assert exec_(*words).out == f"hi\n{tmp_path}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no command"),
        (["ehco", ":::", "a"], "Did you mean 'echo'"),
        (["./nowhere", ":::", "a"], "no such file"),
        (["/etc/passwd", ":::", "a"], "chmod +x"),
        (["/etc", ":::", "a"], "folder"),
        (["echo 'half", ":::", "a"], "Close the quotation"),
        (["cd", ":::", "a"], "--shell"),
        (["echo # {}", ":::", "a"], "--shell"),
        (["cat ~/x {}", ":::", "a"], "--shell"),
        (["A=b echo {}", ":::", "a"], "--env A=b"),
        (["echo {} | wc", ":::", "a"], "--shell"),
        (["echo", "{3}", ":::", "a"], "{3}"),
        (["echo", "{x", "{4/}", ":::", "a", ":::", "b"], "{4/}"),
        (["echo", "::::", "/nowhere"], "/nowhere"),
        (["--cwd", "/nowhere", "echo", ":::", "a"], "mkdir"),
        (["-n2", "-N2", "echo"], "-n and -N"),
        (["--pipe", "echo", ":::", "a"], "--pipe"),
        (["--pipe", "cat", "{}"], "--pipe"),
        (["--recend", "x", "cat"], "--pipe"),
        (["-u", "--tag", "echo"], "-u"),
        (["--halt", "now", "echo", ":::", "a"], "now,fail=1"),
        (["--joblog", "/nowhere/x", "echo", ":::", "a"], "--joblog"),
        (["--encoding", "x-none", "echo", ":::", "a"], "encoding"),
        (["-j", "x", "echo", ":::", "a"], "200%"),
        (["--header", ":", "echo", "{nmae}", ":::", "name", "a"], "Did you mean 'name'"),
    ],
    ids=" ".join,
)
def test_what_cannot_run_is_refused_before_anything_does(words: list[str], said: str) -> None:
    done = exec_(*words)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


@pytest.mark.parametrize("text", ["echo a#b~c", "echo '|' {#}", 'echo "a > b"', "echo \\|"])
def test_one_text_without_anything_for_a_shell_is_split_into_words(text: str) -> None:
    done = exec_("--silent", text, ":::", "x")
    assert done.code == 0, done.err


def test_a_word_that_a_shell_would_act_on_is_pointed_out() -> None:
    done = exec_("echo", "a", "|", "wc", ":::", "b")
    assert done.out == "a | wc b\n"
    assert "--shell" in done.err


def test_no_arguments_are_no_commands_and_no_failure() -> None:
    assert exec_("echo", stdin="").code == 0
    assert exec_("echo", ":::").code == 0


def test_a_dry_run_shows_what_a_shell_would_read_and_runs_nothing(tmp_path: Path) -> None:
    done = exec_("--dry-run", "touch", f"{tmp_path}/{{}}", "{#}", ":::", "a b", "c")
    assert done.out == f"touch '{tmp_path}/a b' 1\ntouch {tmp_path}/c 2\n"
    assert not list(tmp_path.glob("[ac]*"))


def test_options_come_from_the_environment_too() -> None:
    assert exec_("echo", ":::", "a", PIECEWORK_TAG="1").out == "a\ta\n"


def test_help_says_how() -> None:
    done = exec_("--help")
    assert done.code == 0
    assert "::: ARG" in done.out
    assert "--line-buffer" in done.out


# -- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_starts_nothing_new_and_finishes_what_runs(
    tmp_path: Path, number: int, code: int
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [
            *COMMAND,
            "exec",
            "-j1",
            "sh",
            "-c",
            'read x < "$1"; echo $x',
            "x",
            ":::",
            *[str(fifo)] * 3,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with open(fifo, "w") as first:  # it is open once the command reads it
        process.send_signal(number)
        assert process.stderr is not None
        assert b"finish" in process.stderr.readline()
        first.write("done\n")
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == b"done\n"
    assert b"piecework resume" in err
