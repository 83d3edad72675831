"""Embeddings of a corpus's clips by a frozen network.

B clips in a batch, n clips that are asked for, S samples of a clip, D embedding.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from audio.clips import Corpus
from audio.feed import Feed
from audio.front_ends import FrontEnd
from audio.micirp import describe_responses
from audio.views import stored_views
from logit_store import LogitStore
from teachers.backbones.backbone import Backbone
from teachers.backbones.opened import OpenBackbone
from training.provenance import describe_provenance

CPU_BATCH = 8
"""Clips that a CPU embeds at a time, so that more of what the network computes stays in its cache.
Measured: 5 ms a clip for mn10_as, 8 ms for 64 clips at once."""
GPU_BATCH = 64


@dataclass(frozen=True, eq=False, slots=True)
class Embedder:
    """An open backbone and a feed of a corpus's clips; one per worker, for many calls."""

    backbone: Backbone
    opened: OpenBackbone
    feed: Feed
    responses: Path | None

    @classmethod
    def open(
        cls,
        backbone: Backbone,
        corpus: Corpus,
        device: torch.device,
        *,
        responses: Path | None = None,
        store: LogitStore | None = None,
    ) -> Self:
        """Load the network, and open the corpus's decoded clips.

        Views have the changes of `audio.views.stored_views`, as teachers' logits have them.

        Args:
            backbone: the network.
            corpus: decoded now if this machine has not decoded it yet.
            device: where to compute.
            responses: folder of impulse responses; None for the synthetic set.
            store: holds a stored teacher's weights, and records what a downloaded file was.

        Raises:
            UnfitClips: the network does not take the corpus's clips.
            WeightsError, LogitStoreError: as `Backbone.open`.
        """
        backbone.check_clips(corpus)
        opened = backbone.open(device, store)
        return cls.of(backbone, opened, corpus, device, responses=responses)

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        opened: OpenBackbone,
        corpus: Corpus,
        device: torch.device,
        *,
        responses: Path | None = None,
    ) -> Self:
        """Return an embedder of a network that is open already, on the same device; see `open`."""
        feed = Feed.open(
            corpus,
            backbone.front_end or carry_rate(backbone.sample_rate),
            stored_views(backbone.sample_rate),
            responses,
            device,
            length=backbone.choose_length(corpus.clip_duration_s),
        )
        return cls(backbone, opened, feed, responses)

    def embed(self, rows_n: np.ndarray, view: int = 0) -> np.ndarray:
        """Return the embeddings of one view of these clips, float32 [n, D].

        Memory holds them and one batch.

        Raises:
            ValueError: there is no clip.
        """
        if len(rows_n) == 0:
            raise ValueError(f"backbone {self.backbone.name}: no clips to embed")
        step = CPU_BATCH if self.feed.device.type == "cpu" else GPU_BATCH
        batches = [rows_n[start : start + step] for start in range(0, len(rows_n), step)]
        parts = [self.opened(self._make_inputs(rows_B, view)) for rows_B in batches]
        return torch.cat(parts).cpu().numpy()

    def describe(self) -> dict[str, Any]:
        """Return the record of these embeddings: backbone, weights, front-end, provenance."""
        backbone, corpus = self.backbone, self.feed.corpus
        return {
            "kind": "backbone",
            "backbone": backbone.name,
            "weights": backbone.identity["weights"],
            "weights_sha256": self.opened.weights_sha256,
            "front_end": None if backbone.front_end is None else asdict(backbone.front_end),
            "sample_rate": backbone.sample_rate,
            "length": asdict(backbone.choose_length(corpus.clip_duration_s)),
            "pooling": backbone.pooling,
            "licence": backbone.licence,
            **describe_responses(self.responses),
            "view_augmentation": asdict(self.feed.augmentation),
            **describe_provenance(self.feed.device),
        }

    def _make_inputs(self, rows_B: np.ndarray, view: int) -> Tensor:
        if self.backbone.front_end is None:
            return self.feed.make_waveforms(rows_B, view)
        return self.feed.make_view(rows_B, view)


def carry_rate(sample_rate: int) -> FrontEnd:
    """Return a front-end for a feed whose waveforms are all that is asked for."""
    return FrontEnd(
        sample_rate=sample_rate,
        n_fft=512,
        window_samples=512,
        hop_samples=256,
        mel_bands=4,
        max_hz=sample_rate / 2,
    )
