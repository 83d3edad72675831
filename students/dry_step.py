"""Measures what a student's recipe needs of a machine, by a few steps on noise.

Dimensions: V views, N clips, B clips in a batch, K classes.
"""

from dataclasses import replace

import numpy as np
import torch

from audio.clips import Corpus
from audio.feed import Feed
from audio.lengths import ClipLength
from students.catalogue import build
from students.distill import make_run
from students.features import TeacherEmbeddings
from students.objective import DistillationObjective
from students.quantise import calibrate, quantise
from students.recipe import FeatureDistillation, StudentRecipe, drop_modulation
from students.soft import TeacherLogits
from training import Run
from training.dry_step import NOISE_SPLIT, make_noise_feed, measure_footprint, measure_step
from training.needs import DryStep, Footprint

NOISE_DIMS = 768
"""Dimensions of embeddings of noise: those of PaSST."""


def measure_student_step(
    recipe: StudentRecipe,
    scenes: tuple[str, ...],
    clip_duration_s: float,
    device: torch.device,
    *,
    in_int8: bool = False,
) -> DryStep:
    """Take a few training steps of a recipe on noise, with soft labels of noise if it distils.

    On a GPU the batch is the recipe's, and nothing else may run there; on a CPU the batch is small.

    Args:
        recipe: the recipe to measure.
        scenes: the K classes.
        clip_duration_s: duration of a clip of the corpus.
        device: where to train.
        in_int8: whether the student is fine-tuned in int8.

    Raises:
        torch.OutOfMemoryError: a single run is too large for the GPU.
    """
    feed = make_noise_feed(
        recipe.front_end,
        # Noise has no recording devices, whose colours cost next to nothing.
        drop_modulation(recipe.augmentation),
        ClipLength(),
        recipe.training.batch_size,
        scenes,
        clip_duration_s,
        device,
    )
    return measure_step(_make_run(recipe, feed, in_int8=in_int8))


def estimate_student_footprint(
    recipe: StudentRecipe, n_classes: int, clip_duration_s: float
) -> Footprint:
    """Estimate what a run of a recipe takes; see `training.dry_step.measure_footprint`."""
    shape_CFT = recipe.front_end.compute_shape(
        round(clip_duration_s * recipe.front_end.sample_rate)
    )
    student = build(recipe.model, n_classes=n_classes, input_shape=shape_CFT, **recipe.arguments)
    return measure_footprint(student, shape_CFT, recipe.training.batch_size)


def _make_run(recipe: StudentRecipe, feed: Feed, *, in_int8: bool) -> Run:
    soft = _make_noise_logits(recipe, feed.corpus)
    run, student = make_run(feed, recipe, NOISE_SPLIT, 0, soft)
    if not in_int8:
        return run
    student = quantise(student.eval(), feed.input_shape)
    calibrate(student, feed.iterate_batches(feed.corpus.rows(NOISE_SPLIT, "fit")))
    objective = DistillationObjective(recipe, student, feed, NOISE_SPLIT, soft).to(feed.device)
    return replace(run, module=objective, objective=objective.compute_loss, compute_logits=student)


def _make_noise_logits(recipe: StudentRecipe, corpus: Corpus) -> TeacherLogits | None:
    """Return random logits in the shape that the recipe needs."""
    if recipe.distillation is None:
        return None
    n_views = recipe.distillation.n_views
    shape = (len(corpus), len(corpus.scenes))
    shape = shape if n_views is None else (n_views, *shape)
    noise = np.random.default_rng(0)
    embeddings = None
    if isinstance(recipe.distillation, FeatureDistillation):
        values = noise.standard_normal((*shape[:-1], NOISE_DIMS), np.float32)
        embeddings = TeacherEmbeddings(("noise",), np.arange(len(corpus)), values)
    logits = noise.standard_normal(shape, np.float32)
    return TeacherLogits("noise", logits, embeddings=embeddings)
