"""When a run stops before its inputs do: `halt=3`, `"5%"`, `"now,fail=1"` and the like. Pure.

    3      as "soon,fail=3"        "now,success=1"       "soon,done=50%"
    "5%"   as "soon,fail=5%"       "never"

`soon` starts nothing new and lets run what runs; `now` ends that too.
"""

from __future__ import annotations

from piecework.errors import UsageError
from piecework.record import record

FINISHED_MIN = 20  # a share of failures says nothing before that many have finished
FAILED_MIN = 3
_WAY_OUT = (
    'Give how many may fail, 100, or which share of all, "5%"; or "WHEN,WHY=N" with WHEN soon or '
    'now, WHY fail, success or done, N a number or a share: "now,fail=1", "soon,done=50%"'
)


@record(frozen=True, slots=True)
class Halt:
    """Stop once `count` tasks, or a `share` of them, have come out as `why` says.

    A share of failures is one of the tasks that finished, any other share one of all there are.
    With `now` what runs is ended too.
    """

    count: int | None = None
    share: float | None = None
    why: str = "fail"  # fail, success or done
    now: bool = False

    def reached(self, failed: int, done: int, total: int | None = None) -> bool:
        """Whether that is so after so many failed and done tasks, of `total` if it is known."""
        counted = {"fail": failed, "success": done}.get(self.why, failed + done)
        if self.count is not None:
            return counted >= self.count
        return counted > 0 and counted >= (self.share or 1) * self._of(failed, done, total)

    def _of(self, failed: int, done: int, total: int | None) -> float:
        if self.why != "fail":
            return float("inf") if total is None else total
        enough = failed >= FAILED_MIN and failed + done >= FINISHED_MIN
        return failed + done if enough else float("inf")

    def __str__(self) -> str:
        most = str(self.count) if self.share is None else f"{100 * self.share:g}%"
        usual = self.why == "fail" and not self.now
        return most if usual else f"{'now' if self.now else 'soon'},{self.why}={most}"


def parse(halt: object) -> Halt | None:
    """The rule that is asked for; None for none."""
    if halt is None or halt == "never":
        return None
    if isinstance(halt, int) and not isinstance(halt, bool) and halt >= 1:
        return Halt(halt)
    if isinstance(halt, str):
        when, comma, rest = halt.partition(",")
        why, equals, number = rest.partition("=")
        if not comma and halt.endswith("%"):
            when, why, equals, number = "soon", "fail", "=", halt
        found = _number(number)
        if found and equals and when in ("soon", "now") and why in ("fail", "success", "done"):
            return Halt(*found, why, when == "now")
    raise UsageError(f"halt is {halt!r}. {_WAY_OUT}.")


def _number(text: str) -> tuple[int | None, float | None] | None:
    """A count or a share; None where it is neither."""
    share = text.endswith("%")
    try:
        value = float(text[:-1]) / 100 if share else int(text)
    except ValueError:
        return None
    if not value > 0 or (share and value > 1):
        return None
    return (None, value) if share else (int(value), None)
