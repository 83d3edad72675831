"""What a recipe asks of a machine, measured by a few steps on noise (B clips, S samples)."""

import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from audio import impulse_responses
from audio.clips import Corpus
from audio.feed import RESIDENT_SHARE, Feed
from audio.waveforms import Waveforms
from teachers.catalogue import build
from teachers.recipes import TeacherRecipe
from training import TrainingRecipe
from training.recipe import make_optimizer
from training.step import descend

TIMED_STEPS = 2
SMALL_BATCH = 8
"""Clips of a dry step on a CPU, where the time is in proportion to them."""
FEW_CLIPS = (2, 4)
"""Two batches whose difference is what a clip takes."""
MEMORY_MARGIN = 1.1
"""Of the measured peak: other batches meet other kernels, and the allocator leaves gaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DryStep:
    """What was measured."""

    train_clip_s: float
    """Seconds a clip, for everything that a training step does."""
    predict_clip_s: float
    """Seconds a clip, for its logits."""
    gpu_share: float | None
    """Share of the GPU's memory that a run needs, its margin included; None on a CPU."""


def dry_step(
    recipe: TeacherRecipe, n_classes: int, clip_duration_s: float, device: torch.device
) -> DryStep:
    """Take a few training steps of a recipe on noise.

    On a GPU nothing else may run on it, and the batch is the recipe's; on a CPU it is small.

    Args:
        recipe: which.
        n_classes: K.
        clip_duration_s: how long a clip of the corpus is.
        device: where to.

    Raises:
        torch.OutOfMemoryError: one run alone is too large for the GPU.
    """
    n_clips = recipe.training.batch_size
    if device.type == "cpu":
        n_clips = min(n_clips, SMALL_BATCH)
    feed = _noise(recipe, n_clips, clip_duration_s, device)
    model = build(recipe.model, n_classes=n_classes, weights="none", **recipe.arguments)
    step = _step(model.to(device), feed, recipe.training, n_clips, n_classes)
    model.train()
    train_s = _seconds(step, device)
    model.eval()
    with torch.no_grad():
        predict_s = _seconds(lambda: model(feed.view(np.arange(n_clips), 0)), device)
    share = _used_share(device) if device.type == "cuda" else None
    return DryStep(
        train_clip_s=train_s / n_clips, predict_clip_s=predict_s / n_clips, gpu_share=share
    )


def training_bytes(recipe: TeacherRecipe, n_classes: int, clip_duration_s: float) -> int:
    """Host memory that a run of a recipe on the CPU takes, its margin included.

    Weights, gradients and two moments, what the backward pass of a batch needs of the forward one,
    and a process with all libraries in it: measured on few clips, in proportion to them.
    """
    process_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = build(recipe.model, n_classes=n_classes, weights="none", **recipe.arguments).train()
    n_samples = recipe.length.samples(clip_duration_s, recipe.front_end.sample_rate)
    shape = recipe.front_end.shape(n_samples)
    few, more = (_saved_bytes(model, torch.zeros(n, *shape)) for n in FEW_CLIPS)
    a_clip = (more - few) / (FEW_CLIPS[1] - FEW_CLIPS[0])
    parameters = 4 * sum(p.numel() * p.element_size() for p in model.parameters())
    needed = parameters + a_clip * recipe.training.batch_size + process_bytes
    return math.ceil(MEMORY_MARGIN * needed)


def _saved_bytes(model: nn.Module, inputs_BCFT: torch.Tensor) -> int:
    """What one forward pass keeps for the backward pass, each piece of memory once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> None:
        # Nothing goes back to the graph: an operation that keeps its own result would hold itself
        # and the whole model for ever.
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
        outputs = model(inputs_BCFT)
    del outputs
    return sum(storage.nbytes() for storage in kept.values())


def _step(
    model: nn.Module, feed: Feed, training: TrainingRecipe, n_clips: int, n_classes: int
) -> Callable[[], None]:
    optimizer = make_optimizer(training, model, ())
    randomness = np.random.default_rng(0)
    labels_B = torch.arange(n_clips, device=feed.device) % n_classes

    def step() -> None:
        inputs_BCFT = feed.training_batch(np.arange(n_clips), 1, randomness)
        descend(
            lambda: functional.cross_entropy(model(inputs_BCFT)[0], labels_B),
            optimizer,
            feed.device,
        )

    return step


def _noise(
    recipe: TeacherRecipe, n_clips: int, clip_duration_s: float, device: torch.device
) -> Feed:
    """A feed of clips of noise, all of the reference device: the one whose clips change most."""
    rate = recipe.front_end.sample_rate
    noise = np.random.default_rng(0).normal(0, 1000, (n_clips, round(clip_duration_s * rate)))
    corpus = Corpus(
        name="noise",
        root=Path(),
        table=pa.table({"recording_device": ["a"] * n_clips}),
        clip_duration_s=clip_duration_s,
    )
    return Feed(
        corpus,
        Waveforms(noise.astype(np.int16), rate),
        recipe.front_end,
        recipe.augmentation,
        impulse_responses.synthetic(rate),
        device,
        recipe.length,
    )


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median time of one go; the first one, which warms up, does not count."""
    times_s = []
    for _ in range(1 + TIMED_STEPS):
        started = time.monotonic()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times_s.append(time.monotonic() - started)
    return float(np.median(times_s[1:]))


def _used_share(device: torch.device) -> float:
    """Share of a GPU that this process takes, its context included, in hundredths."""
    free, total = torch.cuda.mem_get_info(device)
    # The recordings may live beside what a run needs, see audio.feed.
    needed = MEMORY_MARGIN * (total - free) / (1 - RESIDENT_SHARE)
    return min(1.0, math.ceil(100 * needed / total) / 100)
