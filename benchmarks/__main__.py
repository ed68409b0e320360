"""Every benchmark, one after the other: `python benchmarks --quick`, then `table.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from report import ORDER

HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    asked = [word for word in arguments if word in ORDER]
    options = [word for word in arguments if word not in ORDER]
    worst = 0
    for name in asked or ORDER:
        print(f"\n== {name}", flush=True)
        worst |= subprocess.run([sys.executable, str(HERE / f"{name}.py"), *options]).returncode
    return worst


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
