"""What a run asks of a machine, measured by a few steps on noise.

Dimensions: N clips, B clips in a batch, S samples, C channels, F mel bands, T frames.
"""

import math
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from audio import impulse_responses
from audio.clip_maps import RESIDENT_SHARE
from audio.clips import Corpus, build_clips_table
from audio.feed import Feed
from audio.front_ends import FrontEnd
from audio.lengths import ClipLength
from audio.views import Augmentation
from audio.waveforms import Waveforms
from training.freed_memory import keep_freed_memory
from training.loop import descend
from training.needs import DryStep, Footprint
from training.optimizer import make_optimizer
from training.run import Batch, Run

TIMED_STEPS = 2
SMALL_BATCH = 8
"""Clips of a dry step on a CPU, where the time is in proportion to them."""
FEW_CLIPS = (2, 4)
"""Two batches whose difference is what a clip takes."""
MEMORY_MARGIN = 1.1
"""Added to the measured peak: other batches use other kernels, and the allocator leaves gaps."""
KEPT_SHARE = 1.6
"""Memory of the forward pass with the gaps between what a run keeps of it, see `keep_freed_memory`. Measured
in steps of Isotropic with 256 clips: 4.7 GB in all, 3.3 GB where nothing is kept."""
COMPILER_BYTES = 128 * 1024**2
"""What a process takes for numba, which the first clips load on a CPU. Measured: 112 MB, or 131 MB where
the loops of the front-end are compiled as well."""
NOISE_SPLIT = 100
"""The split of noise in whose fold fit all clips are."""


@keep_freed_memory()
def measure_step(run: Run) -> DryStep:
    """Take a few training steps, and predict a few times.

    On a GPU nothing else may run on it, and the batch is the recipe's; on a CPU it is small.

    Args:
        run: with a feed of `make_noise_feed`.

    Raises:
        torch.OutOfMemoryError: the run alone is too large for the GPU.
    """
    feed, device = run.feed, run.feed.device
    n_clips = _count_clips(run.recipe.batch_size, device)
    optimizer = make_optimizer(run.recipe, run.module, run.head)
    randomness = np.random.default_rng(0)
    rows_B = np.arange(n_clips)
    labels_B = torch.from_numpy(feed.corpus.truth()[:n_clips]).to(device)

    def train() -> None:
        inputs_BCFT = feed.make_training_batch(rows_B, 1, randomness)
        batch = Batch(inputs_BCFT, labels_B, rows_B, progress=0.0)
        descend(lambda: run.objective(batch), optimizer, device)

    run.module.train()
    train_s = _measure_seconds(train, device)
    run.module.eval()
    with torch.no_grad():
        predict_s = _measure_seconds(lambda: run.compute_logits(feed.make_view(rows_B, 0)), device)
    share = _measure_used_share(device) if device.type == "cuda" else None
    return DryStep(
        train_clip_s=train_s / n_clips, predict_clip_s=predict_s / n_clips, gpu_share=share
    )


def measure_footprint(model: nn.Module, shape_CFT: tuple[int, ...], batch_size: int) -> Footprint:
    """Return the memory that a model takes when it trains on the CPU in batches of this size.

    Weights, gradients and two moments, what the backward pass of a batch needs of the forward one,
    and a process with all libraries in it: measured on few clips, in proportion to them.
    """
    process_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + COMPILER_BYTES
    model.train()
    few, more = (_count_saved_bytes(model, torch.zeros(n, *shape_CFT)) for n in FEW_CLIPS)
    clip_bytes = (more - few) / (FEW_CLIPS[1] - FEW_CLIPS[0])
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    needed = 4 * weights + KEPT_SHARE * clip_bytes * batch_size + process_bytes
    return Footprint(weights_bytes=weights, training_bytes=math.ceil(MEMORY_MARGIN * needed))


def make_noise_feed(
    front_end: FrontEnd,
    augmentation: Augmentation,
    length: ClipLength,
    batch_size: int,
    scenes: tuple[str, ...],
    clip_duration_s: float,
    device: torch.device,
) -> Feed:
    """Return a feed of noise, all from the reference device: its clips are changed the most.

    Every scene has a clip, so there are more clips than a step takes if there are more scenes.

    Args:
        front_end: of the recipe.
        augmentation: of the recipe.
        length: of the recipe.
        batch_size: of the recipe; a step on a CPU takes fewer clips.
        scenes: the classes.
        clip_duration_s: how long a clip of the corpus is.
        device: where the steps run.
    """
    n_clips, rate = max(_count_clips(batch_size, device), len(scenes)), front_end.sample_rate
    noise_NS = np.random.default_rng(0).normal(0, 1000, (n_clips, round(clip_duration_s * rate)))
    ids = [str(row) for row in range(n_clips)]
    labels = [scenes[row % len(scenes)] for row in range(n_clips)]
    table = build_clips_table(ids, ids, labels, ids, {NOISE_SPLIT: ["fit"] * n_clips})
    place = table.column_names.index("recording_device")
    table = table.set_column(place, "recording_device", pa.repeat("a", n_clips))
    corpus = Corpus(name="noise", root=Path(), table=table, clip_duration_s=clip_duration_s)
    return Feed(
        corpus,
        Waveforms(noise_NS.astype(np.int16), rate),
        front_end,
        augmentation,
        impulse_responses.synthesise_responses(rate),
        device,
        length,
    )


def _count_clips(batch_size: int, device: torch.device) -> int:
    return min(batch_size, SMALL_BATCH) if device.type == "cpu" else batch_size


def _count_saved_bytes(model: nn.Module, inputs_BCFT: torch.Tensor) -> int:
    """Count what one forward pass keeps for the backward pass, each piece of memory once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> None:
        # The graph gets nothing back: an operation that keeps its own result would hold itself and
        # the whole model for ever.
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
        outputs = model(inputs_BCFT)
    del outputs
    return sum(storage.nbytes() for storage in kept.values())


def _measure_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the median time of the work, without the first time, which warms up."""
    times_s = []
    for _ in range(1 + TIMED_STEPS):
        started = time.monotonic()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times_s.append(time.monotonic() - started)
    return float(np.median(times_s[1:]))


def _measure_used_share(device: torch.device) -> float:
    """Return the share of a GPU that this process takes with its context, in hundredths."""
    free, total = torch.cuda.mem_get_info(device)
    # The recordings may lie in GPU memory beside what a run needs, see audio.feed.
    needed = MEMORY_MARGIN * (total - free) / (1 - RESIDENT_SHARE)
    return min(1.0, math.ceil(100 * needed / total) / 100)
