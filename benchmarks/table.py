"""Write the newest figures into README.md, and keep the JSON they come from in results/quoted/.

`python benchmarks/table.py [--quick-too]`: only full runs are quoted unless told otherwise.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import report
from report import ORDER

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
MARKS = ("<!-- figures: written by table.py -->", "<!-- end of figures -->")


def newest(name: str, quick_too: bool) -> dict[str, Any] | None:
    """The newest record of a benchmark that covers all its ways; quoted ones are the fallback."""
    quoted = RESULTS / "quoted" / f"{name}.json"
    for path in [*sorted(RESULTS.glob(f"{name}-*.json"), reverse=True), quoted]:
        if not path.exists():
            continue
        record = json.loads(path.read_text())
        words = record["command"].split()
        if "--only" in words or ("--quick" in words and not quick_too and path != quoted):
            continue
        if not quick_too and path != quoted:
            quoted.parent.mkdir(exist_ok=True)
            quoted.write_text(json.dumps(_without_traces(record), indent=1) + "\n")
        return record
    return None


def _without_traces(record: dict[str, Any]) -> dict[str, Any]:
    for row in record["rows"]:
        for sample in row["samples"]:
            sample.pop("trace", None)
    return record


def targets(records: list[dict[str, Any]]) -> list[str]:
    lines = ["| target | asked | measured | met |", "|---|---|---|---|"]
    for target in (one for record in records for one in record["targets"]):
        figure = target["figure"]
        limit = f"{target['sense']} {report.number(target['limit'])}"
        measured = "not measured" if figure is None else report.number(figure)
        if target.get("against") and figure is not None:
            measured += f" of {target['against']}"
        met = {None: "", True: "yes", False: "**no**"}[target["met"]]
        lines.append(f"| {target['text']} | {limit} | {measured} | {met} |")
    return lines


def losses(records: list[dict[str, Any]]) -> list[str]:
    """Every section whose best way is not ours, and by how much: the cases where we lose."""
    lines = []
    for record in records:
        for section, (unit, better) in record["units"].items():
            known = [
                row
                for row in record["rows"]
                if row["section"] == section and "median" in row and not row["bound"]
            ]
            ours = [row for row in known if row["ours"]]
            peers = [row for row in known if not row["ours"]]
            if not ours or not peers:
                continue
            pick, sign = (max, 1) if better == "more" else (min, -1)
            mine = pick(ours, key=lambda row: row["median"])
            for peer in sorted(peers, key=lambda row: -sign * row["median"]):
                if sign * (peer["median"] - mine["median"]) > 0:
                    high, low = sorted((peer["median"], mine["median"]), reverse=True)
                    lines.append(
                        f"- {record['benchmark']}, {section}: {peer['name']} ({peer['setting']}) "
                        f"{report.number(peer['median'])} {unit}, our best {mine['name']} "
                        f"({mine['setting']}) {report.number(mine['median'])}: "
                        f"a factor of {high / max(low, 1e-9):.2f}."
                    )
    return lines or ["- none in these figures"]


def section_table(record: dict[str, Any], section: str) -> list[str]:
    header, *rows = report.table(record, section)
    lines = ["| " + " | ".join(header[1:]) + " |", "|" + "---|" * (len(header) - 1)]
    for row in rows:
        cells = [cell.replace("|", "/") for cell in row[1:]]
        if row[0]:
            cells[0] = f"**{cells[0]}**"
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def figures(records: list[dict[str, Any]]) -> str:
    lines: list[str] = []
    if records:
        made = records[0]["machine"]
        versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
        lines += [
            f"{made['processors']} x {made['model']}, {made['memory']}, {made['system']}, "
            f"{made['python']}, {made['workers']} workers. {versions}.",
            "",
            "### Targets",
            "",
            *targets(records),
            "",
            "### Where we lose",
            "",
            *losses(records),
            "",
        ]
    for record in records:
        made = record["machine"]
        lines += [
            f"### {record['title']}",
            "",
            f"`{record['command']}`, {made['when']}, load {made['load_at_end']:.1f}, medians of "
            f"{record['rounds']} interleaved rounds; `ratio` is to the best peer."
            + (f" {record['note']}." if record["note"] else ""),
            "",
        ]
        for section, (unit, better) in record["units"].items():
            if any(row["section"] == section for row in record["rows"]):
                lines += [f"**{section}** ({unit}, {better} is better)", ""]
                lines += [*section_table(record, section), ""]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    found = [newest(name, "--quick-too" in arguments) for name in ORDER]
    records = [record for record in found if record]
    path = HERE / "README.md"
    start, end = MARKS
    block = f"{start}\n\n{figures(records)}\n{end}"
    text = re.sub(
        re.escape(start) + ".*" + re.escape(end), lambda _: block, path.read_text(), flags=re.DOTALL
    )
    path.write_text(text)
    print(f"{path}: {len(records)} benchmarks")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
