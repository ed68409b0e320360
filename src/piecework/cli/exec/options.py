"""The options of `piecework exec`: a table, its help, and a reader that knows no other module.

Options come before the command: its own options are the command's. They are read here and not by
click, whose import takes as long as a hundred small commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from piecework.cli.exec import quantities
from piecework.errors import UsageError
from piecework.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record(frozen=True, slots=True)
class Option:
    """One option: its spellings, what it is called in the program, what it is given."""

    names: str
    dest: str
    metavar: str = ""  # none: it is a flag
    help: str = ""
    read: Any = str  # a function of the text
    value: Any = None  # what a flag stands for, if not True
    many: bool = False
    optional: str | None = None  # a value only with =, and this one without
    choices: tuple[str, ...] = ()


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise UsageError(f"{text!r} is none of: {', '.join(choices)}.")
        return text

    return read


_AT_LEAST_0, _AT_LEAST_1 = quantities.whole(0), quantities.whole(1)

SECTIONS: dict[str, tuple[Option, ...]] = {
    "Arguments": (
        Option("-a --arg-file", "arg_file", "FILE",
               "Read arguments from FILE, one a line. Also: :::: FILE", many=True),
        Option("-0 --null", "null", help="Arguments end with NUL, as find -print0 writes."),
        Option("-d --delimiter", "delimiter", "TEXT",
               r"What ends an argument in a file or in standard input. [default: \n]",
               quantities.unescaped),
        Option("-C --colsep", "colsep", "REGEX", "Split each argument into {1} {2} ... here."),
        Option("--trim", "trim", "n|l|r|lr",
               "Take spaces away from the left, the right. [default: n; lr with "
               "--colsep]", _one_of("n", "l", "r", "lr", "rl")),
        Option("--header", "header", "C",
               "The first line has names, {name} stands for its column. C is a --colsep, "
               "or : for none."),
        Option("--link --xapply", "link",
               help="Sources side by side instead of every combination. Also: :::+"),
        Option("-n --max-args", "max_args", "N",
               "At most N arguments a command; 0: read one, insert none.", _AT_LEAST_0),
        Option("-N --max-replace-args", "replace_args", "N",
               "The same; with --pipe, N records a block.", _AT_LEAST_0),
        Option("-X", "context",
               help="As many arguments as fit, x{}y becomes xay xby; shared out among the jobs."),
        Option("-m", "multiple", help="The same, x{}y becomes xa by."),
        Option("--xargs", "xargs", help="The same, not shared out."),
        Option("-s --max-chars", "max_chars", "N",
               "Characters that fit in one command. [default: 131072]", _AT_LEAST_1),
        Option("-I --replace", "replace", "TEXT", "Write TEXT instead of {}."),
        Option("-r --no-run-if-empty", "skip_blank", help="Leave out blank lines."),
    ),
    "Standard input in blocks": (
        Option("--pipe --spreadstdin", "pipe", help="Feed blocks of standard input to commands."),
        Option("--block --block-size", "block", "SIZE",
               "How large a block may be. [default: 1M]", quantities.bytes_),
        Option("--recend", "recend", "TEXT",
               r"What ends a record; a block has whole ones. [default: \n]", quantities.unescaped),
        Option("--recstart", "recstart", "TEXT", "What begins a record.", quantities.unescaped),
    ),
    "Running": (
        Option("-j --jobs -P --max-procs", "jobs", "N",
               "Commands at once: 4, 200% of the cores, +1, -1, 0 for all. [default: one a core]"),
        Option("--shell", "shell",
               help="Run the command line in a shell; arguments stay what they are, in any "
               "quotes."),
        Option("-q --quote", "quote",
               help="Words of the command are no shell code. Only of use with --shell."),
        Option("--timeout", "timeout", "TIME",
               "End a command after this long: 30, 10m, or 300% of the median."),
        Option("--retries", "retries", "N",
               "Try a failed command this often again. [default: 0]", _AT_LEAST_0),
        Option("--retry-delay", "retry_delay", "TIME",
               "Wait before the first retry, doubled for each after. [default: 0.5s]",
               quantities.seconds),
        Option("--deadline", "deadline", "TIME",
               "End the whole run after this long; exit 124.", quantities.seconds),
        Option("--grace", "grace", "TIME",
               "What running commands get to finish after Ctrl-C or the deadline. [default: 10s]",
               quantities.seconds),
        Option("--halt", "halt", "RULE",
               "Stop after 3 or 5% failures, or soon|now,fail|success|done=N or N%."),
        Option("--delay", "delay", "TIME", "Between two starts.", quantities.seconds),
        Option("--load --max-load", "load", "N",
               "Start nothing at this load: 3.5, or 80% of the cores."),
        Option("--memfree", "memfree", "SIZE",
               "Start nothing with less memory free; with half of it, end the youngest "
               "and run it again later.", quantities.bytes_),
        Option("--max-memory", "max_memory", "SIZE",
               "End a command that takes more, with all that it started: 500MB, 2G."),
        Option("--cwd --workdir --wd", "cwd", "DIR", "Run commands there."),
        Option("--env", "env", "NAME[=VALUE]",
               "Set it for the commands. They have all of our environment.", many=True),
    ),
    "Output": (
        Option("-k --keep-order", "keep_order", help="In the order of the arguments."),
        Option("--tag", "tag", help="Put the arguments and a tab before each line."),
        Option("--tagstring", "tagstring", "TEXT",
               "Put TEXT, with {} and the like, and a tab before each line."),
        Option("--group", "grouping",
               help="All of a command's output at once. [default]", value="group"),
        Option("--line-buffer --linebuffer --lb", "grouping",
               help="Lines as they come, each whole.", value="line"),
        Option("-u --ungroup", "grouping",
               help="Commands write by themselves; nothing is captured.", value="none"),
        Option("--json", "json", help="One JSON object a command, and the account as JSON."),
        Option("-o --output", "output", "FILE", "Write those JSON objects to FILE."),
        Option("--encoding", "encoding", "NAME",
               "What commands print is text in. [default: utf-8]"),
        Option("--results", "results", "DIR",
               "Keep outputs in DIR/1/ARGUMENT/stdout, stderr, seq."),
        Option("--joblog", "joblog", "FILE",
               "A line a command, in the nine columns of GNU parallel; +FILE goes on."),
        Option("-v --verbose", "verbose", help="Print each command before its output."),
        Option("-t", "trace", help="Print each command on standard error as it starts."),
        Option("--dry-run --dryrun", "dry_run", help="Print the commands and run none."),
        Option("--progress", "progress", "MODE",
               "auto, bar, plain, json or off. [default: auto]",
               _one_of("auto", "bar", "plain", "json", "off")),
        Option("--bar --eta", "progress", help="The same as --progress bar.", value="bar"),
        Option("--silent", "silent", help="No account at the end where all is done."),
    ),
    "Going on": (
        Option("--name", "name", "NAME",
               "Of the run. [default: made up from the command and the time]"),
        Option("--resume", "resume", "HOW",
               "Go on with the run of that --name, or else with the last one of this "
               "very command. =failed tries the failed ones too, =anyway goes on "
               "although the command was changed.",
               _one_of("", "failed", "anyway", "failed,anyway"), optional=""),
        Option("--resume-failed --retry-failed", "resume",
               help="The same as --resume=failed.", value="failed"),
        Option("--journal", "journal", "FILE",
               "Keep the journal in FILE. [default: in the state directory]"),
        Option("--no-journal", "no_journal", help="Keep none: the run cannot be resumed."),
        Option("-h --help", "help", help="Show this."),
    ),
}  # fmt: skip  # one option a line reads as a table

KNOWN = {
    name: option for part in SECTIONS.values() for option in part for name in option.names.split()
}
DEFAULTS = {
    "progress": "auto",
    "grouping": "group",
    "retries": 0,
    "encoding": "utf-8",
    "grace": 10.0,
}

ELSEWHERE = {
    "other machines come with `piecework worker`, not in this version": (
        "-S --sshlogin --sshloginfile --slf --transfer --transferfile --trc --return --cleanup"
        " --onall --nonall --basefile --filter-hosts"
    ),
    "use --pipe with the file on standard input": "--pipepart --pipe-part --cat --fifo",
    "use piecework.Semaphore, or flock(1)": "--semaphore --sem --bg --fg --id --wait",
    "nothing is asked for": "--will-cite --citation --bibtex",
    "use --retries, --retry-delay": "--retry",
    "write the command in Python: piecework map": "--rpl --plus --arg-sep --shebang --tmux --sql",
    "commands get SIGTERM, then SIGKILL, with all that they started": "--termseq",
    "have a shell limit the command: --shell 'ulimit -v 2000000; CMD'": "--memsuspend",
    "run piecework itself under nice(1)": "--nice",
}  # fmt: skip


def read(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The options by their names in the program, and the words that follow them.

    What is not given is as in DEFAULTS, else None.
    """
    given: dict[str, Any] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            _long(word, rest, given)
        else:
            _short(word, rest, given)
    found = {option.dest: None for option in KNOWN.values()}
    return {**found, **DEFAULTS, **given}, rest


