"""What a run tells while it goes (Progress) and at its end (Summary), and its timings.

Both are plain values. `str(summary)` is the closing account as people read it; its last line is
the audit: inputs = done + failed + quarantined + cancelled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from piecework.groups import FailureGroup
from piecework.record import record
from piecework.wording import counted, exact, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from piecework.task import Result

_GROUPS_SHOWN = 20
_STEPS = 8  # a bucket is 9 % wide


class Timings:
    """Percentiles of task durations in bounded memory: counts on a logarithmic scale."""

    def __init__(self) -> None:
        self.tasks = 0
        self.seconds = 0.0
        self.longest = 0.0
        self._counts: dict[int, int] = {}

    def add(self, stretches: Iterable[tuple[int, float]]) -> None:
        """Count stretches of `(tasks, seconds)`; tasks timed together count with their mean."""
        for tasks, seconds in stretches:
            mean = seconds / tasks
            bucket = math.floor(math.log2(mean) * _STEPS) if mean > 1e-9 else -240
            self._counts[bucket] = self._counts.get(bucket, 0) + tasks
            self.tasks += tasks
            self.seconds += seconds
            if mean > self.longest:
                self.longest = mean

    def percentile(self, share: float) -> float:
        """Seconds that this share of the tasks stayed under, to within a tenth."""
        wanted = share * self.tasks
        for bucket in sorted(self._counts):
            wanted -= self._counts[bucket]
            if wanted <= 0:
                return min(2 ** ((bucket + 0.5) / _STEPS), self.longest)
        return self.longest

    def percentiles(self) -> dict[str, float]:
        found = {f"p{n}": self.percentile(n / 100) for n in (50, 90, 99)}
        return {**found, "max": self.longest}


@record(frozen=True, slots=True)
class Progress:
    """Where a run stands; `rate` is recent, `eta_low` to `eta_high` are the seconds left.

    `busy` of the `slots` run a task now. `waiting` counts tasks that are to be tried again.
    `groups` are the five largest groups of failures of `group_count`; `firsts` the first failure
    of each group of this session as they came, the first 21. `stopped` says why the run is ending.
    `recalled` counts what an earlier session of the run did; it is in `done` and the others, too.
    """

    total: int | None
    done: int
    failed: int
    quarantined: int
    cancelled: int
    running: int
    waiting: int
    retries: int
    repeats: int
    groups: tuple[FailureGroup, ...]
    seconds: float
    rate: float
    eta_low: float | None
    eta_high: float | None
    recalled: int = 0
    busy: int = 0
    slots: int = 0
    group_count: int = 0
    firsts: tuple[Result, ...] = ()
    stopped: str = ""

    @property
    def settled(self) -> int:
        """Tasks that nothing more will happen to."""
        return self.done + self.failed + self.quarantined + self.cancelled

    @property
    def share(self) -> float | None:
        """How much is settled, 0 to 1; None where the number of inputs is not known."""
        return self.settled / self.total if self.total else None


@record(frozen=True, slots=True)
class Summary:
    """The account of a run. `str()` gives the closing lines.

    `inputs` counts what was drawn, `total` what was known to come (None: unknown). `executions`
    counts every time a task ran, `repeats` those that had begun, or finished untold, when their
    worker died, and so ran once more. `stopped` says why the run ended before its inputs did:
    cancelled, halted, deadline, interrupted, input or broken; `error` is what iterating would have
    raised for it. `recalled` counts those that an earlier session of the run did or saw fail: they
    are in `done` and the others, and left out of `executions`, `rate` and `percentiles`.
    `in_flight` counts the tasks that were under way when earlier sessions were killed: at most so
    many have run twice.
    """

    name: str | None
    on: str
    why: str
    inputs: int
    total: int | None
    done: int
    failed: int
    quarantined: int
    cancelled: int
    executions: int
    retries: int
    repeats: int
    losses: int
    duplicates: int
    seconds: float
    rate: float
    percentiles: dict[str, float]
    groups: tuple[FailureGroup, ...]
    stopped: str = ""
    error: BaseException | None = None
    recalled: int = 0
    in_flight: int = 0

    @property
    def ok(self) -> bool:
        """Every input was drawn and is done."""
        return not self.stopped and self.done == self.inputs

    @property
    def audit(self) -> str:
        """The closing equation. The run checked it; this only prints it."""
        return (
            f"{counted(self.inputs, 'input')} = {self.done:,} done + {self.failed:,} failed + "
            f"{self.quarantined:,} quarantined + {self.cancelled:,} cancelled"
        )

    def __str__(self) -> str:
        return "\n".join([*self._head(), *group_lines(self.groups), self.audit])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """For notebooks."""
        from piecework import notebook

        return notebook.account(self)

    def _head(self) -> Iterable[str]:
        name = f"{self.name}: " if self.name else ""
        line = f"{name}{self.done:,} done in {exact(self.seconds)} ({self.rate:,.0f}/s)"
        if self.on:
            line += f" on {self.on}"
        if self.percentiles["max"]:
            p50, high = self.percentiles["p50"], self.percentiles["max"]
            line += f"; a task took {exact(p50)}, the longest {exact(high)}"
        yield line
        if self.why:
            yield f"  {self.why}"
        again = [(self.retries, "tried again"), (self.losses, "lost with their worker")]
        again.append((self.repeats, "run again because their worker died"))
        told = [f"{n:,} {what}" for n, what in again if n]
        if told:
            yield "  " + ", ".join(told)
        if self.recalled:
            yield f"  {self.recalled:,} of them in an earlier session"
        if self.in_flight:
            yield (
                f"  {self.in_flight:,} were in flight when an earlier session was killed, and may "
                "have run twice"
            )
        if self.stopped:
            yield f"  stopped: {self.error or self.stopped}"


def group_lines(groups: Sequence[FailureGroup]) -> Iterable[str]:
    """The largest groups, two lines each, and how many more there are."""
    for group in groups[:_GROUPS_SHOWN]:
        message = f": {group.message}" if group.message else ""
        where = f"  at {group.where}" if group.where else ""
        yield f"  {group.count:,} × {group.type}{message}{where}"
        if group.examples:
            yield "      e.g. " + ", ".join(shown(input) for input in group.examples)
    if len(groups) > _GROUPS_SHOWN:
        rest = groups[_GROUPS_SHOWN:]
        yield f"  {sum(g.count for g in rest):,} more in {counted(len(rest), 'other group')}"
