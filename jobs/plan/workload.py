"""The workload of a run: clips to train on and to predict, bytes to store."""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, assert_never

from audio.clips import Corpus, Fold
from jobs.worker.pools import PoolOfWork
from jobs.worker.train import Distill, FineTune, Quantise, Specialise, TrainingWork
from logit_store import LogitStore
from students import StudentRecipe
from students.devices import find_known_devices
from students.records import restore_recipe
from students.stages import DeviceStage
from teachers import TeacherRecipe
from training import Protocol, TrainingRecipe
from training.needs import DryStep, Footprint
from training.pool_use import PoolUse
from training.recipe import find_judging_fold, find_learning_folds

if TYPE_CHECKING:
    import torch

Recipe = TeacherRecipe | StudentRecipe

FOOTER_BYTES = 16 * 1024
"""Size of the footer of a file of logits: scores and record."""
CHECKPOINT_WEIGHTS = 4
"""A checkpoint holds the weights, two moments of each, and the best weights."""
_NO_MATTER = ("name", "weights", "first_stage", "training", "augmentation")
"""Parts of a recipe that hardly change how long a clip takes."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The description of runs that need the same time for a clip."""

    recipe: Recipe
    scenes: tuple[str, ...]
    clip_duration_s: float
    in_int8: bool = False

    @property
    def name(self) -> str:
        """Equal for recipes that do the same work."""
        plain = json.loads(json.dumps(asdict(self.recipe)))
        size = (len(self.scenes), self.clip_duration_s)
        return f"{describe_pace(plain, in_int8=self.in_int8)} {size}"

    @property
    def is_teacher(self) -> bool:
        """Whether the runs train teachers."""
        return isinstance(self.recipe, TeacherRecipe)

    def measure_step(self, device: "torch.device") -> DryStep:
        """Take a few steps on noise, and return how long one takes."""
        match self.recipe:
            case TeacherRecipe():
                # It needs torch, which takes seconds to import; most plans find records instead.
                from teachers.dry_step import measure_teacher_step

                return measure_teacher_step(self.recipe, self.scenes, self.clip_duration_s, device)
            case StudentRecipe():
                from students.dry_step import measure_student_step

                return measure_student_step(
                    self.recipe, self.scenes, self.clip_duration_s, device, in_int8=self.in_int8
                )
            case _:
                assert_never(self.recipe)

    def measure_footprint(self) -> Footprint:
        """Return the memory that a run takes."""
        n_classes = len(self.scenes)
        match self.recipe:
            case TeacherRecipe():
                from teachers.dry_step import measure_teacher_footprint

                return measure_teacher_footprint(self.recipe, n_classes, self.clip_duration_s)
            case StudentRecipe():
                from students.dry_step import estimate_student_footprint

                return estimate_student_footprint(self.recipe, n_classes, self.clip_duration_s)
            case _:
                assert_never(self.recipe)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What one run has to do."""

    corpus: Corpus
    pace: Pace
    n_learnt: int
    """Number of clips of all its training steps, if it never stops early."""
    n_judged: int
    """Number of clips that are predicted after its epochs, to judge them."""
    n_views: int
    """Number of views whose logits it stores, of all clips of the corpus."""
    n_models: int = 1
    """Number of models, one after the other, whose weights it stores; all of them predict the clips."""
    n_pool_clips: int = 0
    """Number of clips of other corpora whose views it predicts too."""

    def add(self, before: "Workload") -> "Workload":
        """Return the work of this run and of one of the same pace before it, its first stage."""
        return replace(
            self,
            n_learnt=self.n_learnt + before.n_learnt,
            n_judged=self.n_judged + before.n_judged,
            n_views=self.n_views + before.n_views,
        )

    def estimate_seconds(self, dry: DryStep) -> float:
        """Estimate how long the run takes, by a measured step."""
        n_clips = len(self.corpus) + self.n_pool_clips
        n_predicted = self.n_judged + self.n_models * self.n_views * n_clips
        return self.n_learnt * dry.train_clip_s + n_predicted * dry.predict_clip_s

    def count_stored_bytes(self, weights_bytes: int) -> int:
        """Count the bytes that it stores: logits as float16 with their row, and weights."""
        if not self.n_views:
            return 0
        row_bytes, n_clips = 4 + 2 * len(self.pace.scenes), len(self.corpus) + self.n_pool_clips
        logits_bytes = self.n_views * (row_bytes * n_clips + FOOTER_BYTES)
        return logits_bytes + self.n_models * weights_bytes


def find_workload(work: TrainingWork, corpus: Corpus, store: LogitStore) -> Workload:
    """Return how much a task that trains something has to do."""
    match work:
        case FineTune(teacher=run):
            workload = count_workload(
                corpus,
                run.recipe,
                run.split,
                protocol=run.protocol,
                n_views=work.n_views,
                cross_fit=run.cross_fit,
            )
            return replace(workload, n_pool_clips=work.n_pool_clips)
        case Distill():
            own = count_workload(
                corpus, work.recipe, work.split, n_views=work.n_views, pool=work.pool
            )
            # A stage on another corpus is a task of its own.
            if work.first is None or work.first.where != work.where:
                return own
            return own.add(find_workload(work.first, corpus, store))
        case Specialise(general=general, stage=stage):
            whole = find_workload(general, corpus, store)
            return whole.add(_count_copies(corpus, general, stage))
        case Quantise(start=start):
            record = store.read_record(start)
            recipe = restore_recipe(record)
            recipe = replace(recipe, training=work.settings.make_training(recipe))
            return count_workload(
                corpus,
                recipe,
                start.split,
                protocol=record["protocol"],
                in_int8=True,
                pool=work.pool,
            )
        case _:
            assert_never(work)


def _count_copies(corpus: Corpus, general: Distill, stage: DeviceStage) -> Workload:
    """Return the workload of a student's copies for its known recording devices."""
    recipe, split = stage.make_recipe(general.recipe), general.split
    devices = corpus.column("recording_device")
    fit = devices[corpus.rows(split, "fit")]
    counts = [int((fit == name).sum()) for name in find_known_devices(corpus, split)]
    trained = [count_trained_clips(recipe.training, n_clips) for n_clips in counts]
    n_epochs = sum(math.ceil(n_learnt / n_epoch) for n_epoch, n_learnt in trained)
    one = count_workload(corpus, recipe, split)
    n_judging = _count_rows(corpus, split, find_judging_fold("honest"))
    # Each clip is judged by the network of its device only.
    n_judged = math.ceil(n_epochs * n_judging / len(counts))
    return replace(one, n_learnt=sum(n_learnt for _, n_learnt in trained), n_judged=n_judged)


