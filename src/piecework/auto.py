"""`on="auto"`: the first tasks decide how the others run, and the run says why.

    a coroutine function ──▶ coroutines          no GIL ──▶ threads
    a few operations on numbers ──▶ inline, unmeasured: it cannot take longer than sending it
    anything else ──▶ one worker process, one batch at a time ── observe ──▶ choose
                         they wait ──▶ threads, or threads in processes
                         they compute, carry little ──▶ processes
                         they compute, carry much ──▶ does another thread get to run meanwhile?
                         they take less than sending them ──▶ inline

What was measured counts as done, and nothing runs twice: the next worker leases from the same
queue. A run that chose inline goes back to processes when its tasks become longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from piecework.bases import NamedTuple
from piecework.measuring import TICK_SECONDS, TICKS_SHARE, Crowding, Sampled, Sampling
from piecework.task import Report
from piecework.wording import exact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework.crew import Crew
    from piecework.executors.base import BatchExecutor
    from piecework.loop import Loop
    from piecework.master import Master
    from piecework.worker import Worker

SEND_SECONDS = 0.8e-6  # what a small task costs on its way through a process, both sides
SEND_SECONDS_BYTE = 1.5e-9
WAITING_SHARE = 0.5  # of a task's time: more is waiting
THREADS = 64  # for tasks that wait; a waiting thread costs 100 KB and no time
THREADS_PER_PROCESS_MAX = 16
MUCH_BYTES = 64 << 10  # a task that carries more is worth asking whether threads would do

ENOUGH_TASKS = 256
ENOUGH_SECONDS = 0.01
CLEARLY_WAITING = 0.8
ENOUGH_DOUBTFUL = 6  # tasks, where it is neither clear that they wait nor that they compute
TOO_LONG = 50  # times longer than sending it: inline no more
SAMPLES = 5
PATIENCE_SECONDS = 0.1  # then the other processes start, too, whatever has been learned


class Sample(NamedTuple):
    """What the first tasks took: of each one, in seconds and bytes."""

    wall: float
    cpu: float
    nbytes: float
    share: float = 1.0  # of the time that it wanted to compute it got a core

    @property
    def sending(self) -> float:
        """What sending such a task to a process and back costs, about."""
        return SEND_SECONDS + SEND_SECONDS_BYTE * self.nbytes

    @property
    def waiting(self) -> float:
        return max(0.0, 1 - self.cpu / self.share / self.wall) if self.wall else 0.0


class Choice(NamedTuple):
    """A way to run: `workers` and `threads` as for `map`, None where the default will do."""

    way: str
    why: str
    workers: int | None = None
    threads: int = 1


def choose(sample: Sample, cores: int, *, limited: bool, gil_free: bool | None) -> Choice | None:
    """How to run tasks like these; None where it depends on `gil_free`, which is not known yet.

    `limited`: tasks have a time limit, which only processes keep.
    """
    took = f"a task takes {exact(sample.wall)}"
    if sample.waiting > WAITING_SHARE:
        return _choose_waiting(sample, cores, took, limited)
    carries = f"carries {_size(sample.nbytes)}"
    if not limited and sample.nbytes >= MUCH_BYTES:
        if gil_free is None:
            return None
        if gil_free:
            why = f"{took}, {carries} and lets other threads run meanwhile"
            return Choice("threads", why, cores)
        carries += " and lets no other thread run meanwhile"
    if not limited and sample.wall * max(cores - 1, 0.1) <= sample.sending:
        return Choice("inline", f"{took}, sending it costs {exact(sample.sending)}")
    return Choice("processes", f"{took}, nearly all of it computing, and {carries}")


def _choose_waiting(sample: Sample, cores: int, took: str, limited: bool) -> Choice:
    """Threads, unless the interpreter lock would hold up the rest of the work."""
    why = f"{took}, {100 * sample.waiting:.0f} % of it waiting"
    cpu = max(sample.cpu, 1e-5)
    wanted = math.ceil(sample.wall / cpu)
    in_threads = min(THREADS / sample.wall, 1 / cpu)
    per_process = min(THREADS_PER_PROCESS_MAX, wanted)
    in_processes = min(cores * per_process / sample.wall, cores / cpu)
    if limited or in_threads < 0.9 * in_processes:
        return Choice("processes", f"{why}: {per_process} threads in each", None, per_process)
    return Choice("threads", why, THREADS)


class Prober:
    """Watches the first reports of a worker process, then sets the right worker to work."""

    def __init__(
        self,
        master: Master,
        crew: Crew,
        loop: Loop,
        fn: Callable[..., Any],
        make: Callable[[Choice], tuple[BatchExecutor, Any]],
        *,
        cores: int,
        limited: bool,
    ) -> None:
        self._master = master
        self._crew = crew
        self._loop = loop
        self._fn = fn
        self._make = make
        self._cores = cores
        self._limited = limited
        self._samples: list[tuple[int, float, float, float, float]] = []
        self._crowding = Crowding()
        self._shares: list[tuple[int, float]] = []  # of another thread, see Sampling
        self._sampled = False  # some values come wrapped in what was measured beside them
        self._chosen: Choice | None = None
        self._too_long = 0.0  # seconds that no inline task may take
        self._process: tuple[BatchExecutor, Any] | None = None
        self._worker: Worker | None = None

    def start(self, executor: BatchExecutor, call: Any) -> None:
        """One batch at a time in one process, until something is known."""
        self._crew.why = "auto measured in one worker process, for there was nothing to choose yet"
        self._process = executor, call
        self._worker = self._crew.join(executor, call, owned=True, tap=self._observe)
        self._worker.limit = 1
        self._loop.call_later(PATIENCE_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        """The first tasks take long: others may start beside them meanwhile."""
        if self._chosen is None and self._worker is not None and not self._master.finished:
            self._worker.limit = None
            self._worker.lease()

    # -- measuring ----------------------------------------------------------------------------

    def _observe(self, report: Report) -> None:
        """Called with each report before it goes to the master; in the control loop."""
        if self._sampled:  # also of a worker that another one has relieved since
            self._unwrap(report)
        wall = sum(seconds for _, seconds in report.timings)
        if self._chosen is not None:
            if self._chosen.way == "inline":
                self._watch(wall / max(1, len(report.values)))
            return
        if not wall or len(report.failures) == len(report.values):
            return
        batch = report.batch
        nbytes = report.nbytes + batch.nbytes * len(report.values) / len(batch)
        share = self._crowding.share(report.worker)
        self._samples.append((len(report.values), wall, report.cpu, nbytes, report.cpu / share))
        if self._enough():
            self._loop.call_soon(self._decide)
        elif nbytes >= MUCH_BYTES and not self._limited and not self._sampling:
            self._loop.call_soon(self._sample_threads)

    @property
    def _sampling(self) -> bool:
        return self._worker is not None and self._worker.call is not self._process[1]  # type: ignore[index]

    def _enough(self) -> bool:
        if self._sampling:
            seconds = sum(seconds for _, seconds in self._shares)
            return len(self._shares) >= SAMPLES or seconds > PATIENCE_SECONDS
        tasks = sum(sample[0] for sample in self._samples)
        wall = sum(sample[1] for sample in self._samples)
        if tasks < 2:
            return wall > PATIENCE_SECONDS
        if tasks >= ENOUGH_TASKS or (wall >= PATIENCE_SECONDS and tasks > ENOUGH_DOUBTFUL):
            return True
        waiting = self._sample().waiting
        clear = waiting > CLEARLY_WAITING or (tasks > 2 and waiting < 1 - CLEARLY_WAITING)
        return wall >= ENOUGH_SECONDS and clear

    def _sample(self) -> Sample:
        """Of the middle task: the first ones pay for imports, caches and workers that start."""
        samples = self._samples[1:] or self._samples
        each = [[value / tasks for value in rest] for tasks, *rest in samples]
        wall, cpu, nbytes, busy = (
            sorted(column)[len(each) // 2] for column in zip(*each, strict=True)
        )
        return Sample(wall, cpu, nbytes, cpu / busy if busy else 1.0)

    def _unwrap(self, report: Report) -> None:
        for position, value in enumerate(report.values):
            if type(value) is Sampled:
                report.values[position] = value.value
                self._shares.append((value.ticks, value.seconds))

    # -- choosing -----------------------------------------------------------------------------

    def _decide(self) -> None:
        if self._chosen is not None or self._master.finished or self._master.state.stopping:
            return
        choice = choose(self._sample(), self._cores, limited=self._limited, gil_free=self._gil_free)
        if choice is not None:
            self._set_to_work(choice)
        else:
            self._sample_threads()

    def _sample_threads(self) -> None:
        """A few more in the one process, with a thread beside them that tells if it may run."""
        if self._chosen is None and not self._sampling and not self._master.state.stopping:
            self._sampled = True
            executor = self._executor
            self._join(executor, executor.prepare(Sampling(self._fn)), owned=False, limit=1)

    @property
    def _gil_free(self) -> bool | None:
        if not self._shares:
            return None
        # On a crowded machine the other thread is kept from running for other reasons, too.
        return max(ticks * TICK_SECONDS / seconds for ticks, seconds in self._shares) > TICKS_SHARE

    @property
    def _executor(self) -> BatchExecutor:
        assert self._process is not None
        return self._process[0]

    def _set_to_work(self, choice: Choice) -> None:
        self._chosen = choice
        self._too_long = TOO_LONG * self._sample().sending
        if choice.way == "processes" and choice.threads == 1:
            assert self._process is not None
            self._join(*self._process, owned=False)
        else:
            self._join(*self._make(choice), owned=True)
        self._crew.why = f"auto chose {choice.way}: {choice.why}"
        self._master.turn()
        self._master.tell()  # whoever waits may have to run the tasks

    def _join(
        self, executor: BatchExecutor, call: Any, *, owned: bool, limit: int | None = None
    ) -> None:
        """The next worker takes over; the one before finishes what it has."""
        if self._worker is not None:
            self._worker.finish()
        worker = self._worker = self._crew.join(executor, call, owned=owned, tap=self._observe)
        worker.limit = limit
        self._master.sizer.slots = executor.slots
        worker.lease()

    def _watch(self, seconds: float) -> None:
        """Inline tasks must stay small: nothing else runs while one does."""
        if seconds > self._too_long:
            why = f"tasks were small at first, now one takes {exact(seconds)}"
            self._loop.call_soon(self._set_to_work, Choice("processes", why))


def _size(nbytes: float) -> str:
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.3g} {unit}"
    return f"{nbytes:.0f} bytes"
