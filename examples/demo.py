"""`make demo`: two jobs on files that every machine has, run as you would run them.

1. measure.py over every file of this Python's standard library, on all cores. It is killed
   half-way, as by a crash, and goes on. Some files of the library's test suite are broken on
   purpose: they fail, by name, and cost nobody else anything.
2. `extract` over the log that pip wrote while this project was installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MEASURE = HERE / "measure.py"
PIECEWORK = [sys.executable, "-m", "piecework"]
KILL_BYTES = 100_000  # of results: some hundred files

# time, what pip did, about what, and of a link its address, file and version. What is not an
# event (continued lines, raw requests, progress) is left over and counted.
PIP_LINE = (
    r"^(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}) +"
    r"(?P<event>[A-Z][a-z]+(?: (?:link|page|index url|up|in indexes|in links|temporary directory"
    r"|build tracker|cache))?):? ?"
    r"(?P<detail>.*?)"
    r"(?::? ?(?P<url>(?:https?|file)://[^\s\"#]*/(?P<file>[^/\s\"#]*))"
    r"(?:.*, version: (?P<version>\S+)|.*))?$"
)


def main() -> int:
    """Run both jobs and say where the output lies; 0 when both did what they should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pip-log", type=Path, default=Path(".venv/pip.log"))
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True)
    # Runs are kept in the state directory of the user; those of the demo stay with its output.
    os.environ["XDG_STATE_HOME"] = str((given.out / "state").resolve())
    measured = measure_library(given.out)
    extracted = take_log_apart(given.pip_log, given.out)
    print("\nThe same on files of your own:")
    print("  .venv/bin/piecework map examples/measure.py:measure YOUR/*.py -o measures.jsonl")
    print("  .venv/bin/piecework extract '^(?P<first>\\S+) (?P<rest>.*)$' YOUR.log -o rows.jsonl")
    return 0 if measured and extracted else 1


def measure_library(out: Path) -> bool:
    """Every file of the standard library; broken ones are expected, lost ones are not."""
    library = Path(sysconfig.get_path("stdlib"))
    paths = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts)
    listing, results = out / "files.txt", out / "measures.jsonl"
    listing.write_text("".join(f"{path}\n" for path in paths), "utf-8", "surrogateescape")
    title(f"1. Measure {len(paths):,} files of {library}")
    job = ["map", f"{relative(MEASURE)}:measure", "-a", str(listing), "-o", str(results)]
    piecework("rm", "demo", quiet=True)
    if killed(results, *job, "--name", "demo"):
        print(
            f"... killed with SIGKILL after {sum(1 for _ in read(results)):,} results; it goes on:"
        )
    code = piecework("resume", "demo")
    rows = list(read(results))
    good = [row for row in rows if row["ok"]]
    lines = sum(row["value"]["lines"] for row in good)
    print(f"\n{lines:,} lines in {len(good):,} files. Most functions:")
    for row in sorted(good, key=lambda row: -row["value"]["functions"])[:3]:
        value, name = row["value"], Path(row["input"]).relative_to(library)
        print(f"  {value['functions']:>5} functions, {value['lines']:>6,} lines  {name}")
    if len(good) == len(rows):
        print("Nothing failed: this Python comes without its test suite and its broken files.")
    print(f"results, one JSON object a file: {results}")
    once = len({row["input"] for row in rows}) == len(rows)
    return code in (0, 1) and once and len(rows) == len(paths)


def take_log_apart(log: Path, out: Path) -> bool:
    """The log of the installation as rows: what pip did, and with which file."""
    if not log.is_file():
        print(f"\n2. skipped: there is no {log}. `make demo` writes it when it installs.")
        return True
    results = out / "pip.jsonl"
    title(f"2. Take {log} apart ({log.stat().st_size / 1e6:.1f} MB)")
    code = piecework("extract", PIP_LINE, str(log), "-o", str(results))
    events = Counter(row["event"] for row in read(results))
    print("\nWhat pip did most: " + ", ".join(f"{e} {n:,}" for e, n in events.most_common(4)))
    print(f"rows, one JSON object a line: {results}")
    return code == 0 and events.total() > 0


def title(text: str) -> None:
    """A heading, before the command writes to standard error."""
    print(f"\n=== {text}", flush=True)


def piecework(*arguments: str, quiet: bool = False) -> int:
    """Show the command line and run it."""
    if not quiet:
        print(f"$ piecework {shlex.join(arguments)}", flush=True)
    stderr = subprocess.DEVNULL if quiet else None
    return subprocess.run(PIECEWORK + list(arguments), stderr=stderr).returncode


def killed(results: Path, *arguments: str) -> bool:
    """Show the command line, run it, and kill it once a third of the results may be there.

    False where it was faster than that.
    """
    print(f"$ piecework {shlex.join(arguments)}", flush=True)
    results.unlink(missing_ok=True)
    with subprocess.Popen(PIECEWORK + list(arguments), start_new_session=True) as run:
        while run.poll() is None:
            if results.exists() and results.stat().st_size > KILL_BYTES:
                os.kill(run.pid, signal.SIGKILL)
            time.sleep(0.01)
    return run.returncode == -signal.SIGKILL


def read(path: Path) -> Iterator[Any]:
    """The JSON lines of a file; of a killed run the last one may be half."""
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.endswith("\n"))


def relative(path: Path) -> Path:
    """As one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
