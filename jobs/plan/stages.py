"""The stages before and after the training of a student: planned as work that holds the work before it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from audio.clips import Corpus
from audio.errors import CorpusError
from audio.pools import Pool, refuse_leaks
from jobs.plan.pools import PlannedPool
from jobs.plan.ram import find_ram
from jobs.schedule.task import AnyWork, Outcome, Task, make_names_unique
from jobs.worker.train import Distill, Specialise, TrainingWork
from jobs.worker.where import Where
from logit_store import LogitKey, strip_fingerprint
from students import drop_teachers
from students.cost import BYTES, Precision
from students.devices import find_known_devices
from students.keys import make_device_key, make_student_key
from students.recipe import StudentRecipe, drop_modulation
from students.stages import DeviceStage, PruneStage, Start, StartKind
from terminal.console import UserError
from training import list_view_keys

if TYPE_CHECKING:
    from students.prune import Width

FIRST_SPLIT = 100
"""Split of the corpus of a first stage: all of it."""


@dataclass(frozen=True, slots=True)
class PlannedStudent:
    """Work that trains a student, and the key of its logits."""

    work: Distill
    key: LogitKey


def plan_student(
    work: Distill,
    corpus: Corpus,
    pool: PlannedPool | None = None,
    before: PlannedStudent | None = None,
    kind: StartKind = "pool",
) -> PlannedStudent:
    """Plan the training of a student, after the stage before if there is one.

    Raises:
        UserError: the recipe cannot learn from the pool, or from this corpus.
    """
    start = None
    work = replace(work, pool=None if pool is None else pool.work)
    if before is not None:
        work = replace(work, first=before.work, start_kind=kind)
        start = Start(before.key, kind)
    try:
        key = make_student_key(
            work.recipe,
            corpus,
            work.split,
            work.seed,
            work.responses,
            work.taught_by,
            None if pool is None else pool.pool,
            start,
            embeddings=work.embeddings,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    return PlannedStudent(work, key)


def plan_first_corpus(work: Distill, corpus: Corpus, other: Corpus, where: Where) -> PlannedStudent:
    """Plan the stage in which a student learns another corpus by its labels.

    Args:
        work: the training that follows.
        corpus: the corpus of the training that follows.
        other: the corpus that is learnt first.
        where: where the workers find it.

    Raises:
        UserError: the student cannot take its clips, or it has scenes or folds that do not fit, or some of
            its clips or recordings judge in the corpus that follows.
    """
    # It builds the student, and so needs torch, which takes seconds to import.
    from students.distill import measure_recipe

    # One recording device, or none that is known, teaches no discriminator.
    plain = drop_modulation(work.recipe.augmentation)
    recipe = replace(drop_teachers(work.recipe), device_loss_weight=0.0, augmentation=plain)
    try:
        for fold in ("fit", "select"):
            other.rows(FIRST_SPLIT, fold)
        refuse_leaks(corpus, work.split, [as_pool(other)])
        measure_recipe(recipe, other)
        first = replace(
            work,
            recipe=recipe,
            where=where,
            split=FIRST_SPLIT,
            taught_by=None,
            n_views=1,
            embeddings=(),
            ram=None,
        )
        return plan_student(first, other)
    except (ValueError, CorpusError, UserError) as error:
        raise UserError(
            f"{work.recipe.name} cannot learn corpus {other.name} first: {error}\nSee --first-corpus and "
            "--first-root"
        ) from error


def as_pool(other: Corpus) -> Pool:
    """Return a corpus that is learnt first as a pool, whose clips must not judge either."""
    return Pool(f"of the first stage, {other.name},", np.arange(len(other)), other)


def check_pruning(recipe: StudentRecipe, most_bytes: int) -> "Width":
    """Return what is pruned of a recipe's student.

    Raises:
        UserError: its architecture cannot be pruned, or it has no teachers.
    """
    # It builds students, and so needs torch, which takes seconds to import.
    from students.prune import find_width

    try:
        width = find_width(recipe)
        if recipe.distillation is None:
            raise ValueError(
                f"student recipe {recipe.name} learns from labels alone, and between its steps a pruned student "
                "learns from soft labels; give it teachers"
            )
    except ValueError as error:
        raise UserError(f"--prune-to {most_bytes}: {error}") from error
    return width


def plan_pruning(
    full: PlannedStudent,
    corpus: Corpus,
    pool: PlannedPool | None,
    most_bytes: int,
    precision: Precision,
) -> PlannedStudent:
    """Plan the steps that make a student narrower, each trained by the same soft labels.

    Raises:
        UserError: its architecture cannot be pruned, or not to this size, or it has no teachers.
    """
    # It builds students, and so needs torch, which takes seconds to import.
    from students.prune import plan_widths

    recipe, stage = full.work.recipe, PruneStage()
    width = check_pruning(recipe, most_bytes)
    try:
        most = most_bytes // BYTES[precision]
        steps = plan_widths(recipe, len(corpus.scenes), most, stage.step_share)
    except ValueError as error:
        raise UserError(f"--prune-to {most_bytes}: {error}") from error
    planned = full
    for number, arguments in enumerate(steps, start=1):
        is_last = number == len(steps)
        narrower = replace(
            recipe,
            name=f"{recipe.name}_pruned_{width.argument}{arguments[width.argument]:g}",
            arguments=arguments,
            training=stage.make_training(recipe.training, is_last=is_last),
        )
        n_views = full.work.n_views if is_last else 1
        # A plan of memory takes seconds, and only the last one is used on a device.
        ram = find_ram(narrower, corpus) if is_last else None
        work = replace(full.work, recipe=narrower, n_views=n_views, ram=ram)
        planned = plan_student(work, corpus, pool, planned, "pruned")
    return planned


def make_task(planned: PlannedStudent) -> Task[Distill]:
    """Name the training of a student by its logits."""
    work = planned.work
    name = f"{strip_fingerprint(planned.key.member)} split {work.split} seed {work.seed}"
    return Task(name, work, list_view_keys(planned.key, work.n_views))


def plan_devices(task: Task[Distill], corpus: Corpus, stage: DeviceStage) -> Task[Specialise]:
    """Plan a network per known recording device after the training of a student, which it includes.

    Raises:
        UserError: the clips have fewer than two known recording devices.
    """
    work, general = task.work, task.keys[0]
    try:
        find_known_devices(corpus, work.split)
    except CorpusError as error:
        raise UserError(f"--per-device: {error}") from error
    key = make_device_key(general, work.seed, stage, corpus, work.responses)
    name = f"{strip_fingerprint(key.member)} split {work.split} seed {work.seed}"
    return Task(name, Specialise(general=work, stage=stage), (key, *task.keys))


def list_stages(work: TrainingWork) -> Iterator[Distill]:
    """Yield the trainings of students that a task does, the last one first."""
    stage = work.general if isinstance(work, Specialise) else work
    while isinstance(stage, Distill):
        yield stage
        stage = stage.first


@dataclass(frozen=True, slots=True)
class FirstRuns:
    """Trainings on another corpus that runs wait for: each is done once."""

    corpus: Corpus
    """The corpus of the runs."""
    other: Corpus | None = None
    """The corpus of these trainings; None if there are none."""
    tasks: tuple[Task[Distill], ...] = ()

    @classmethod
    def of(
        cls, runs: Sequence[Task[TrainingWork]], corpus: Corpus, other: Corpus | None
    ) -> "FirstRuns":
        """Find the trainings on another corpus that runs begin with."""
        found: list[Task[Distill]] = []
        for run in runs:
            first = _find_on_other_corpus(run.work)
            known = first is None or any(each.work == first for each in found)
            if not known and first is not None and other is not None:
                found.append(make_task(plan_student(first, other)))
        return cls(corpus, other, tuple(make_names_unique(found)))

    def find_ready(self, runs: Sequence[Task[TrainingWork]]) -> list[Task[TrainingWork]]:
        """Return these trainings, and the runs that wait for none of them."""
        return [*self.tasks, *(run for run in runs if _find_on_other_corpus(run.work) is None)]

    def follow(
        self, runs: Sequence[Task[TrainingWork]], outcome: Outcome[AnyWork]
    ) -> list[Task[TrainingWork]]:
        """Return the runs that can start once a task is done."""
        if outcome.task not in self.tasks:
            return []
        return [run for run in runs if _find_on_other_corpus(run.work) == outcome.task.work]

    def find_corpus(self, task: Task[TrainingWork]) -> Corpus:
        """Return the corpus of a run, or of one of these trainings."""
        return self.other if self.other is not None and task in self.tasks else self.corpus


def _find_on_other_corpus(work: TrainingWork) -> Distill | None:
    stages = list(list_stages(work))
    return stages[-1] if stages and stages[-1].where != stages[0].where else None
