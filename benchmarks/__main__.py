"""Every benchmark, one after the other: `python -m benchmarks --quick`, then `table.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the programs are run as files, `-m benchmarks` is not

from report import ORDER  # noqa: E402  - needs the line above


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
