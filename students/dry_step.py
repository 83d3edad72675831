"""What a student's recipe asks of a machine, measured by a few steps on noise.

Dimensions: V views, N clips, B clips in a batch, K classes.
"""

import numpy as np
import torch

from audio.clips import Corpus
from audio.feed import Feed
from audio.lengths import ClipLength
from students.catalogue import build
from students.distill import run_over
from students.objective import Objective
from students.quantise import calibrate, quantised
from students.recipes import StudentRecipe
from students.soft import Soft
from students.student import Student
from training import Batch
from training.dry_step import (
    SPLIT,
    DryStep,
    Footprint,
    clips_of_step,
    noise,
    timed,
)
from training.dry_step import footprint as measure
from training.recipe import make_optimizer
from training.step import descend


def dry_step(
    recipe: StudentRecipe,
    scenes: tuple[str, ...],
    clip_duration_s: float,
    device: torch.device,
    *,
    in_int8: bool = False,
) -> DryStep:
    """Take a few training steps of a recipe on noise, with soft labels of noise if it distils.

    On a GPU nothing else may run on it, and the batch is the recipe's; on a CPU it is small.

    Args:
        recipe: which.
        scenes: the classes, K of them.
        clip_duration_s: how long a clip of the corpus is.
        device: where to.
        in_int8: as a student that learns on in int8.

    Raises:
        torch.OutOfMemoryError: one run alone is too large for the GPU.
    """
    n_clips = clips_of_step(recipe.training.batch_size, device)
    feed = noise(
        recipe.front_end,
        recipe.augmentation,
        ClipLength(),
        scenes,
        n_clips,
        clip_duration_s,
        device,
    )
    objective, student = _objective(recipe, feed, in_int8=in_int8)
    optimizer = make_optimizer(recipe.training, objective, ())
    randomness = np.random.default_rng(0)
    rows_B = np.arange(n_clips)
    labels_B = torch.from_numpy(feed.corpus.labels()[:n_clips]).to(device)

    def train() -> None:
        inputs_BCFT = feed.training_batch(rows_B, 1, randomness)
        batch = Batch(inputs_BCFT, labels_B, rows_B, progress=0.0)
        descend(lambda: objective.loss(batch), optimizer, device)

    return timed(objective, train, lambda: student(feed.view(rows_B, 0)), n_clips, device)


def footprint(recipe: StudentRecipe, n_classes: int, clip_duration_s: float) -> Footprint:
    """What a run of a recipe takes; see `training.dry_step.footprint`."""
    shape_CFT = recipe.front_end.shape(round(clip_duration_s * recipe.front_end.sample_rate))
    student = build(recipe.model, n_classes=n_classes, input_shape=shape_CFT, **recipe.arguments)
    return measure(student, shape_CFT, recipe.training.batch_size)


def _objective(recipe: StudentRecipe, feed: Feed, *, in_int8: bool) -> tuple[Objective, Student]:
    soft = _soft(recipe, feed.corpus)
    run, student = run_over(feed, recipe, SPLIT, 0, soft)
    if not in_int8:
        return run.module, student  # pyrefly: ignore[bad-return] - a run's module is an objective
    student = quantised(student.eval(), feed.input_shape)
    calibrate(student, feed.batches(feed.corpus.rows(SPLIT, "fit")))
    return Objective(recipe, student, feed, SPLIT, soft).to(feed.device), student


def _soft(recipe: StudentRecipe, corpus: Corpus) -> Soft | None:
    """Logits of nobody, in the shape that the recipe asks for."""
    if recipe.distillation is None:
        return None
    n_views = recipe.distillation.n_views
    shape = (len(corpus), len(corpus.scenes))
    shape = shape if n_views is None else (n_views, *shape)
    return Soft("noise", np.random.default_rng(0).standard_normal(shape, np.float32))
