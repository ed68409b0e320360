"""What the command line says on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piecework.summary import Progress, Summary


def say(text: str) -> None:
    """One message for people; a closed standard error is no reason to stop."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def duration(seconds: float) -> str:
    """`9.5 s`, `4 min 10 s`, `2 h 5 min`: as exact as is of use."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def counts(progress: Progress) -> str:
    """`1,234 of 60,000`, or `1,234` where nobody knows how many will come."""
    of = "" if progress.total is None else f" of {progress.total:,}"
    return f"{progress.settled:,}{of}"


def state(progress: Progress) -> str:
    """Rate, time left as a range, failures and in how many groups."""
    parts = [f"{progress.rate:,.0f}/s" if progress.rate >= 10 else f"{progress.rate:.1f}/s"]
    if progress.eta_low is not None and progress.eta_high is not None:
        low, high = duration(progress.eta_low), duration(progress.eta_high)
        parts.append(f"{low} left" if low == high else f"{low} to {high} left")
    if bad := progress.failed + progress.quarantined:
        groups = len(progress.groups)
        more = "+" if groups >= 5 else ""  # a snapshot carries the five largest
        parts.append(f"{bad:,} failed in {groups}{more} group{'s' * (groups != 1)}")
    if progress.waiting:
        parts.append(f"{progress.waiting:,} waiting to be tried again")
    return " · ".join(parts)


def as_dict(progress: Progress) -> dict[str, Any]:
    """A snapshot for programs."""
    names = "total done failed quarantined cancelled running waiting retries repeats seconds rate"
    shot = {name: getattr(progress, name) for name in names.split()}
    return {**shot, "eta": [progress.eta_low, progress.eta_high], "groups": len(progress.groups)}


def summary_dict(summary: Summary) -> dict[str, Any]:
    """The closing account for programs."""
    names = (
        "name on why inputs total done failed quarantined cancelled executions retries repeats"
        " losses duplicates seconds rate percentiles stopped ok"
    )
    account = {name: getattr(summary, name) for name in names.split()}
    account["error"] = str(summary.error) if summary.error else None
    account["groups"] = [group._asdict() for group in summary.groups]
    return account
