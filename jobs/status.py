"""How jobs stand: units done, running, failed, waiting; time left; use of the nodes; logs."""

if not __package__:
    import _root  # noqa: F401

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from jobs.bulletin import EVERY_S
from jobs.command import REPORT, CorpusOptions, UserError, console, run, say_next
from jobs.job_files import Attempt
from jobs.progress import STATES, JobProgress, NodeUse, UnitProgress, Watcher
from jobs.tables import duration, table

STATUS = ("python", "jobs/status.py")
BAR_CHARACTERS = 30
MAX_ROWS = 20
"""Of units that run, and of those that failed; the others are counted."""
GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class StatusOptions(CorpusOptions):
    """Options of the command."""

    watch: bool = False
    """Show it again every few seconds, until the jobs are over; in a pipe, at each change."""
    job: str | None = None
    """Which job; if not given, those that run, and the newest."""
    log: str | None = None
    """Print what the units of this name, or glob pattern, said: epochs, warnings, errors."""


def main(options: StatusOptions) -> int:
    """How jobs stand: units done, running, failed, waiting; time left; use of the nodes; logs.

    Example:
        python jobs/status.py --store runs/demo --watch
    """
    watcher = Watcher(options.open_store())
    if options.log is not None:
        show_log(watcher, options.log, options.job)
        say_next([*STATUS, *options.data()])
        return 0
    if options.watch:
        found = watch(watcher, options.job)
    else:
        found = _look(watcher, options.job)
        console.print(picture(found))
        _show_others(watcher, options.job)
    say_next(*next_steps(options, found))
    return 0


def next_steps(options: StatusOptions, jobs: Sequence[JobProgress]) -> list[list[str]]:
    """Commands that make sense when jobs stand so, the best first."""
    failed = [unit for job in jobs for unit in job.in_state("failed")]
    unfinished = [job for job in jobs if job.is_over and job.counts()["done"] < len(job.units)]
    steps = []
    if failed:
        steps.append([*STATUS, *options.data(), "--log", failed[0].planned.name])
    if unfinished:
        steps.append(shlex.split(unfinished[-1].driver.command))
    if not all(job.is_over for job in jobs):
        steps.append([*STATUS, *options.data(), "--watch"])
    return steps or [[*REPORT, *options.data()]]


def _look(watcher: Watcher, job: str | None) -> list[JobProgress]:
    return [watcher.look(each) for each in ([job] if job else watcher.current())]


def watch(watcher: Watcher, job: str | None) -> list[JobProgress]:
    """Show how jobs stand until nobody works on them any more; how they stand then."""
    if not console.is_terminal:
        return _watch_in_pipe(watcher, job)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = _look(watcher, job)
            live.update(picture(found), refresh=True)
            if all(each.is_over for each in found):
                return found
            time.sleep(EVERY_S)


def _watch_in_pipe(watcher: Watcher, job: str | None) -> list[JobProgress]:
    shown = None
    while True:
        found = _look(watcher, job)
        if (state := _state_of(found)) != shown:
            shown = state
            console.print(picture(found))
        if all(each.is_over for each in found):
            return found
        time.sleep(EVERY_S)


def _state_of(jobs: Sequence[JobProgress]) -> list[object]:
    """What is not the same any more when something has changed but the time."""
    return [
        (
            job.job,
            job.is_over,
            [(unit.state, unit.attempt and unit.attempt.epoch) for unit in job.units],
        )
        for job in jobs
    ]


def picture(jobs: Sequence[JobProgress]) -> RenderableType:
    """Jobs for the terminal: a bar, what runs where, and what failed."""
    return Group(*(part for job in jobs for part in _parts(job)))


def _parts(job: JobProgress) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text(f"{job.job}: {_stands(job)}"),
        Text(f"  {job.driver.command}"),
        Text(f"  {_bar(job)}"),
    ]
    if others := _others(job):
        parts.append(Text(f"  {others}"))
    running = job.in_state("running", "lost?")
    if running:
        header = ["unit", "state", "node", "epoch", "clips/s", "left"]
        parts.append(table(header, [_unit_row(unit) for unit in running[:MAX_ROWS]]))
        parts += _more(len(running), "running")
    nodes = job.nodes()
    if nodes:
        rate = "clips/s a unit" if job.is_over else "clips/s"
        header = ["node", "units", "GPUs", "GPU use", "GPU memory", rate]
        parts.append(table(header, [_node_row(node) for node in nodes]))
    failed = job.in_state("failed")
    parts += [Text(f"failed: {u.planned.name}: {_first_line(u.error)}") for u in failed[:MAX_ROWS]]
    parts += _more(len(failed), "failed")
    return parts