def count_workload(
    corpus: Corpus,
    recipe: Recipe,
    split: int,
    *,
    protocol: Protocol = "honest",
    n_views: int = 1,
    in_int8: bool = False,
    cross_fit: int | None = None,
    pool: PoolOfWork | None = None,
) -> Workload:
    """Return the workload of a run of a recipe.

    Args:
        corpus: the corpus that it is trained on.
        recipe: the recipe of a teacher or a student.
        split: 5, 10, 25, 50 or 100.
        protocol: decides which clips are trained on, and which judge.
        n_views: number of views whose logits are stored.
        in_int8: whether a student is trained further in int8.
        cross_fit: number of models of which each leaves out a part of the clips; None: one model.
        pool: the clips without labels that a student learns from too.
    """
    n_fit = _count_learnt_rows(corpus, split, protocol, cross_fit)
    if pool is not None:
        n_fit = pool.use.count_clips(n_fit, pool.n_clips)
    n_epoch, n_learnt = count_trained_clips(recipe.training, n_fit)
    n_judging = _count_rows(corpus, split, find_judging_fold(protocol))
    n_models = cross_fit or 1
    return Workload(
        corpus=corpus,
        pace=Pace(recipe, corpus.scenes, corpus.clip_duration_s, in_int8),
        n_learnt=n_models * n_learnt,
        n_judged=n_models * math.ceil(n_learnt / n_epoch) * n_judging,
        n_views=n_views,
        n_models=n_models,
    )


def count_trained_clips(training: TrainingRecipe, n_fit: int) -> tuple[int, int]:
    """Return the number of clips of an epoch, and of all steps of a run that never stops early."""
    n_epoch = training.clips_per_epoch or n_fit
    n_learnt = training.max_epochs * n_epoch
    if training.max_steps is not None:
        n_learnt = min(n_learnt, training.max_steps * training.batch_size)
    return n_epoch, n_learnt


def count_recorded_clips(record: Mapping[str, Any], corpus: Corpus, split: int) -> int:
    """Return the number of clips of all steps of a finished run, by its record.

    Raises:
        KeyError: the record lacks it: it is of another version, or not of a run.
    """
    training = record["recipe"]["training"]
    n_fit = _count_learnt_rows(corpus, split, record["protocol"], record.get("cross_fit"))
    if pool := record.get("pool"):
        n_fit = PoolUse(alone=pool["alone"]).count_clips(n_fit, pool["clips"])
    max_steps = record.get("quantisation", training)["max_steps"]
    most = (max_steps or math.inf) * training["batch_size"]
    n_epoch = training["clips_per_epoch"] or n_fit
    if stage := record.get("per_device"):
        most = (stage["max_steps"] or math.inf) * training["batch_size"]
        return sum(min(each["epochs"] * each["clips"], most) for each in record["parts"])
    return sum(min(each["epochs"] * n_epoch, most) for each in record.get("parts", [record]))


def describe_pace(recipe: Mapping[str, Any], *, in_int8: bool) -> str:
    """Return a text that is equal for recorded recipes that need the same time for a clip.

    The clips must have the same length.
    """
    parts = {name: value for name, value in recipe.items() if name not in _NO_MATTER}
    parts |= {"batch_size": recipe["training"]["batch_size"], "in_int8": in_int8}
    return json.dumps(parts, sort_keys=True)


def _count_learnt_rows(
    corpus: Corpus, split: int, protocol: Protocol, cross_fit: int | None
) -> int:
    """Count the clips that a model learns from; with parts about as many as each leaves in."""
    n_clips = _count_rows(corpus, split, *find_learning_folds(protocol))
    return n_clips if cross_fit is None else max(1, n_clips - n_clips // cross_fit)


@functools.lru_cache(maxsize=64)
def _count_rows(corpus: Corpus, split: int, *folds: Fold) -> int:
    # Each run of a plan needs it, and it takes milliseconds for the 230,350 clips of TAU.
    return len(corpus.rows(split, *folds))
