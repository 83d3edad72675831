"""What the jobs that teach have in common: options, and carrying out a list of runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from audio.clips import SPLITS
from jobs.cluster import gpus_in_cluster
from jobs.command import UserError, console, errors, everywhere, progress_bar
from jobs.costs import BudgetOptions, Spending
from jobs.fanout import IN_FLIGHT, FanOut, Needs, Outcome, Task
from jobs.job_log import JobLog
from jobs.tables import table
from logit_store import Figures, Footer, LogitKey, LogitStore, MissingStore
from training import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class LearningOptions(BudgetOptions):
    """Which runs, with what of the machine."""

    splits: tuple[int | Literal["all"], ...] = ("all",)
    """Percent of the training clips to learn from: 5, 10, 25, 50, 100, or all of these."""
    seeds: tuple[int, ...] = (0,)
    """One run per seed."""
    epochs: int | None = None
    """At most so many, whatever the recipe says."""
    max_steps: int | None = None
    """At most so many optimiser steps, for trying things out."""
    impulse_responses: Path | None = None
    """Folder of recording devices' impulse responses (.wav) for augmentation; a synthetic set
    if not given."""
    cpus_per_run: int = 1
    """Cores of one run; its torch uses so many threads."""
    gpus_per_run: float | None = None
    """Share of a GPU for one run, enforced; if not given, 0 where the cluster has no GPU and its
    autoscaler can add none, else 1, and for teachers what a dry step on a GPU shows that each
    recipe needs."""

    def needs(self) -> Needs:
        """What one run asks of the connected cluster."""
        gpus = self.gpus_per_run
        if gpus is None:
            gpus = 1.0 if gpus_in_cluster() else 0.0
        return Needs(cpus=self.cpus_per_run, gpus=gpus)

    def shortened(self, training: TrainingRecipe) -> TrainingRecipe:
        """A recipe with no more epochs and steps than were asked for.

        Raises:
            UserError: fewer than one was asked for.
        """
        check_counts(epochs=self.epochs, max_steps=self.max_steps)
        if self.epochs is not None:
            training = replace(training, max_epochs=self.epochs)
        if self.max_steps is not None:
            training = replace(training, max_steps=self.max_steps)
        return training

    def responses(self) -> Path | None:
        """The folder of impulse responses, as every worker finds it."""
        return everywhere(self.impulse_responses)


def check_counts(**options: int | None) -> None:
    """Make sure that options, given by the names of their fields, are 1 or more if at all.

    Raises:
        UserError: names the first that is not.
    """
    for name, value in options.items():
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected 1 or more")


def named(recipes: Sequence[str], known: dict[str, Any], what: str) -> list[Any]:
    """The recipes of these names.

    Raises:
        UserError: one is not known.
    """
    unknown = [name for name in recipes if name not in known]
    if unknown:
        raise UserError(f"no {what} recipe {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in recipes]


def chosen(splits: Sequence[int | str]) -> tuple[int, ...]:
    """The splits that these words mean, each once.

    Raises:
        UserError: one does not exist.
    """
    unknown = [split for split in splits if split not in (*SPLITS, "all")]
    if unknown:
        raise UserError(f"no split {unknown}; there are: {', '.join(map(str, SPLITS))}, all")
    found = SPLITS if "all" in splits else splits
    return tuple(int(split) for split in dict.fromkeys(found))


def done_of(tasks: Sequence[Task], store: LogitStore) -> list[bool]:
    """Whether each task's logits are in the store."""
    try:
        # One listing: thousands of questions for a name take minutes on S3.
        there = set(store.keys(view=None))
    except MissingStore:
        there = set()
    return [bool(task.keys) and there.issuperset(task.keys) for task in tasks]


def carry_out(
    tasks: Sequence[Task],
    store: LogitStore,
    needs: Needs,
    then: Callable[[Outcome], Sequence[Task]] = lambda outcome: (),
    in_flight: int = IN_FLIGHT,
    spending: Spending | None = None,
) -> bool:
    """Run what is not in the store; one line per finished run. Whether all went well.

    Args:
        tasks: what to do, the most urgent first.
        store: what has its logits there is done.
        needs: of each task that does not say its own.
        then: called with each task that is done; tasks that can be done from now on.
        in_flight: so many are submitted at once.
        spending: the budget, if there is one.
    """
    failed: list[Outcome] = []
    with JobLog(store) as log, progress_bar() as bar:
        work = FanOut(needs, in_flight, spending=spending, log=log)
        shown = bar.add_task("runs", total=0)
        total = _add_missing(work, log, tasks, store, then)
        for done, outcome in enumerate(work, start=1):
            if outcome.error is None:
                total += _add_missing(work, log, then(outcome), store, then)
            else:
                failed.append(outcome)
            state = f"done in {outcome.took_s:.0f} s" if outcome.error is None else "FAILED"
            bar.update(shown, completed=done, total=total)
            console.print(f"[{done}/{total}] {outcome.task.name}: {state}", markup=False)
    _show_failures(failed)
    if spending is not None:
        spending.say_end([task.name for task in work.left])
    return not failed and not work.left


def _show_failures(failed: Sequence[Outcome]) -> None:
    """Each error once, with the runs that it ended."""
    runs_of: dict[str | None, list[str]] = {}
    for outcome in failed:
        runs_of.setdefault(outcome.error, []).append(outcome.task.name)
    for error, runs in runs_of.items():
        errors.print(f"failed: {', '.join(runs)}: {error}", markup=False)


def _add_missing(
    work: FanOut,
    log: JobLog,
    tasks: Sequence[Task],
    store: LogitStore,
    then: Callable[[Outcome], Sequence[Task]],
) -> int:
    """Queue the tasks that are not in the store, and what follows from those that are."""
    if not tasks:
        return 0
    missing: list[Task] = []
    done: list[Task] = []
    states = done_of(tasks, store)
    log.plan(tasks, states)
    for task, is_done in zip(tasks, states, strict=True):
        (done if is_done else missing).append(task)
    if done:
        console.print(f"{len(done)} of {len(tasks)} runs are in the store already", markup=False)
    work.add(missing)
    following = [then(Outcome(task, task.keys[0])) for task in done]
    return len(missing) + sum(_add_missing(work, log, more, store, then) for more in following)


def select_figures(key: LogitKey, footer: Footer) -> Figures:
    """What a member is worth on the `select` clips, from the footer of its logits."""
    figures = footer.figure("select")
    if figures is None:
        raise UserError(f"{key}: its split has no select clips; see python jobs/prepare.py")
    return figures


def best_member(tasks: Sequence[Task], store: LogitStore) -> str:
    """Of the runs that are in the store, the one with the lowest log loss on `select`."""
    footers = store.footers([task.keys[0] for task in tasks])
    return min(footers, key=lambda key: select_figures(key, footers[key]).log_loss).member


def show_members(tasks: Sequence[Task], store: LogitStore) -> None:
    """How the runs that are in the store did on `select`."""
    states = done_of(tasks, store)
    keys = [task.keys[0] for task, done in zip(tasks, states, strict=True) if done]
    rows = []
    for key, footer in store.footers(keys).items():
        figures = select_figures(key, footer)
        rows.append(
            [
                key.member,
                str(key.split),
                f"{figures.log_loss:.3f}",
                f"{100 * figures.accuracy:.1f}",
                str(footer.record["epochs"]),
                f"{footer.record['training_s']:.0f}",
            ]
        )
    header = ["member", "split", "log loss", "acc. %", "epochs", "s"]
    console.print("on the select clips, accuracy over all of them:")
    console.print(table(header, rows))