def _stands(job: JobProgress) -> str:
    if job.is_lost:
        return (
            f"lost? Its driver on {job.driver.host} has been silent for {duration(job.silent_s)}; "
            "the same command goes on"
        )
    if job.driver.state == "running":
        return f"running for {duration(job.took_s + job.silent_s)} on {job.driver.host}"
    ago = duration(job.silent_s)
    return f"{job.driver.state} {ago} ago, after {duration(job.took_s)}"


def _bar(job: JobProgress) -> str:
    counts, n = job.counts(), len(job.units)
    n_full = BAR_CHARACTERS * counts["done"] // max(1, n)
    bar = "#" * n_full + "." * (BAR_CHARACTERS - n_full)
    return f"[{bar}] {counts['done']} of {n} units done"


def _others(job: JobProgress) -> str:
    """What is not done, and when it will be."""
    counts = job.counts()
    told = [f"{counts[state]} {state}" for state in STATES if counts[state] and state != "done"]
    if not job.is_over:
        left_s = job.time_left_s()
        left = "time left not known yet" if left_s is None else f"about {duration(left_s)} left"
        told += [f"{job.clips_per_s:.0f} clips/s", left]
    return ", ".join(told)


def _unit_row(unit: UnitProgress) -> list[str]:
    attempt = unit.attempt
    if attempt is None:
        raise ValueError(f"unit {unit.planned.name} is {unit.state} without an attempt")
    of = f"/{attempt.max_epochs}" if attempt.max_epochs else ""
    rate = "-" if attempt.clips_per_s is None else f"{attempt.clips_per_s:.0f}"
    if unit.state == "lost?":
        left = f"silent {duration(unit.silent_s)}"
    else:
        left = "-" if attempt.time_left_s is None else duration(attempt.time_left_s)
    return [unit.planned.name, unit.state, attempt.node, f"{attempt.epoch or 0}{of}", rate, left]


def _node_row(node: NodeUse) -> list[str]:
    use = "-" if node.gpu_percent is None else f"{node.gpu_percent:.0f} %"
    memory = "-"
    if node.n_gpus:
        memory = f"{node.gpu_memory_bytes / GIB:.0f} of {node.gpu_total_bytes / GIB:.0f} GiB"
    figures = [str(node.n_units), str(node.n_gpus), use, memory, f"{node.clips_per_s:.0f}"]
    return [node.node, *figures]


def _more(n: int, what: str) -> list[RenderableType]:
    return [Text(f"and {n - MAX_ROWS} more {what}")] if n > MAX_ROWS else []


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _show_others(watcher: Watcher, job: str | None) -> None:
    """Name what else there is to look at."""
    shown = {job} if job else set(watcher.current())
    others = [each for each in watcher.jobs() if each not in shown]
    if others:
        console.print(f"{len(others)} more jobs, see --job: {', '.join(others[-5:])}", markup=False)


def show_log(watcher: Watcher, name: str, job: str | None) -> None:
    """Print what units said, in the newest job that tried one of that name.

    Raises:
        UserError: none did.
    """
    for each in [job] if job else reversed(watcher.jobs()):
        attempts = watcher.attempts(each, name)
        if attempts:
            console.print(f"{each}:", markup=False)
            for attempt in attempts:
                _print_attempt(attempt)
            return
    raise UserError(
        f"--log {name}: no worker has told of a unit called so; names are as the job prints them, "
        "or glob patterns: --log '*split 25*'"
    )


def _print_attempt(attempt: Attempt) -> None:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.since))
    console.print(
        f"{attempt.unit}: {attempt.state}, since {began} on {attempt.node}, process {attempt.pid}",
        markup=False,
    )
    if attempt.n_dropped:
        console.print(f"  ({attempt.n_dropped} lines before these were not kept)")
    for line in attempt.lines:
        console.print(line, markup=False)


if __name__ == "__main__":
    run(main, StatusOptions)
