"""What a teacher's recipe asks of a machine, measured by a few steps on noise."""

import torch
from torch import nn

from teachers.catalogue import build
from teachers.finetune import make_teacher_run
from teachers.recipes import TeacherRecipe
from teachers.run import TeacherRun
from training.dry_step import NOISE_SPLIT, make_noise_feed, measure_footprint, measure_step
from training.needs import DryStep, Footprint


def measure_teacher_step(
    recipe: TeacherRecipe, scenes: tuple[str, ...], clip_duration_s: float, device: torch.device
) -> DryStep:
    """Take a few training steps of a recipe on noise; see `training.dry_step.measure_step`.

    Args:
        recipe: of the teacher.
        scenes: the classes.
        clip_duration_s: how long a clip of the corpus is.
        device: where to train.

    Raises:
        torch.OutOfMemoryError: one run alone is too large for the GPU.
    """
    feed = make_noise_feed(
        recipe.front_end,
        recipe.augmentation,
        recipe.length,
        recipe.training.batch_size,
        scenes,
        clip_duration_s,
        device,
    )
    model = _build_random(recipe, len(scenes)).to(device)
    return measure_step(make_teacher_run(TeacherRun(recipe=recipe, split=NOISE_SPLIT), model, feed))


def measure_teacher_footprint(
    recipe: TeacherRecipe, n_classes: int, clip_duration_s: float
) -> Footprint:
    """Return what a run of a recipe takes; see `training.dry_step.measure_footprint`."""
    n_samples = recipe.length.count_samples(clip_duration_s, recipe.front_end.sample_rate)
    shape_CFT = recipe.front_end.compute_shape(n_samples)
    model = _build_random(recipe, n_classes)
    return measure_footprint(model, shape_CFT, recipe.training.batch_size)


def _build_random(recipe: TeacherRecipe, n_classes: int) -> nn.Module:
    return build(recipe.model, n_classes=n_classes, weights="none", **recipe.arguments)
