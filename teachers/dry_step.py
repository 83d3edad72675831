"""What a teacher's recipe asks of a machine, measured by a few steps on noise (B clips)."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from teachers.catalogue import build
from teachers.recipes import TeacherRecipe
from training.dry_step import DryStep, Footprint, clips_of_step, noise, timed
from training.dry_step import footprint as measure
from training.recipe import make_optimizer
from training.step import descend


def dry_step(
    recipe: TeacherRecipe, scenes: tuple[str, ...], clip_duration_s: float, device: torch.device
) -> DryStep:
    """Take a few training steps of a recipe on noise.

    On a GPU nothing else may run on it, and the batch is the recipe's; on a CPU it is small.

    Args:
        recipe: which.
        scenes: the classes, K of them.
        clip_duration_s: how long a clip of the corpus is.
        device: where to.

    Raises:
        torch.OutOfMemoryError: one run alone is too large for the GPU.
    """
    n_clips = clips_of_step(recipe.training.batch_size, device)
    feed = noise(
        recipe.front_end,
        recipe.augmentation,
        recipe.length,
        scenes,
        n_clips,
        clip_duration_s,
        device,
    )
    model = _model(recipe, len(scenes)).to(device)
    optimizer = make_optimizer(recipe.training, model, ())
    randomness = np.random.default_rng(0)
    rows_B = np.arange(n_clips)
    labels_B = torch.arange(n_clips, device=device) % len(scenes)

    def train() -> None:
        inputs_BCFT = feed.training_batch(rows_B, 1, randomness)
        descend(
            lambda: functional.cross_entropy(model(inputs_BCFT)[0], labels_B), optimizer, device
        )

    return timed(model, train, lambda: model(feed.view(rows_B, 0)), n_clips, device)


def footprint(recipe: TeacherRecipe, n_classes: int, clip_duration_s: float) -> Footprint:
    """What a run of a recipe takes; see `training.dry_step.footprint`."""
    n_samples = recipe.length.samples(clip_duration_s, recipe.front_end.sample_rate)
    shape_CFT = recipe.front_end.shape(n_samples)
    return measure(_model(recipe, n_classes), shape_CFT, recipe.training.batch_size)


def _model(recipe: TeacherRecipe, n_classes: int) -> nn.Module:
    return build(recipe.model, n_classes=n_classes, weights="none", **recipe.arguments)
