"""How long teachers' runs will take and what they need, measured by dry steps."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from audio.clips import Corpus
from jobs import units
from jobs.cluster import memory_of_a_node
from jobs.command import UserError, console, progress_bar
from jobs.fanout import FanOut, Needs, Task, give_memory_back
from jobs.learning import done_of
from jobs.tables import duration, table
from logit_store import LogitStore, fingerprint
from teachers import TeacherRecipe, TeacherRun
from teachers.dry_step import DryStep, dry_step, training_bytes
from training.recipe import judging_fold, learning_folds

CorpusOf = Callable[[Task], Corpus]


@dataclass(frozen=True, slots=True)
class Kind:
    """Runs that take equally long a clip: one recipe of them, and the clips."""

    recipe: TeacherRecipe
    n_classes: int
    clip_duration_s: float

    @classmethod
    def of(cls, task: Task, corpus: Corpus) -> "Kind":
        """That of a task which teaches the corpus."""
        return cls(task.arguments["run"].recipe, len(corpus.scenes), corpus.clip_duration_s)

    @property
    def name(self) -> str:
        """Equal for recipes that do the same work."""
        recipe = self.recipe
        parts = (recipe.model, dict(recipe.arguments), recipe.front_end, recipe.length)
        size = (recipe.training.batch_size, self.n_classes, self.clip_duration_s)
        return fingerprint((*parts, *size))

    @property
    def arguments(self) -> dict[str, Any]:
        """What a dry step of it is called with."""
        return {
            "recipe": self.recipe,
            "n_classes": self.n_classes,
            "clip_duration_s": self.clip_duration_s,
        }


def show_estimates(
    tasks: Sequence[Task], store: LogitStore, corpus_of: CorpusOf, threads: int
) -> None:
    """What is in the store already, what would run, and how long it would take here."""
    states = done_of(tasks, store)
    todo = [task for task, done in zip(tasks, states, strict=True) if not done]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kinds = [Kind.of(task, corpus_of(task)) for task in todo]
    measured = _measure_here({kind.name: kind for kind in kinds}, device, threads)
    rows, total_s = [], 0.0
    for task, done in zip(tasks, states, strict=True):
        state = ["done", "", ""]
        if not done:
            dry = measured[Kind.of(task, corpus_of(task)).name]
            seconds = run_seconds(task, corpus_of(task), dry)
            total_s += seconds
            share = "" if dry.gpu_share is None else f"{dry.gpu_share:.2f}"
            state = ["to do", share, duration(seconds)]
        rows.append([task.name, *state])
    console.print(table(["run", "state", "GPU", "time"], rows))
    at_once = max(1, (os.cpu_count() or 1) // threads)
    console.print(
        f"{len(todo)} runs to do, together {duration(total_s)} at most on this machine's "
        f"{device.type} (threads a run: {threads}; measured by a dry step of each kind"
        + (f"; {at_once} at once: {duration(total_s / at_once)}" if device.type == "cpu" else "")
        + "); early stopping makes it less"
    )


def gpu_needs(tasks: Sequence[Task], corpus_of: CorpusOf, needs: Needs) -> dict[str, Needs]:
    """What each run needs, by the name of its task, measured on GPUs of the cluster.

    Raises:
        UserError: a dry step failed.
    """
    kind_of = {task.name: Kind.of(task, corpus_of(task)) for task in tasks}
    kinds = {kind.name: kind for kind in kind_of.values()}
    probes = FanOut(replace(needs, gpus=1.0))
    probes.add(
        Task(f"dry step of {kind.recipe.name}", units.measure, {"name": name, **kind.arguments})
        for name, kind in kinds.items()
    )
    shares: dict[str, float] = {}
    for outcome in probes:
        if outcome.error is not None:
            raise UserError(f"{outcome.task.name}: {outcome.error}")
        name, dry = outcome.result
        shares[name] = dry.gpu_share
        console.print(f"{outcome.task.name}: {dry.gpu_share:.2f} of a GPU", markup=False)
    return {name: replace(needs, gpus=shares[kind.name]) for name, kind in kind_of.items()}


def memory_needs(tasks: Sequence[Task], corpus_of: CorpusOf, needs: Needs) -> dict[str, Needs]:
    """What each run on the CPU needs, by the name of its task: its host memory is measured here.

    A run that needs more than any node has gets a node's memory for itself.
    """
    kind_of = {task.name: Kind.of(task, corpus_of(task)) for task in tasks}
    kinds = {kind.name: kind for kind in kind_of.values()}
    most = memory_of_a_node()
    bytes_of = {name: training_bytes(**kind.arguments) for name, kind in kinds.items()}
    give_memory_back()
    return {
        name: replace(needs, memory_bytes=min(bytes_of[kind.name], most))
        for name, kind in kind_of.items()
    }


def run_seconds(task: Task, corpus: Corpus, dry: DryStep) -> float:
    """How long a run takes if it never stops early."""
    run: TeacherRun = task.arguments["run"]
    training = run.recipe.training
    n_epoch = training.clips_per_epoch or len(corpus.rows(run.split, *learning_folds(run.protocol)))
    n_learnt = training.max_epochs * n_epoch
    if training.max_steps is not None:
        n_learnt = min(n_learnt, training.max_steps * training.batch_size)
    n_judged = len(corpus.rows(run.split, judging_fold(run.protocol)))
    n_predicted = math.ceil(n_learnt / n_epoch) * n_judged + len(task.keys) * len(corpus)
    return n_learnt * dry.train_clip_s + n_predicted * dry.predict_clip_s


def _measure_here(kinds: dict[str, Kind], device: torch.device, threads: int) -> dict[str, DryStep]:
    torch.set_num_threads(threads)
    measured = {}
    with progress_bar() as bar:
        for name, kind in bar.track(list(kinds.items()), description="dry steps"):
            measured[name] = dry_step(**kind.arguments, device=device)
    return measured
