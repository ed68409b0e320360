"""A record as a table: for the terminal here, for README in table.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

ORDER = (
    "dispatch",
    "latency",
    "payload",
    "skew",
    "startup",
    "memory",
    "crash",
    "coroutines",
    "auto",
    "commands",
    "journal",
)


def newest_path(here: Path, name: str) -> Path:
    return here / "results" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"


def show(record: dict[str, Any]) -> None:
    made = record["machine"]
    print(f"\n{record['title']}")
    print(
        f"{made['processors']} x {made['model']}, {made['system']}, {made['python']}, "
        f"{made['workers']} workers, {made['when']}, load {made['load_at_end']:.1f}; "
        f"{record['rounds']} rounds"
    )
    for section, (unit, better) in record["units"].items():
        rows = [row for row in record["rows"] if row["section"] == section]
        if rows:
            print(f"\n{section} ({unit}, {better} is better; ratio to the best peer)")
            _print_table(table(record, section))
    for line in targets(record):
        print(line)


def table(record: dict[str, Any], section: str) -> list[list[str]]:
    """Header and rows, best first; what has no figure comes last and says why."""
    rows = [row for row in record["rows"] if row["section"] == section]
    more = record["units"][section][1] == "more"
    known = [row for row in rows if "median" in row]
    peers = [row["median"] for row in known if not row["ours"] and not row["bound"]]
    reference = (max(peers) if more else min(peers)) if peers else None
    columns = [name for name in record["columns"] if any(name in row for row in known)]
    lines = [["", "way", "setting", record["units"][section][0], "ratio", *columns, "notes"]]
    for row in sorted(known, key=lambda row: row["median"], reverse=more):
        ratio = f"{row['median'] / reference:.2f}" if reference else ""
        extra = [number(row[name]) if name in row else "" for name in columns]
        lines.append(
            [
                "*" if row["ours"] else "",
                row["name"],
                row["setting"],
                number(row["median"]),
                ratio,
                *extra,
                notes(row),
            ]
        )
    for row in rows:
        if "median" not in row:
            blank = [""] * len(columns)
            lines.append(
                [
                    "*" if row["ours"] else "",
                    row["name"],
                    row["setting"],
                    "-",
                    "",
                    *blank,
                    row["missing"],
                ]
            )
    return lines


def notes(row: dict[str, Any]) -> str:
    said = []
    for sample in row["samples"]:
        if "note" in sample and sample["note"] not in said:
            said.append(sample["note"])
    left = max((sample.get("left_running", 0) for sample in row["samples"]), default=0)
    if left:
        said.append(f"left {left} processes running")
    if lost := [sample["missing"] for sample in row["samples"] if "missing" in sample]:
        said.append(f"one round: {lost[0]}")
    return "; ".join(said)


def targets(record: dict[str, Any]) -> list[str]:
    lines = []
    for target in record["targets"]:
        if target["figure"] is None:
            lines.append(f"  ?      {target['text']}: not measured")
            continue
        verdict = "met   " if target["met"] else "NOT   "
        against = f" against {target['against']}" if target.get("against") else ""
        lines.append(
            f"  {verdict} {target['text']}: {number(target['figure'])}"
            f" ({target['sense']} {number(target['limit'])}){against}"
        )
    return ["", "targets (information, not a test)", *lines] if lines else []


def number(value: Any) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size < 10 else f"{value:.1f}"


def _print_table(lines: list[list[str]]) -> None:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    numeric = {3, 4}
    for line in lines:
        cells = [
            text.rjust(width) if place in numeric else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())
