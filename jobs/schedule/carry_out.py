"""Carries out a list of tasks: skips those that are stored, prints a line for each that ends."""

from collections.abc import Callable, Sequence
from typing import Any

from jobs.schedule.fanout import IN_FLIGHT, FanOut
from jobs.schedule.job_log import JobLog
from jobs.schedule.spending import Spending
from jobs.schedule.task import AnyWork, FindsResult, Needs, Outcome, Task
from jobs.schedule.workers import Workers
from logit_store import LogitKey, LogitStore, MissingStore
from terminal.console import console, error_console, progress_bar
from terminal.tables import format_count

Then = Callable[[Outcome[AnyWork]], Sequence[Task[AnyWork]]]
"""Returns the tasks that can be done once this one is done."""


def find_results(tasks: Sequence[Task[Any]], store: LogitStore) -> list[Any | None]:
    """Return the results of the tasks that are in the store, and None for each of the others."""
    try:
        # One listing, because thousands of single requests take minutes on S3.
        stored = set(store.keys(view=None)) if any(task.keys for task in tasks) else set()
    except MissingStore:
        stored = set()
    return [_find_result(task, stored, store) for task in tasks]


def _find_result(task: Task[Any], stored: set[LogitKey], store: LogitStore) -> Any | None:
    if task.keys:
        return task.keys[0] if stored.issuperset(task.keys) else None
    return task.work.find_result(store) if isinstance(task.work, FindsResult) else None


def find_stored(tasks: Sequence[Task[Any]], store: LogitStore) -> list[bool]:
    """Return for each task whether its result is in the store."""
    return [result is not None for result in find_results(tasks, store)]


def print_if_all_stored(
    tasks: Sequence[Task[Any]], store: LogitStore, then: Then = lambda outcome: ()
) -> bool:
    """Return whether all tasks, and those that follow them, are stored; then a job needs no workers.

    Args:
        tasks: the tasks that can be done at once.
        store: where their results would be.
        then: as for `carry_out`; called with tasks that are stored, also if others are not.
    """
    n_tasks = 0
    while tasks:
        results = find_results(tasks, store)
        if any(result is None for result in results):
            return False
        n_tasks += len(tasks)
        outcomes = map(Outcome, tasks, results)
        tasks = [following for outcome in outcomes for following in then(outcome)]
    _say_stored(n_tasks, n_tasks)
    return True


def carry_out(
    tasks: Sequence[Task[AnyWork]],
    store: LogitStore,
    workers: Workers[Any],
    needs: Needs,
    then: Then = lambda outcome: (),
    in_flight: int = IN_FLIGHT,
    spending: Spending | None = None,
    timeout_s: float | None = None,
) -> bool:
    """Run the tasks that are not in the store, print a line for each, and return whether all succeeded.

    Args:
        tasks: the tasks, the most urgent first.
        store: a task whose result is in it is done.
        workers: where tasks run.
        needs: needs of each task that does not name its own.
        then: called with each task that is done; returns the tasks that can be done after it.
        in_flight: number of tasks submitted at once.
        spending: the budget, if there is one.
        timeout_s: an attempt that has reported nothing for so long is stopped, and counts as lost.
    """
    failed: list[Outcome[AnyWork]] = []
    with JobLog(store) as log, progress_bar() as bar:
        fan_out = FanOut(workers, needs, in_flight, spending=spending, log=log, timeout_s=timeout_s)
        shown = bar.add_task("runs", total=0)
        total = _add_missing(fan_out, log, tasks, store, then)
        for done, outcome in enumerate(fan_out, start=1):
            if outcome.error is None:
                total += _add_missing(fan_out, log, then(outcome), store, then)
            else:
                failed.append(outcome)
            state = f"done in {outcome.took_s:.0f} s" if outcome.error is None else "FAILED"
            bar.update(shown, completed=done, total=total)
            console.print(f"[{done}/{total}] {outcome.task.name}: {state}", markup=False)
    _show_failures(failed)
    if spending is not None:
        spending.say_end([task.name for task in fan_out.left])
    return not failed and not fan_out.left


def _say_stored(n_stored: int, n_tasks: int) -> None:
    verb = "is" if n_tasks == 1 else "are"
    runs = format_count(n_tasks, "run")
    console.print(f"{n_stored} of {runs} {verb} in the store already", markup=False)


def _show_failures(failed: Sequence[Outcome[AnyWork]]) -> None:
    """Print each error once, with the names of the runs that failed by it."""
    runs: dict[str | None, list[str]] = {}
    for outcome in failed:
        runs.setdefault(outcome.error, []).append(outcome.task.name)
    for error, names in runs.items():
        error_console.print(f"failed: {', '.join(names)}: {error}", markup=False)


def _add_missing(
    fan_out: FanOut,
    log: JobLog,
    tasks: Sequence[Task[AnyWork]],
    store: LogitStore,
    then: Then,
) -> int:
    """Queue the tasks that are not in the store, and those that follow the stored ones; count them."""
    if not tasks:
        return 0
    results = find_results(tasks, store)
    log.plan(tasks, [result is not None for result in results])
    pairs = list(zip(tasks, results, strict=True))
    missing = [task for task, result in pairs if result is None]
    done = [Outcome(task, result) for task, result in pairs if result is not None]
    if done:
        _say_stored(len(done), len(tasks))
    fan_out.add(missing)
    following = [then(outcome) for outcome in done]
    return len(missing) + sum(_add_missing(fan_out, log, more, store, then) for more in following)
