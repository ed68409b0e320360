"""What part of the machine a slot has: a map inside a task keeps to it.

    the machine ── divided by the slots of an executor ──▶ share of a slot ── and so on, inwards

A worker process is told its share when it starts. Threads and coroutines carry theirs in their
context: in a process of theirs there are slots of several executors.
"""

from __future__ import annotations

from _contextvars import ContextVar  # what `contextvars` is, without its file

TYPE_CHECKING = False
if TYPE_CHECKING:
    Share = tuple[int, int]
    """Cores, and threads that an executor inside may start without being told how many."""

THREADS = 128  # that executors of threads start in one process, unless told how many

_slot: ContextVar[Share | None] = ContextVar("piecework_share", default=None)
_process: Share | None = None


def mine() -> Share | None:
    """The share of the slot that runs this; None outside of tasks."""
    return _slot.get() or _process


def enter(share: Share) -> None:
    """What runs in this context from now on has this share."""
    _slot.set(share)


def become(share: Share) -> None:
    """This process is a worker: whatever runs in it, in whichever thread, has this share."""
    global _process
    _process = share
    _slot.set(None)  # of the thread that forked us


def threads() -> int:
    """How many threads executors here may start."""
    share = mine()
    return THREADS if share is None else share[1]
