"""What a run asks of a machine, measured by a few steps on noise.

Dimensions: N clips, B clips in a batch, S samples, C channels, F mel bands, T frames.
"""

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

from audio import impulse_responses
from audio.clips import Corpus, plain_table
from audio.feed import RESIDENT_SHARE, Feed
from audio.lengths import ClipLength
from audio.log_mel import FrontEnd
from audio.views import Augmentation
from audio.waveforms import Waveforms

TIMED_STEPS = 2
SMALL_BATCH = 8
"""Clips of a dry step on a CPU, where the time is in proportion to them."""
FEW_CLIPS = (2, 4)
"""Two batches whose difference is what a clip takes."""
MEMORY_MARGIN = 1.1
"""Of the measured peak: other batches meet other kernels, and the allocator leaves gaps."""
SPLIT = 100
"""All clips of noise are in its fold fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DryStep:
    """What was measured."""

    train_clip_s: float
    """Seconds a clip, for everything that a training step does."""
    predict_clip_s: float
    """Seconds a clip, for its logits."""
    gpu_share: float | None
    """Share of the GPU's memory that a run needs, its margin included; None on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What a run takes in bytes."""

    weights_bytes: int
    """Of the parameters."""
    training_bytes: int
    """Of the host's memory, if it learns on the CPU; its margin included."""


def clips_of_step(batch_size: int, device: torch.device) -> int:
    """Clips of a dry step: a whole batch on a GPU, fewer on a CPU."""
    return min(batch_size, SMALL_BATCH) if device.type == "cpu" else batch_size


def timed(
    module: nn.Module,
    train: Callable[[], object],
    predict: Callable[[], object],
    n_clips: int,
    device: torch.device,
) -> DryStep:
    """Take a few steps. On a GPU nothing else may run on it.

    Args:
        module: all that learns.
        train: one training step of so many clips.
        predict: their logits.
        n_clips: how many.
        device: where.
    """
    module.train()
    train_s = _seconds(train, device)
    module.eval()
    with torch.no_grad():
        predict_s = _seconds(predict, device)
    share = _used_share(device) if device.type == "cuda" else None
    return DryStep(
        train_clip_s=train_s / n_clips, predict_clip_s=predict_s / n_clips, gpu_share=share
    )


def footprint(model: nn.Module, shape_CFT: tuple[int, ...], batch_size: int) -> Footprint:
    """What a model takes, learning on the CPU in batches of this size.

    Weights, gradients and two moments, what the backward pass of a batch needs of the forward one,
    and a process with all libraries in it: measured on few clips, in proportion to them.
    """
    process_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.train()
    few, more = (_saved_bytes(model, torch.zeros(n, *shape_CFT)) for n in FEW_CLIPS)
    a_clip = (more - few) / (FEW_CLIPS[1] - FEW_CLIPS[0])
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    needed = 4 * weights + a_clip * batch_size + process_bytes
    return Footprint(weights_bytes=weights, training_bytes=math.ceil(MEMORY_MARGIN * needed))


def noise(
    front_end: FrontEnd,
    augmentation: Augmentation,
    length: ClipLength,
    scenes: tuple[str, ...],
    n_clips: int,
    clip_duration_s: float,
    device: torch.device,
) -> Feed:
    """A feed of clips of noise, all of the reference device: the one whose clips change most.

    Every scene has a clip, so there are more clips than asked for if there are more scenes.
    """
    n_clips, rate = max(n_clips, len(scenes)), front_end.sample_rate
    noise_NS = np.random.default_rng(0).normal(0, 1000, (n_clips, round(clip_duration_s * rate)))
    ids = [str(row) for row in range(n_clips)]
    labels = [scenes[row % len(scenes)] for row in range(n_clips)]
    table = plain_table(ids, ids, labels, ids, {SPLIT: ["fit"] * n_clips})
    place = table.column_names.index("recording_device")
    table = table.set_column(place, "recording_device", pa.repeat("a", n_clips))
    corpus = Corpus(name="noise", root=Path(), table=table, clip_duration_s=clip_duration_s)
    return Feed(
        corpus,
        Waveforms(noise_NS.astype(np.int16), rate),
        front_end,
        augmentation,
        impulse_responses.synthetic(rate),
        device,
        length,
    )


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
