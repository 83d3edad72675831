"""How long a backbone takes for a clip, measured on noise (B clips in a batch, D embedding)."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from audio.views import stored_views
from logit_store import LogitStore
from teachers.backbones.backbone import Backbone
from teachers.backbones.embed import carry_rate
from teachers.backbones.sources import PublishedWeights
from teachers.catalogue import build
from training.dry_step import make_noise_feed

TIMED_BATCHES = 3
BATCH_CLIPS = 8
"""Clips of a batch; the time is in proportion to them."""
VIEW = 1
"""A changed view: it takes longer than the untouched one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingStep:
    """What a few batches of noise have shown."""

    clip_s: float
    """Seconds a clip, front-end included."""
    n_dims: int


def measure_embedding_step(
    backbone: Backbone, clip_duration_s: float, device: torch.device, store: LogitStore
) -> EmbeddingStep:
    """Embed a few batches of noise; published weights, which may be elsewhere, are random ones.

    Args:
        backbone: the network.
        clip_duration_s: how long a clip of the corpus is.
        device: where to compute.
        store: holds a stored teacher's weights.
    """
    network = _open_network(backbone, device, store)
    feed = make_noise_feed(
        backbone.front_end or carry_rate(backbone.sample_rate),
        stored_views(backbone.sample_rate),
        backbone.choose_length(clip_duration_s),
        BATCH_CLIPS,
        ("noise",),
        clip_duration_s,
        device,
    )
    rows_B = np.arange(BATCH_CLIPS)
    make = feed.make_waveforms if backbone.front_end is None else feed.make_view

    def embed() -> Tensor:
        with torch.inference_mode():
            embedding_BD = network(make(rows_B, VIEW))
        # The copy waits for a GPU.
        return embedding_BD.cpu()

    n_dims = embed().shape[1]
    started = time.monotonic()
    for _ in range(TIMED_BATCHES):
        embed()
    clip_s = (time.monotonic() - started) / (TIMED_BATCHES * BATCH_CLIPS)
    return EmbeddingStep(clip_s=clip_s, n_dims=n_dims)


def _open_network(backbone: Backbone, device: torch.device, store: LogitStore) -> nn.Module:
    match backbone.source:
        case PublishedWeights(model=model, n_classes=n_classes):
            teacher = build(model, n_classes=n_classes, weights="none")
            return _SecondOutput(teacher).eval().to(device)
        case _:
            return backbone.open(device, store).network


class _SecondOutput(nn.Module):
    """The embedding, of a teacher that gives logits and an embedding."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, inputs_BCFT: Tensor) -> Tensor:
        return self.teacher(inputs_BCFT)[1]
