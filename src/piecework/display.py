"""How far a run is, for people: one bar, or a line now and then; what failed, once a kind.

    Progress ──▶ bar_line(width)  ──▶ Bar    a terminal
            ├──▶ counts · state   ──▶ Lines  a log, a dumb terminal
            └──▶ told()           ──▶ the first failure of each kind, above the bar

The texts are pure; Bar and Lines put them on the screen when it is time.
"""

from __future__ import annotations

from piecework.screen import STDERR, Screen
from piecework.summary import Progress
from piecework.wording import between, one_line, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from piecework.task import Result

FIRST_LINE_SECONDS = 1.0  # a run that is over by then says only its account
LINE_SECONDS = 5.0
LINE_SECONDS_MAX = 60.0  # of a run of hours: a log must stay readable
TOLD_MAX = 20  # kinds of failures that are printed; beyond, the account tells
_BAR_WIDTHS = (30, 20, 10, 0)
_MESSAGE_MAX = 300


# -- texts ------------------------------------------------------------------------------------


def counts(progress: Progress) -> str:
    """`1,234 of 60,000`, or `1,234` where nobody knows how many will come."""
    of = "" if progress.total is None else f" of {progress.total:,}"
    return f"{progress.settled:,}{of}"


def rate(progress: Progress) -> str:
    """`512/s`; where that is less than one, `2.5/min`."""
    per_second = progress.rate
    if per_second >= 9.95:
        return f"{per_second:,.0f}/s"
    if per_second >= 1 or not per_second:
        return f"{per_second:.1f}/s"
    return f"{per_second * 60:.1f}/min"


def left(progress: Progress) -> str:
    """`3 to 4 min left`; empty where nothing can be said."""
    if progress.eta_low is None or progress.eta_high is None or not progress.eta_high:
        return ""
    return f"{between(progress.eta_low, progress.eta_high)} left"


def failed(progress: Progress) -> str:
    """`3 failed in 2 groups`; empty where none did."""
    bad = progress.failed + progress.quarantined
    if not bad:
        return ""
    groups = progress.group_count
    return f"{bad:,} failed in {groups:,} group{'s' * (groups != 1)}"


def state(progress: Progress) -> list[str]:
    """What is said beside the counts, most wanted first."""
    parts = [failed(progress), rate(progress), left(progress)]
    if progress.stopped:
        parts.insert(0, "stopping")
    if progress.slots > 1:
        parts.append(f"{progress.busy} of {progress.slots} busy")
    if progress.waiting:
        parts.append(f"{progress.waiting:,} to be tried again")
    if progress.recalled:
        parts.append(f"{progress.recalled:,} from the journal")
    return [part for part in parts if part]


def plain_line(progress: Progress, name: str = "") -> str:
    """The same for a log: everything, in one line."""
    share = "" if progress.share is None else f" ({progress.share:.0%})"
    return f"{name or 'piecework'}: {' · '.join([counts(progress) + share, *state(progress)])}"


def bar_line(progress: Progress, width: int, name: str = "", *, ascii: bool = False) -> str:
    """One line of fewer than `width` columns: what is wanted least goes first."""
    room = width - 1  # a full last column makes some terminals begin a new line
    head, parts = counts(progress), state(progress)
    dot = " | " if ascii else " · "
    for bar in _BAR_WIDTHS if progress.share is not None else (0,):
        for kept in range(len(parts), 0 if bar else -1, -1):
            if bar and kept < min(3, len(parts)):
                break  # a shorter bar first
            for title in (name, ""):
                drawn = _strip(progress.share or 0.0, bar, ascii)
                line = dot.join([head, *parts[:kept]])
                line = " ".join(filter(None, [title, drawn, line]))
                if len(line) <= room:
                    return line
    return head[: max(0, room)]


def _strip(share: float, width: int, ascii: bool) -> str:
    if not width:
        return ""
    full = min(width, int(share * width))
    if ascii:
        return "[" + "#" * full + "-" * (width - full) + "]"
    return "━" * full + ("╺" + "─" * (width - full - 1) if full < width else "")


def failure_line(result: Result) -> str:
    """One failed task: index, input, type, message, where."""
    failure = result.failure
    assert failure is not None
    kind = failure.type.removeprefix("builtins.")
    message = one_line(failure.message, _MESSAGE_MAX)
    what = f"{kind}: {message}" if message else kind
    where = f"  at {failure.where}" if failure.where else ""
    return f"input {result.index}, {shown(result.input)}: {what}{where}"


class Told:
    """Which kinds of failures have been printed: each once, and not more than `most`."""

    def __init__(self, most: int = TOLD_MAX) -> None:
        self._most = most
        self._told = 0
        self._ended = False

    def fresh(self, progress: Progress) -> tuple[Result, ...]:
        """The failures to be told now: the first of each kind not told yet."""
        found = progress.firsts[self._told : self._most]
        self._told += len(found)
        return found

    def enough(self, progress: Progress) -> str:
        """Said once, where there are more kinds than are told."""
        if self._ended or len(progress.firsts) <= self._most:
            return ""
        self._ended = True
        return "further kinds of failures are only counted: the closing account groups them"


# -- on the screen ----------------------------------------------------------------------------


class Bar:
    """A bar at the bottom of a terminal."""

    def __init__(self, name: str = "", screen: Screen = STDERR) -> None:
        self._name = name
        self._screen = screen
        self._ascii = not screen.can_say("━·")

    def show(self, progress: Progress) -> None:
        """Redraw."""
        line = bar_line(progress, self._screen.width, self._name, ascii=self._ascii)
        self._screen.stand(self, line)

    def close(self) -> None:
        """Erase it: the account says all that it said."""
        self._screen.clear(self)


class Lines:
    """A line every few seconds, less and less often."""

    def __init__(self, name: str = "", screen: Screen = STDERR) -> None:
        self._name = name
        self._screen = screen
        self._next = FIRST_LINE_SECONDS

    def show(self, progress: Progress) -> None:
        """Say it when it is time."""
        if progress.seconds >= self._next:
            pause = min(max(LINE_SECONDS, progress.seconds / 20), LINE_SECONDS_MAX)
            self._next = progress.seconds + pause
            self._screen.say(plain_line(progress, self._name))

    def close(self) -> None:
        """Nothing to leave."""
