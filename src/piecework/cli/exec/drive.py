"""Carries `piecework exec` through: the executor with its policies, the run, the exit code."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence

from piecework.cli import drive
from piecework.cli.exec import quantities
from piecework.cli.exec.plan import Plan, plan
from piecework.cli.exec.show import Show, Watcher
from piecework.cli.keeping import keep
from piecework.cli.output import Output
from piecework.cli.progress import display
from piecework.executors.command import CommandExecutor
from piecework.executors.cores import cores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from piecework import Run
    from piecework.cli.exec.limits import Usual
    from piecework.cli.exec.pace import Pace
    from piecework.cli.keeping import Again
    from piecework.summary import Progress, Summary

DESCRIPTORS_EACH = 4  # three pipes and a process
DESCRIPTORS_OWN = 64
JOBS_MAX = 10_000


def run(
    words: Sequence[str], options: dict[str, Any], rest: Sequence[str], again: Again | None = None
) -> int:
    """Everything after the options were read."""
    slots = _slots(options["jobs"])
    planned = plan(
        options,
        rest,
        slots=lambda: slots,
        inputs=again.inputs if again else None,
        run=again.name if again else "",
    )
    if options["dry_run"]:
        return _dry_run(planned)
    return _Exec(options, planned, slots).run(["exec", *words], again)


class _Exec:
    """One run: its parts, made in the order in which they can be refused."""

    def __init__(self, options: dict[str, Any], planned: Plan, slots: int) -> None:
        self._options = options
        self._planned = planned
        self._slots = slots
        self._usual = _usual(options["timeout"])
        self._pace = _pace(options)
        self._summary: Summary | None = None

    def run(self, words: list[str], again: Again | None) -> int:
        options, planned, usual = self._options, self._planned, self._usual
        kept = keep(
            words=words,
            label=planned.command.__name__,
            name=options["name"],
            resume=_resume(options["resume"]),
            journal=options["journal"],
            no_journal=bool(options["no_journal"]),
            again=again,
        )
        out = _output(options, planned, adding=again is not None and again.inputs is not None)
        joblog = _joblog(options, resumed=bool(kept.resume))
        show = Show(planned, options, out, joblog, again.index_of if again else None)
        lined = options["grouping"] == "line" and not (options["json"] or options["output"])
        executor = CommandExecutor(
            self._slots,
            watcher=Watcher(
                planned.command,
                trace=bool(options["trace"]),
                usual=usual,
                lines=show.lines if lined else None,
            ),
            gate=self._pace,
            time_limit=None if usual is None else lambda: usual.limit,
            inherit=options["grouping"] == "none",
            capture=not lined or bool(options["results"]),
        )
        if options["memfree"]:
            _relieve(executor, self._pace)

        def begin(note: Callable[[Progress], None]) -> Run[Any]:
            from piecework import map

            return kept.begin(
                lambda **journal: map(
                    planned.command,
                    planned.inputs,
                    on=executor,
                    progress=note,
                    **self._map_options(),
                    **journal,
                )
            )

        gc.freeze()
        gc.enable()
        try:
            code = drive.drive(
                begin,
                show.write,
                out,
                display(_progress(options), out),
                self._closing,
                ordered=bool(options["keep_order"]),
                grace=options["grace"],
                deadline=options["deadline"],
                as_json=bool(options["json"]),
            )
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            show.close()
        return self._code(code)

    def _map_options(self) -> dict[str, Any]:
        options = self._options
        given: dict[str, Any] = {
            "retries": options["retries"],
            "deadline": options["deadline"],
            "halt": _halt(options["halt"]),
            "batch_size": 1,
        }
        if options["timeout"] is not None and self._usual is None:
            given["task_timeout"] = quantities.seconds(options["timeout"])
        if options["max_memory"] is not None:
            given["max_memory"] = options["max_memory"]
        if options["retries"]:
            from piecework import Backoff

            delay = options["retry_delay"]
            given["backoff"] = Backoff(0.5 if delay is None else delay)
        if options["pipe"]:
            given["buffersize"] = 2 * self._slots + 2  # blocks are large
        return given

    def _closing(self, summary: Summary) -> None:
        self._summary = summary
        if not (self._options["silent"] and summary.ok):
            drive.account(summary, bool(self._options["json"]))

    def _code(self, code: int) -> int:
        """A run that stops because it has what was asked for has not failed."""
        if code != drive.HALTED or self._summary is None:
            return code
        rule = self._options["halt"]
        if "success" in rule:
            return drive.ALL_DONE
        failed = self._summary.failed + self._summary.quarantined
        return (drive.SOME_FAILED if failed else drive.ALL_DONE) if "done" in rule else code


def _dry_run(planned: Plan) -> int:
    """The commands, one a line, as a shell would read them."""
    out = Output(None)
    out.start()
    try:
        for number, given in enumerate(planned.inputs, 1):
            out.write(os.fsencode(planned.command.text(given, number, 1)) + b"\n")
    finally:
        out.close()
    out.check()
    return drive.ALL_DONE


def _slots(jobs: str | None) -> int:
    if jobs is None:
        return cores()
    most = JOBS_MAX
    if jobs == "0":
        import resource

        free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - DESCRIPTORS_OWN
        most = min(1000, free // DESCRIPTORS_EACH)
    return quantities.jobs(jobs, cores(), most)


def _usual(timeout: str | None) -> Usual | None:
    if timeout is None or (share := quantities.share(timeout)) is None:
        return None
    from piecework.cli.exec.limits import Usual

    return Usual(share)


def _pace(options: dict[str, Any]) -> Pace | None:
    if not (options["delay"] or options["load"] or options["memfree"]):
        return None
    from piecework.cli.exec.limits import Gate
    from piecework.cli.exec.pace import Pace

    load = None if options["load"] is None else quantities.load(options["load"], cores())
    return Pace(Gate(options["delay"] or 0.0, load, options["memfree"]))


def _relieve(executor: CommandExecutor, pace: Pace | None) -> None:
    """Look at the memory now and then, as long as the executor lives."""
    assert pace is not None

    def look() -> None:
        executor.loop.call_later(pace.relieve(executor), look)

    executor.loop.call_later(1.0, look)


def _halt(rule: str | None) -> int | str | None:
    """As `piecework.map` takes it."""
    return int(rule) if rule is not None and rule.isdecimal() else rule


def _progress(options: dict[str, Any]) -> str:
    """No bar where commands write to the terminal by themselves: they would write through it."""
    free = options["grouping"] == "none" and options["progress"] in ("auto", "bar")
    return "plain" if free else str(options["progress"])


def _resume(how: str | None) -> bool | str:
    return False if how is None else (how or True)


def _output(options: dict[str, Any], planned: Plan, *, adding: bool) -> Output:
    if options["grouping"] == "none":  # commands write to our standard output by themselves
        return Output(os.devnull)
    return Output(options["output"], planned.files, adding=adding)


def _joblog(options: dict[str, Any], *, resumed: bool) -> Any:
    if options["joblog"] is None:
        return None
    from piecework.cli.exec.joblog import Joblog

    return Joblog(options["joblog"], keep=resumed)
