"""How much there is to do in a run: clips to learn and to predict, bytes to write."""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

import students.dry_step
import teachers.dry_step
from audio.clips import Corpus, Fold
from jobs import units
from jobs.fanout import Task
from logit_store import LogitStore
from students import StudentRecipe
from students.stored import recipe_of
from teachers import TeacherRecipe
from training import Protocol, TrainingRecipe
from training.dry_step import DryStep, Footprint
from training.recipe import judging_fold, learning_folds

Recipe = TeacherRecipe | StudentRecipe

FOOTER_BYTES = 16 * 1024
"""Of a file of logits: figures and record."""
CHECKPOINT_WEIGHTS = 4
"""A checkpoint holds the weights, two moments of each, and the best weights."""
_NO_MATTER = ("name", "weights", "first_stage", "training", "augmentation")
"""Parts of a recipe that hardly change how long a clip takes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Runs that take equally long a clip."""

    recipe: Recipe
    scenes: tuple[str, ...]
    clip_duration_s: float
    in_int8: bool = False

    @property
    def name(self) -> str:
        """Equal for recipes that do the same work."""
        plain = json.loads(json.dumps(asdict(self.recipe)))
        size = (len(self.scenes), self.clip_duration_s)
        return f"{pace_of(plain, in_int8=self.in_int8)} {size}"

    @property
    def is_teacher(self) -> bool:
        """Whether it is a teacher's."""
        return isinstance(self.recipe, TeacherRecipe)

    def dry_step(self, device: torch.device) -> DryStep:
        """A few steps of it on noise."""
        if isinstance(self.recipe, TeacherRecipe):
            return teachers.dry_step.dry_step(
                self.recipe, self.scenes, self.clip_duration_s, device
            )
        return students.dry_step.dry_step(
            self.recipe, self.scenes, self.clip_duration_s, device, in_int8=self.in_int8
        )

    def footprint(self) -> Footprint:
        """What it takes in bytes."""
        n_classes = len(self.scenes)
        if isinstance(self.recipe, TeacherRecipe):
            return teachers.dry_step.footprint(self.recipe, n_classes, self.clip_duration_s)
        return students.dry_step.footprint(self.recipe, n_classes, self.clip_duration_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one run does."""

    corpus: Corpus
    kind: Kind
    n_learnt: int
    """Clips of all its training steps, if it never stops early."""
    n_judged: int
    """Clips whose logits are asked for after its epochs."""
    n_views: int
    """Views of all clips of the corpus whose logits it stores."""

    def seconds(self, dry: DryStep) -> float:
        """How long it takes, by a measured step."""
        n_predicted = self.n_judged + self.n_views * len(self.corpus)
        return self.n_learnt * dry.train_clip_s + n_predicted * dry.predict_clip_s

    def stored_bytes(self, weights_bytes: int) -> int:
        """What it leaves in the store: logits as float16 with their row, and weights."""
        if not self.n_views:
            return 0
        row_bytes = 4 + 2 * len(self.kind.scenes)
        return self.n_views * (row_bytes * len(self.corpus) + FOOTER_BYTES) + weights_bytes


def work_of(task: Task, corpus: Corpus, store: LogitStore) -> Work:
    """What a task does that teaches something."""
    arguments, in_int8, protocol, n_views = task.arguments, False, "honest", 1
    if task.function is units.teach:
        run = arguments["run"]
        recipe, split, protocol, n_views = run.recipe, run.split, run.protocol, arguments["n_views"]
    elif task.function is units.learn:
        recipe, split, n_views = arguments["recipe"], arguments["split"], arguments["n_views"]
    else:
        start = arguments["start"]
        record = store.record(start)
        taught = recipe_of(record)
        recipe = replace(taught, training=arguments["settings"].training(taught))
        in_int8, split, protocol = True, start.split, record["protocol"]
    return work_on(corpus, recipe, split, protocol=protocol, n_views=n_views, in_int8=in_int8)


def work_on(
    corpus: Corpus,
    recipe: Recipe,
    split: int,
    *,
    protocol: Protocol = "honest",
    n_views: int = 1,
    in_int8: bool = False,
) -> Work:
    """What a run of a recipe does.

    Args:
        corpus: that it learns.
        recipe: of a teacher or a student.
        split: 5, 10, 25, 50 or 100.
        protocol: says which clips are learnt from, and which judge.
        n_views: logits of so many views are stored; 0 stores none.
        in_int8: whether a student learns on in int8.
    """
    n_fit = _n_rows(corpus, split, *learning_folds(protocol))
    n_epoch, n_learnt = clips_learnt(recipe.training, n_fit)
    n_judging = _n_rows(corpus, split, judging_fold(protocol))
    return Work(
        corpus=corpus,
        kind=Kind(recipe, corpus.scenes, corpus.clip_duration_s, in_int8),
        n_learnt=n_learnt,
        n_judged=math.ceil(n_learnt / n_epoch) * n_judging,
        n_views=n_views,
    )


def clips_learnt(training: TrainingRecipe, n_fit: int) -> tuple[int, int]:
    """Clips of an epoch, and of all steps of a run that never stops early."""
    n_epoch = training.clips_per_epoch or n_fit
    n_learnt = training.max_epochs * n_epoch
    if training.max_steps is not None:
        n_learnt = min(n_learnt, training.max_steps * training.batch_size)
    return n_epoch, n_learnt


def clips_learnt_by(record: Mapping[str, Any], corpus: Corpus, split: int) -> int:
    """Clips of all steps of a run that was, by its record.

    Raises:
        KeyError: the record does not tell: it is of another version, or no run's.
    """
    training = record["recipe"]["training"]
    n_fit = _n_rows(corpus, split, *learning_folds(record["protocol"]))
    n_learnt = record["epochs"] * (training["clips_per_epoch"] or n_fit)
    max_steps = record.get("quantisation", training)["max_steps"]
    return min(n_learnt, (max_steps or math.inf) * training["batch_size"])


def pace_of(recipe: Mapping[str, Any], *, in_int8: bool) -> str:
    """Equal for recipes, as records hold them, that take equally long a clip of the same length."""
    parts = {name: value for name, value in recipe.items() if name not in _NO_MATTER}
    parts |= {"batch_size": recipe["training"]["batch_size"], "in_int8": in_int8}
    return json.dumps(parts, sort_keys=True)


@functools.lru_cache(maxsize=64)
def _n_rows(corpus: Corpus, split: int, *folds: Fold) -> int:
    # Asked for by every run of a plan, and milliseconds of work for the 230,350 clips of TAU.
    return len(corpus.rows(split, *folds))
