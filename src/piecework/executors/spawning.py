"""Arguments of an initializer that only a child of multiprocessing may get: its locks and queues.

multiprocessing pickles them while it spawns a child and at no other time. Here our worker is that
child: descriptors they need are passed on to it, and found again under their number in the list.
"""

from __future__ import annotations

import os
from multiprocessing import context
from multiprocessing import reduction as reduction  # codec uses its reducers once it is imported
from typing import Any

from piecework import codec
from piecework.errors import CannotPickle

received: list[int] = []
"""In a worker: the descriptors that came with its initializer."""


class PassedDescriptor:
    """Stands for a descriptor in the pickle; `detach` gives it in the worker."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        return os.dup(received[self.index])


class _Child:
    """What multiprocessing asks of the process that is being spawned."""

    DupFd = PassedDescriptor

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        self.descriptors.append(os.dup(fd))
        return len(self.descriptors) - 1


def dumps_for_child(value: Any) -> tuple[bytes, list[int]]:
    """The pickle and the descriptors that must travel with it, in order; the caller owns them."""
    child = _Child()
    before = context.get_spawning_popen()
    context.set_spawning_popen(child)  # type: ignore[arg-type]  # it asks for these two only
    try:
        return codec.dumps(value, what="initializer"), child.descriptors
    except CannotPickle as error:
        raise CannotPickle(
            f"{error}\nLocks and queues of multiprocessing must come from the executor's start "
            'method, for example multiprocessing.get_context("forkserver").Lock(), '
            'or use mp_context="fork"'
        ) from error
    finally:
        context.set_spawning_popen(before)
