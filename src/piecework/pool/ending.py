"""How pools end: on request, when they are dropped, and with the interpreter.

What a pool still runs is never waited for, as in multiprocessing; only a thread cannot be ended.
"""

from __future__ import annotations

import os
import threading
import weakref

from piecework.executors.process import ProcessExecutor
from piecework.pool.flow import Flows

_live: weakref.WeakSet[Flows] = weakref.WeakSet()


def watch(pool: object, flows: Flows) -> None:
    """Have the pool ended with its last reference, or with the interpreter."""
    _live.add(flows)
    weakref.finalize(pool, _dropped, flows).atexit = False


def terminate(flows: Flows) -> None:
    """End what runs, cancel what waits; returns when no worker process is left."""
    with flows.loop.entered():
        _end(flows)
    if isinstance(flows.executor, ProcessExecutor):
        flows.executor.shutdown(wait=True)


def _dropped(flows: Flows) -> None:
    flows.loop.call_soon(_end, flows)  # the collector may run anywhere, with any lock held


def _end(flows: Flows) -> None:
    flows.closing = True
    flows.give_up()
    if isinstance(flows.executor, ProcessExecutor):
        flows.executor.terminate_workers()
    else:
        flows.executor.shutdown(wait=False, cancel_futures=True)


def _terminate_all() -> None:
    for flows in list(_live):
        if flows.pid == os.getpid():  # else this is a fork of the process that it belongs to
            terminate(flows)


# The last one registered is called first: before executors wait for their work (process.py), and
# before threads are joined.
threading._register_atexit(_terminate_all)  # type: ignore[attr-defined]
