"""Run every way of doing the same thing, by turns, and compare them by ratios.

    program.py ──▶ Bench ──▶ for each round: for each way ──▶ program.py --one WAY   (a process)
                     │                                            └▶ one line of JSON
                     └▶ medians, ratios inside one round, targets ──▶ table and results/*.json

Each measurement is a process of its own: no way inherits another one's threads or memory, what
hangs is killed after `limit` seconds and reported, and what a way leaves running is counted and
ended. The rounds are interleaved, so what disturbs the machine disturbs every way alike. The
ratios are formed inside a round and their median is taken: on a shared machine the seconds of
two rounds cannot be compared, the ratios can.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import report
from oneway import ANSWER, SOURCE, run_one
from work import calibrate

HERE = Path(__file__).resolve().parent
DEFAULT = "default"
BEST = "best by hand"


class Missing(Exception):
    """This way cannot be measured here: not installed, or not written yet."""


@dataclass
class Context:
    """What a measurement is told."""

    quick: bool = False
    workers: int = 2
    millisecond: int = 10_000  # iterations of work.burn that took 1 ms when calibrated
    choice: Any = None  # the chunk size, where the way has choices

    def sized(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass
class Way:
    """One way of doing what the section measures; `measure` returns at least `value`."""

    section: str
    name: str
    setting: str
    measure: Callable[[Context], dict[str, Any]]
    ours: bool = False
    choices: tuple[Any, ...] = ()  # tried once each before the rounds; the best is kept
    heavy: bool = False  # left out of a quick run
    bound: bool = False  # what nobody can pass, or another kind of thing: not a peer
    limit: float = 60.0

    @property
    def key(self) -> str:
        return f"{self.section} | {self.name} | {self.setting}"


@dataclass
class Target:
    """A figure to reach: of one of our ways, alone or divided by the best of `against`."""

    text: str
    section: str
    ours: str  # "name | setting"
    against: Iterable[str] = ()  # "name | setting" each; "*" is every peer of the section
    at_least: float | None = None
    at_most: float | None = None
    field: str = "value"


@dataclass
class Bench:
    """One program of this folder."""

    name: str
    title: str
    units: dict[str, tuple[str, str]]  # section -> (unit, "more" or "less", which is better)
    columns: tuple[str, ...] = ()  # further fields of the answers to show
    ways: list[Way] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    note: str = ""
    source: str | None = None  # another src than ours, to compare two versions

    def way(self, section: str, name: str, setting: str = DEFAULT, **more: Any) -> Callable:
        def add(measure: Callable[[Context], dict[str, Any]]) -> Callable:
            self.ways.append(Way(section, name, setting, measure, **more))
            return measure

        return add

    def target(self, text: str, section: str, ours: str, **more: Any) -> None:
        self.targets.append(Target(text, section, ours, **more))

    def better(self, section: str) -> Callable[[Iterable[float]], float]:
        return max if self.units[section][1] == "more" else min

    def main(self, argv: list[str] | None = None) -> int:
        args = _arguments(self).parse_args(argv)
        if args.one:
            return self._answer(args.one, Context(**json.loads(args.context)))
        record = self.run(args)
        report.show(record)
        path = Path(args.json) if args.json else report.newest_path(HERE, self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1))
        print(f"\nwritten to {path}")
        return 0

    def _answer(self, key: str, context: Context) -> int:
        """The measuring process: one way, once, one line of JSON."""
        way = next(way for way in self.ways if way.key == key)
        try:
            answer = way.measure(context)
        except Missing as missing:
            answer = {"missing": str(missing)}
        except ImportError as error:
            answer = {"missing": f"not installed ({error.name})"}
        except Exception as error:
            answer = {
                "missing": f"failed: {type(error).__name__}: {str(error)[:200]}",
                "trace": traceback.format_exc()[-3000:],
            }
        print(ANSWER + json.dumps(answer), flush=True)
        return 0

    def run(self, args: argparse.Namespace) -> dict[str, Any]:
        began = time.time()
        self.source = args.source
        # As pip does for the peers; where PYTHONDONTWRITEBYTECODE is set every start would compile.
        compileall.compile_dir(self.source or SOURCE, quiet=2)
        context = Context(args.quick, args.workers, calibrate())
        ways = [
            way
            for way in self.ways
            if not (way.heavy and args.quick)
            and all(word.lower() in way.key.lower() for word in args.only)
        ]
        rounds = args.rounds or (1 if args.quick else 3)
        samples: dict[str, list[dict[str, Any]]] = {way.key: [] for way in ways}
        chosen = {way.key: self._choose(way, context) for way in ways if way.choices}
        for number in range(rounds):
            turn = number % len(ways) if ways else 0
            for way in ways[turn:] + ways[:turn]:
                had = samples[way.key]
                if had and "value" not in had[-1]:
                    continue  # missing or hanging: once is enough
                had.append(self._measure(way, context, chosen.get(way.key)))
                _progress(number, way, had[-1])
        rows = [self._row(way, samples[way.key], chosen.get(way.key)) for way in ways]
        return {
            "benchmark": self.name,
            "title": self.title,
            "note": self.note,
            "units": self.units,
            "columns": list(self.columns),
            "command": f"python benchmarks/{self.name}.py --rounds {rounds}"
            + (" --quick" if args.quick else "")
            + "".join(f" --only '{word}'" for word in args.only),
            "rounds": rounds,
            "seconds": round(time.time() - began, 1),
            "machine": machine.describe(context.workers, context.millisecond),
            "rows": rows,
            "targets": [self._judge(target, rows) for target in self.targets],
        }

    def _choose(self, way: Way, context: Context) -> Any:
        """The best of the way's choices; None where none of them gave a value."""
        tried = {}
        for choice in way.choices:
            answer = self._measure(way, context, choice)
            _progress("choosing", way, answer | {"choice": choice})
            if "value" not in answer:
                break
            tried[answer["value"]] = choice
        return tried[self.better(way.section)(tried)] if tried else way.choices[0]

    def _measure(self, way: Way, context: Context, choice: Any) -> dict[str, Any]:
        told = json.dumps(vars(context) | {"choice": choice})
        program = HERE / f"{self.name}.py"
        command = [str(program), "--one", way.key, "--context", told]
        return run_one(command, way.limit, self.source)

    def _row(self, way: Way, samples: list[dict[str, Any]], choice: Any) -> dict[str, Any]:
        values = [sample["value"] for sample in samples if "value" in sample]
        row: dict[str, Any] = {
            "section": way.section,
            "name": way.name,
            "setting": f"{way.setting} ({choice})" if choice is not None else way.setting,
            "id": f"{way.name} | {way.setting}",
            "ours": way.ours,
            "bound": way.bound,
            "samples": samples,
        }
        if values:
            row["median"] = statistics.median(values)
            for column in self.columns:
                shown = [sample[column] for sample in samples if column in sample]
                if shown:
                    numbers = all(isinstance(one, int | float) for one in shown)
                    row[column] = statistics.median(shown) if numbers else shown[-1]
        else:
            row["missing"] = samples[-1].get("missing", "?") if samples else "not run"
        return row

    def _judge(self, target: Target, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The target's figure, the median of the ratios inside each round; None if unknown."""
        here = [row for row in rows if row["section"] == target.section and "median" in row]
        ours = next((row for row in here if row["id"] == target.ours), None)
        peers = [
            row
            for row in here
            if row["id"] in target.against
            or ("*" in target.against and not row["ours"] and not row["bound"])
        ]
        verdict: dict[str, Any] = {"text": target.text, "figure": None, "met": None}
        verdict["limit"] = target.at_least if target.at_most is None else target.at_most
        verdict["sense"] = "at least" if target.at_most is None else "at most"
        mine = [s[target.field] for s in ours["samples"] if target.field in s] if ours else []
        if not mine or (target.against and not peers):
            return verdict
        if peers:
            best_median = self.better(target.section)(row["median"] for row in peers)
            best = next(row for row in peers if row["median"] == best_median)
            theirs = [s["value"] for s in best["samples"] if "value" in s]
            mine = [one / other for one, other in zip(mine, theirs, strict=False)]
            verdict["against"] = f"{best['name']}, {best['setting']}"
        verdict["figure"] = figure = statistics.median(mine)
        verdict["met"] = (
            figure >= verdict["limit"] if target.at_most is None else (figure <= verdict["limit"])
        )
        return verdict


def _arguments(bench: Bench) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=bench.title)
    parser.add_argument("--rounds", type=int, help="repetitions of each way (3; quick 1)")
    parser.add_argument("--quick", action="store_true", help="small counts, no heavy peers")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="ways whose name has this word; may be repeated",
    )
    parser.add_argument("--workers", type=int, default=min(2, machine.processors()))
    parser.add_argument("--json", metavar="FILE", help="where to write (results/NAME-TIME.json)")
    parser.add_argument("--source", metavar="SRC", help="another version's src folder")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--context", help=argparse.SUPPRESS)
    return parser


def _progress(number: int | str, way: Way, answer: dict[str, Any]) -> None:
    said = answer.get("missing") or f"{answer['value']:,.6g}"
    if "choice" in answer:
        said += f" with {answer['choice']}"
    head = f"round {number + 1}" if isinstance(number, int) else number
    print(f"  {head}: {way.key}: {said}", file=sys.stderr)
    if os.environ.get("BENCH_TRACE") and "trace" in answer:
        print(answer["trace"], file=sys.stderr)
