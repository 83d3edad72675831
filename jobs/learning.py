"""What the jobs that teach have in common: options, and carrying out a list of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio.clips import SPLITS
from jobs.cluster import gpus_in_cluster
from jobs.command import CorpusOptions, UserError, console, errors, progress_bar
from jobs.fanout import Needs, Task, fan_out
from jobs.tables import table
from logit_store import Figures, LogitKey, LogitStore


@dataclass(frozen=True, kw_only=True)
class LearningOptions(CorpusOptions):
    """Which runs, with what of the machine."""

    splits: tuple[int, ...] = SPLITS
    """Percent of the training clips to learn from: 5, 10, 25, 50, 100."""
    seeds: tuple[int, ...] = (0,)
    """One run per seed."""
    impulse_responses: Path | None = None
    """Folder of recording devices' impulse responses (.wav) for augmentation; a synthetic set
    if not given."""
    cpus_per_run: int = 1
    """Cores of one run; its torch uses so many threads."""
    gpus_per_run: float | None = None
    """Share of a GPU for one run; if not given, 1 where the cluster has GPUs, else 0."""
    dry_run: bool = False
    """Print what would run, and run nothing."""

    def needs(self) -> Needs:
        """What one run asks of the connected cluster."""
        gpus = self.gpus_per_run
        if gpus is None:
            gpus = 1.0 if gpus_in_cluster() else 0.0
        return Needs(cpus=self.cpus_per_run, gpus=gpus)

    def responses(self) -> Path | None:
        """The folder of impulse responses, as every worker finds it."""
        return self.impulse_responses and self.impulse_responses.expanduser().absolute()

    def where(self, store: LogitStore) -> dict[str, Any]:
        """The arguments with which a unit finds corpus and store."""
        root = self.root and self.root.expanduser().absolute()
        return {"corpus": self.corpus, "root": root, "store": store.address}


@dataclass(frozen=True, slots=True)
class Planned:
    """One run, and the key under which its logits will lie."""

    key: LogitKey
    task: Task


def named(recipes: Sequence[str], known: dict[str, Any], what: str) -> list[Any]:
    """The recipes of these names.

    Raises:
        UserError: one is not known.
    """
    unknown = [name for name in recipes if name not in known]
    if unknown:
        raise UserError(f"no {what} recipe {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in recipes]


def check_splits(splits: Sequence[int]) -> None:
    """Refuse splits that do not exist.

    Raises:
        UserError: names them.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise UserError(f"no split {unknown}; there are: {', '.join(map(str, SPLITS))}")


def show_plan(plans: Sequence[Planned], store: LogitStore) -> None:
    """What is in the store already, and what would run."""
    rows = [[plan.task.name, "done" if plan.key in store else "to do"] for plan in plans]
    console.print(table(["run", "state"], rows))


def carry_out(plans: Sequence[Planned], store: LogitStore, needs: Needs) -> int:
    """Run what is not in the store; one line per finished run. The number of failed runs."""
    todo = [plan for plan in plans if plan.key not in store]
    if len(todo) < len(plans):
        console.print(f"{len(plans) - len(todo)} of {len(plans)} runs are in the store already")
    failed = []
    with progress_bar() as bar:
        progress = bar.add_task("runs", total=len(todo))
        outcomes = fan_out([plan.task for plan in todo], needs)
        for count, outcome in enumerate(outcomes, start=1):
            bar.update(progress, completed=count)
            name, took = outcome.task.name, f"{outcome.took_s:.0f} s"
            if outcome.error is None:
                console.print(f"[{count}/{len(todo)}] {name}: done in {took}", markup=False)
            else:
                failed.append(outcome)
                console.print(f"[{count}/{len(todo)}] {name}: FAILED after {took}", markup=False)
    for outcome in failed:
        errors.print(f"failed: {outcome.task.name}: {outcome.error}", markup=False)
    return len(failed)


def select_figures(store: LogitStore, key: LogitKey) -> Figures:
    """What a member is worth on the `select` clips, from the footer of its logits."""
    figures = store.footer(key).figure("select")
    if figures is None:
        raise UserError(f"{key}: its split has no select clips; see python jobs/prepare.py")
    return figures


def show_members(keys: Sequence[LogitKey], store: LogitStore) -> None:
    """How the runs that are in the store did on `select`."""
    rows = []
    for key in keys:
        if key not in store:
            continue
        footer, figures = store.footer(key), select_figures(store, key)
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
    console.print("on the select clips:")
    console.print(table(header, rows))