def _long(word: str, rest: list[str], given: dict[str, Any]) -> None:
    name, equals, value = word.partition("=")
    option = KNOWN.get(name) or _abbreviated(name)
    if not option.metavar:
        if equals:
            raise UsageError(f"{name} takes no value. Leave out ={value}")
        _set(option, name, None, given)
        return
    if not equals:
        if option.optional is not None:
            value = option.optional
        elif not rest:
            raise UsageError(f"{name} needs a value: {name} {option.metavar}")
        else:
            value = rest.pop(0)
    _set(option, name, value, given)


def _short(word: str, rest: list[str], given: dict[str, Any]) -> None:
    """`-k`, `-j4`, `-kj4`, `-j 4`."""
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        option = KNOWN.get(name)
        if option is None:
            raise UsageError(_unknown(name))
        if not option.metavar:
            _set(option, name, None, given)
            continue
        if not letters and not rest:
            raise UsageError(f"{name} needs a value: {name} {option.metavar}")
        _set(option, name, letters or rest.pop(0), given)
        return


def _set(option: Option, name: str, text: str | None, given: dict[str, Any]) -> None:
    if text is None:
        given[option.dest] = True if option.value is None else option.value
        return
    try:
        value = option.read(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    if option.many:
        given.setdefault(option.dest, []).append(value)
    else:
        given[option.dest] = value


def _abbreviated(name: str) -> Option:
    """A long option by its beginning, where that is one only."""
    found = {o.dest: o for known, o in KNOWN.items() if len(name) > 4 and known.startswith(name)}
    if len(found) == 1:
        return next(iter(found.values()))
    raise UsageError(_unknown(name))


def _unknown(name: str) -> str:
    for instead, names in ELSEWHERE.items():
        if name in names.split():
            return f"{name}: {instead}."
    from piecework.cli.target import did_you_mean

    long = [known for known in KNOWN if known.startswith("--")]
    hint = did_you_mean(name, long) if name.startswith("--") else ""
    return f"no option {name}. {hint or 'All options: piecework exec --help'}"


def from_environment(environment: Mapping[str, str]) -> list[str]:
    """Options given as variables, as words: PIECEWORK_KEEP_ORDER=1 is --keep-order."""
    words: list[str] = []
    if not any(name.startswith("PIECEWORK_") for name in environment):
        return words
    for name, option in KNOWN.items():
        if not name.startswith("--") or option.dest == "help":
            continue
        text = environment.get("PIECEWORK_" + name[2:].upper().replace("-", "_"))
        if text is None:
            continue
        if option.metavar:
            words.append(f"{name}={text}")
        elif text.lower() not in ("", "0", "false", "no", "off"):
            words.append(name)
    return words
