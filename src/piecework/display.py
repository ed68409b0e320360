"""How far a run is, for people: one bar, or a line now and then; what failed, once a kind.

    Progress ──▶ bar_line(width)  ──▶ Bar    a terminal
            ├──▶ plain_line()     ──▶ Lines  a log, a dumb terminal
            └──▶ failure_line()   ──▶ the first failure of each kind, above the bar

The texts are pure; Bar and Lines put them on the screen when it is time, Watch decides what is new.
"""

from __future__ import annotations

from piecework.bases import Protocol
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
    """`512/s`; where that is less than one, `2.5/min`; empty while nothing is done."""
    per_second = progress.rate
    if not per_second:
        return ""
    if per_second >= 9.95:
        return f"{per_second:,.0f}/s"
    if per_second >= 1:
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


def plain_line(progress: Progress) -> str:
    """The same for a log: everything, in one line."""
    share = "" if progress.share is None else f" ({progress.share:.0%})"
    return " · ".join([counts(progress) + share, *state(progress)])


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


ENOUGH = "further kinds of failures are only counted: the closing account groups them"


# -- on the screen ----------------------------------------------------------------------------


class Body(Protocol):
    """One way to show a run: a bar, lines, a notebook's cell."""

    def show(self, progress: Progress) -> None:
        """Draw it, or leave it for a later call; called ten times a second."""

    def failed(self, result: Result) -> None:
        """The first failure of a kind."""

    def say(self, text: str) -> None:
        """One sentence for people."""

    def close(self, progress: Progress | None) -> None:
        """The run has ended; leave the screen as it was."""


class Watch:
    """What somebody sees of a run: each kind of failure once, then how far the run is.

    Called from one thread at a time.
    """

    def __init__(self, body: Body, most: int = TOLD_MAX) -> None:
        self._body = body
        self._most = most
        self._told = 0

    def show(self, progress: Progress) -> None:
        """What is new."""
        self.tell(progress)
        self._body.show(progress)

    def tell(self, progress: Progress) -> None:
        """The first failure of each kind not told yet; beyond `most` kinds, that there are more."""
        before, self._told = self._told, max(self._told, len(progress.firsts))
        for result in progress.firsts[before : self._most]:
            self._body.failed(result)
        if before <= self._most < self._told:
            self._body.say(ENOUGH)

    def close(self, progress: Progress | None) -> None:
        """The last snapshot."""
        if progress is not None:
            self.tell(progress)
        self._body.close(progress)


class Quiet:
    """Failures only, as lines."""

    def __init__(self, name: str = "piecework", screen: Screen = STDERR) -> None:
        self._name = name
        self._screen = screen

    def show(self, progress: Progress) -> None:
        """Say nothing."""

    def failed(self, result: Result) -> None:
        self.say(failure_line(result))

    def say(self, text: str) -> None:
        self._screen.say(f"{self._name}: {text}")

    def close(self, progress: Progress | None) -> None:
        """Nothing to leave."""


class Lines:
    """A line every few seconds, less and less often."""

    def __init__(self, name: str = "piecework", screen: Screen = STDERR) -> None:
        self._quiet = Quiet(name, screen)
        self.failed, self.say, self.close = self._quiet.failed, self._quiet.say, self._quiet.close
        self._next = FIRST_LINE_SECONDS

    def show(self, progress: Progress) -> None:
        if progress.seconds >= self._next:
            pause = min(max(LINE_SECONDS, progress.seconds / 20), LINE_SECONDS_MAX)
            self._next = progress.seconds + pause
            self.say(plain_line(progress))


class Bar:
    """A bar at the bottom of a terminal; erased at the end, for the account says all it said."""

    def __init__(self, name: str = "piecework", title: str = "", screen: Screen = STDERR) -> None:
        self._quiet = Quiet(name, screen)
        self.failed, self.say = self._quiet.failed, self._quiet.say
        self._title = title
        self._screen = screen
        self._ascii = not screen.can_say("━╺─·")

    def show(self, progress: Progress) -> None:
        line = bar_line(progress, self._screen.width, self._title, ascii=self._ascii)
        self._screen.stand(self, line)

    def close(self, progress: Progress | None) -> None:
        self._screen.clear(self)
