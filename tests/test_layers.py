"""A file imports only from its own floor or a lower one, and never in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

FLOORS = [
    "errors losses lean bases record spin task retry sizes screen wording tail"
    " codec failures packing shipping byvalue arrival mainspace diagnosis"
    " quoting templates captured commands",
    "batching halting loop states run groups summary delivery measuring trivial"
    " pace display notebook watching"
    " queues queues.base executors executors.base executors.slot executors.channel executors.cores"
    " executors.share executors.cgroup executors.blas executors.memory"
    " executors.blame executors.outbox executors.shared executors.slot_thread"
    " console executors.printing executors.marked executors.logs executors.overheard"
    " journal journal.rows journal.identity journal.version journal.syntax journal.sql"
    " journal.directory journal.files"
    " journal.reader journal.recall journal.store journal.opening journal.writer journal.written"
    " journal.journal journal.again"
    " journal.stretches journal.known journal.entries journal.segments",
    "queues.memory feeder options journal.source"
    " executors.thread executors.inline executors.ordered executors.mapping executors.work"
    " executors.coroutine executors.coroutine_child executors.coroutine_slots executors.event_loop"
    " executors.coroutine_calls executors.coroutine_loops"
    " executors.process executors.processes executors.engine executors.roster executors.balance"
    " executors.watch"
    " executors.boot executors.deaths executors.results executors.worker_process executors.launcher"
    " executors.spawning"
    " executors.memory_watch executors.hearing executors.printed"
    " executors.supervisor executors.child executors.verdicts executors.future"
    " executors.command executors.command_start executors.command_spawn executors.command_child"
    " executors.command_ends executors.command_verdict executors.command_guard"
    " executors.command_fan executors.command_work executors.command_stream"
    " executors.command_watcher",
    "worker master crew auto",
    "reporting handle wiring runtime"
    " pool pool.flow pool.outcomes pool.results pool.ending pool.workers"
    " joblib_register joblib_backend joblib_worker",
    "extract extract.pattern extract.plan extract.rows extract.job",
    "cli cli.app cli.options cli.target cli.inputs cli.values cli.output cli.progress cli.text"
    " cli.ends cli.exec cli.exec.blocks cli.exec.folders cli.exec.gather cli.exec.joblog"
    " cli.exec.limits"
    " cli.exec.options cli.exec.quantities cli.exec.sources cli.exec.words cli.exec.plan"
    " cli.exec.program cli.exec.pace cli.exec.show cli.exec.drive cli.exec.records"
    " cli.exec.command cli.exec.manual"
    " cli.keeping cli.stored cli.runs cli.show cli.results cli.resume cli.retry cli.replay"
    " cli.cancel"
    " cli.doctor cli.doctor.finding cli.doctor.machine cli.doctor.places cli.doctor.packages"
    " cli.doctor.workers"
    " cli.rm cli.drive cli.table cli.signals cli.ending cli.map cli.extract cli.version __main__",
]
FLOOR = {f"piecework.{name}": i for i, names in enumerate(FLOORS) for name in names.split()}
WHOLE = ("piecework.extract", "piecework.cli", "piecework.pool")  # one line each in the code map
PUBLIC_ONLY = ("piecework.extract",)  # our first outside user: the public names and nothing else


def modules() -> dict[str, Path]:
    """Every module under src by its dotted name; the root, which names them all, is left out."""
    found = {}
    for path in SRC.rglob("*.py"):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found.pop("piecework", None)
    return found


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """What of piecework a file imports, in functions too, but not what only type checkers see."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.startswith("piecework"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("piecework"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in FLOOR else str(node.module)), node.lineno


def test_every_module_stands_on_a_floor() -> None:
    missing = sorted(modules().keys() - FLOOR.keys())
    assert not missing, f"not in FLOORS: {missing}. Add each to the lowest floor it can stand on"


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_down_only(name: str) -> None:
    for target, line in imports(modules()[name]):
        place = f"{modules()[name].relative_to(SRC.parent)}:{line}"
        public = target == "piecework" and FLOOR.get(name, 0) > FLOOR["piecework.runtime"]
        assert public or target in FLOOR, f"{place} imports {target}, which stands on no floor"
        assert public or FLOOR[target] <= FLOOR[name], f"{place} imports upwards: {target}"
        if name.startswith(PUBLIC_ONLY):
            assert public or target.startswith(PUBLIC_ONLY), f"{place}: {target} is not public"


def test_there_is_no_circle_of_imports() -> None:
    graph = {name: {t for t, _ in imports(path)} for name, path in modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_code_map_names_every_file() -> None:
    text = (SRC.parent / "ARCHITECTURE.md").read_text("utf-8").partition("## Code map")[2]
    named = {word.split("/")[-1] for word in re.findall(r"`([\w/]+)`", text)}
    parts = {name.rpartition(".")[2] for name in modules() if not name.startswith(WHOLE)}
    missing = parts - named - {"queues", "executors", "__main__"}
    assert not missing, f"not in the code map of ARCHITECTURE.md: {sorted(missing)}"
