"""How long a backbone takes for a clip, measured on noise."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from audio.views import stored_views
from logit_store import LogitStore
from teachers.backbones.backbone import Backbone
from teachers.backbones.embed import GPU_BATCH, Embedder, carry_rate
from teachers.backbones.opened import OpenBackbone, TeacherEmbedding
from teachers.backbones.sources import PublishedWeights
from teachers.catalogue import build
from training.dry_step import make_noise_feed

TIMED_BATCHES = 3
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
    feed = make_noise_feed(
        backbone.front_end or carry_rate(backbone.sample_rate),
        stored_views(backbone.sample_rate),
        backbone.choose_length(clip_duration_s),
        GPU_BATCH,
        ("noise",),
        clip_duration_s,
        device,
    )
    embedder = Embedder(backbone, _open(backbone, device, store), feed, None)
    rows = np.arange(len(feed.corpus))
    n_dims = embedder.embed(rows, VIEW).shape[1]
    started = time.monotonic()
    for _ in range(TIMED_BATCHES):
        embedder.embed(rows, VIEW)
    clip_s = (time.monotonic() - started) / (TIMED_BATCHES * len(rows))
    return EmbeddingStep(clip_s=clip_s, n_dims=n_dims)


def _open(backbone: Backbone, device: torch.device, store: LogitStore) -> OpenBackbone:
    match backbone.source:
        case PublishedWeights(model=model, n_classes=n_classes):
            teacher = build(model, n_classes=n_classes, weights="none")
            return OpenBackbone(TeacherEmbedding(teacher).to(device), "none")
        case _:
            return backbone.open(device, store)
