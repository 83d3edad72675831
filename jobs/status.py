"""Show the progress of jobs: states of tasks, time left, use of the nodes, logs."""

if not __package__:
    import _root  # noqa: F401

import itertools
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from jobs.command import REPORT, run
from jobs.log.bulletin import EVERY_S
from jobs.log.files import AttemptRecord
from jobs.log.progress import STATES, JobProgress, NodeUse, TaskProgress
from jobs.log.watcher import Watcher
from jobs.plan.options import CorpusOptions
from jobs.schedule.task import GIB
from terminal.console import UserError, console, say_next
from terminal.tables import build_table, format_count, format_duration
from terminal.values import Line, Name

STATUS = ("python", "jobs/status.py")
BAR_CHARACTERS = 30
MAX_ROWS = 20
"""Largest number of unfinished tasks, and of failed ones, that are shown; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class StatusOptions(CorpusOptions):
    """Options of the command."""

    watch: bool = False
    """Show the progress every few seconds until the jobs are over; in a pipe, at each change."""
    job: Name | None = None
    """Name of a job; if not given, those that run, and the newest."""
    log: Line | None = None
    """Print the logs of the tasks of this name, or glob pattern: epochs, warnings, errors."""


def main(options: StatusOptions) -> int:
    """Show the progress of jobs: states of tasks, time left, use of the nodes, logs.

    Example:
        python jobs/status.py --store runs/demo --watch
    """
    watcher = Watcher(options.open_store())
    if options.log is not None:
        show_log(watcher, options.log, options.job)
        say_next([*STATUS, *options.list_data_options()])
        return 0
    if options.watch:
        jobs = watch(watcher, options.job)
    else:
        jobs = _look(watcher, options.job)
        console.print(draw_jobs(jobs))
        _show_others(watcher, options.job)
    say_next(*find_next_steps(options, jobs))
    return 0


def find_next_steps(options: StatusOptions, jobs: Sequence[JobProgress]) -> list[list[str]]:
    """Return commands that make sense in this state of the jobs, the best first."""
    data = _list_data_options(options, jobs[-1])
    failed = [task for job in jobs for task in job.find_tasks("failed")]
    unfinished = [
        job for job in jobs if job.is_over and job.count_states()["done"] < len(job.tasks)
    ]
    steps = []
    if failed:
        steps.append([*STATUS, *data, "--log", failed[0].planned.name])
    if unfinished:
        steps.append(shlex.split(unfinished[-1].driver.command))
    if not all(job.is_over for job in jobs):
        steps.append([*STATUS, *data, "--watch"])
    return steps or [[*REPORT, *data]]


def _list_data_options(options: StatusOptions, job: JobProgress) -> list[str]:
    """Return the corpus that a job was given, and the store whose jobs are shown."""
    words = shlex.split(job.driver.command)
    parts = [word.split("=", 1) if word.startswith("--") else [word] for word in words]
    values = dict(itertools.pairwise(itertools.chain(*parts)))
    root = ["--root", values["--root"]] if "--root" in values else []
    store = options.store or f"runs/{options.corpus}"
    return ["--corpus", values.get("--corpus", CorpusOptions.corpus), *root, "--store", store]


def _look(watcher: Watcher, job: str | None) -> list[JobProgress]:
    return [watcher.read_job(each) for each in ([job] if job else watcher.find_current())]


def watch(watcher: Watcher, job: str | None) -> list[JobProgress]:
    """Show jobs until nobody works on them any more, and return their last progress."""
    if not console.is_terminal:
        return _watch_in_pipe(watcher, job)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            jobs = _look(watcher, job)
            live.update(draw_jobs(jobs), refresh=True)
            if all(each.is_over for each in jobs):
                return jobs
            time.sleep(EVERY_S)


def _watch_in_pipe(watcher: Watcher, job: str | None) -> list[JobProgress]:
    shown = None
    while True:
        jobs = _look(watcher, job)
        if (state := _summarise(jobs)) != shown:
            shown = state
            console.print(draw_jobs(jobs))
        if all(each.is_over for each in jobs):
            return jobs
        time.sleep(EVERY_S)


def _summarise(jobs: Sequence[JobProgress]) -> list[object]:
    """Return a value that changes whenever something other than the time has changed."""
    return [
        (
            job.job,
            job.is_over,
            [(task.state, task.attempt and task.attempt.epoch) for task in job.tasks],
        )
        for job in jobs
    ]


def draw_jobs(jobs: Sequence[JobProgress]) -> RenderableType:
    """Draw jobs for the terminal: a bar, the running tasks, the nodes, and the failed tasks."""
    return Group(*(part for job in jobs for part in _draw_parts(job)))


def _draw_parts(job: JobProgress) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text(f"{job.job}: {_describe_state(job)}"),
        Text(f"  {job.driver.command}"),
        Text(f"  {_draw_bar(job)}"),
    ]
    if others := _describe_others(job):
        parts.append(Text(f"  {others}"))
    unfinished = job.find_tasks("running", "stopped", "lost?")
    if unfinished:
        header = ["task", "state", "node", "epoch", "clips/s", "left"]
        parts.append(build_table(header, [_make_task_row(task) for task in unfinished[:MAX_ROWS]]))
        parts += _count_more(len(unfinished), "unfinished")
    nodes = job.measure_nodes()
    if nodes:
        rate = "clips/s a task" if job.is_over else "clips/s"
        header = ["node", "tasks", "GPUs", "GPU use", "GPU memory", rate]
        parts.append(build_table(header, [_make_node_row(node) for node in nodes]))
    failed = job.find_tasks("failed")
    parts += [
        Text(f"failed: {task.planned.name}: {_get_first_line(task.error)}")
        for task in failed[:MAX_ROWS]
    ]
    parts += _count_more(len(failed), "failed")
    return parts


def _describe_state(job: JobProgress) -> str:
    if job.is_lost:
        return (
            f"lost? Its driver on {job.driver.host} has been silent for {format_duration(job.silent_s)}; "
            "the same command continues"
        )
    if job.driver.state == "running":
        return f"running for {format_duration(job.took_s + job.silent_s)} on {job.driver.host}"
    # By its own note: in a copy of a store the times of files are those of the copying.
    ago = format_duration(max(0.0, time.time() - job.driver.told))
    return f"{job.driver.state} {ago} ago, after {format_duration(job.took_s)}"


def _draw_bar(job: JobProgress) -> str:
    counts, n = job.count_states(), len(job.tasks)
    n_full = BAR_CHARACTERS * counts["done"] // max(1, n)
    bar = "#" * n_full + "." * (BAR_CHARACTERS - n_full)
    return f"[{bar}] {counts['done']} of {format_count(n, 'task')} done"


def _describe_others(job: JobProgress) -> str:
    """Describe the tasks that are not done, and the time left."""
    counts = job.count_states()
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state] and state != "done"]
    if not job.is_over:
        left_s = job.estimate_time_left_s()
        left = (
            "time left not known yet" if left_s is None else f"about {format_duration(left_s)} left"
        )
        parts += [f"{job.clips_per_s:.0f} clips/s", left]
    return ", ".join(parts)


def _make_task_row(task: TaskProgress) -> list[str]:
    attempt = task.attempt
    if attempt is None:
        raise ValueError(f"task {task.planned.name} is {task.state} without an attempt")
    of = f"/{attempt.max_epochs}" if attempt.max_epochs else ""
    rate = "-" if attempt.clips_per_s is None else f"{attempt.clips_per_s:.0f}"
    if task.state == "lost?" or task.may_hang:
        left = f"silent {format_duration(task.unreported_s)}"
    else:
        left_s = attempt.time_left_s if task.state == "running" else None
        left = "-" if left_s is None else format_duration(left_s)
    return [task.planned.name, task.state, attempt.node, f"{attempt.epoch or 0}{of}", rate, left]


def _make_node_row(node: NodeUse) -> list[str]:
    use = "-" if node.gpu_percent is None else f"{node.gpu_percent:.0f} %"
    memory = "-"
    if node.n_gpus:
        memory = f"{node.gpu_memory_bytes / GIB:.0f} of {node.gpu_total_bytes / GIB:.0f} GiB"
    figures = [str(node.n_tasks), str(node.n_gpus), use, memory, f"{node.clips_per_s:.0f}"]
    return [node.node, *figures]


def _count_more(n: int, what: str) -> list[RenderableType]:
    return [Text(f"and {n - MAX_ROWS} more {what}")] if n > MAX_ROWS else []


def _get_first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _show_others(watcher: Watcher, job: str | None) -> None:
    """Print the names of the other jobs."""
    shown = {job} if job else set(watcher.find_current())
    others = [each for each in watcher.list_jobs() if each not in shown]
    if others:
        console.print(
            f"other jobs ({len(others)}), see --job: {', '.join(others[-5:])}", markup=False
        )


def show_log(watcher: Watcher, name: str, job: str | None) -> None:
    """Print the logs of tasks, in the newest job that has attempted one of that name.

    Raises:
        UserError: no job has.
    """
    for each in [job] if job else reversed(watcher.list_jobs()):
        attempts = watcher.find_attempts(each, name)
        if attempts:
            console.print(f"{each}:", markup=False)
            for attempt in attempts:
                _print_attempt(attempt)
            return
    raise UserError(
        f"--log {name}: no worker has a log of a task of this name; names are as the job prints them, "
        "or glob patterns: --log '*split 25*'"
    )


def _print_attempt(attempt: AttemptRecord) -> None:
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
