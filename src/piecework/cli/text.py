"""What the command line says on standard error, for people and for programs."""

from __future__ import annotations

from piecework.screen import STDERR
from piecework.wording import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.summary import Progress, Summary

__all__ = ["as_dict", "say", "shown", "summary_dict"]

say = STDERR.say  # one message; a closed standard error is no reason to stop


def as_dict(progress: Progress) -> dict[str, Any]:
    """A snapshot for programs."""
    names = (
        "total done failed quarantined cancelled running waiting recalled retries repeats busy"
        " slots seconds rate stopped"
    )
    shot = {name: getattr(progress, name) for name in names.split()}
    eta = [progress.eta_low, progress.eta_high]
    return {**shot, "eta": eta, "groups": progress.group_count}


def summary_dict(summary: Summary) -> dict[str, Any]:
    """The closing account for programs."""
    names = (
        "name on why inputs total done failed quarantined cancelled recalled executions retries"
        " repeats losses duplicates seconds rate percentiles stopped ok"
    )
    account = {name: getattr(summary, name) for name in names.split()}
    account["error"] = str(summary.error) if summary.error else None
    account["groups"] = [group._asdict() for group in summary.groups]
    return account
