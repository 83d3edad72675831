"""A corpus of tones, decoded, and a model of two layers that learns it in seconds."""

from pathlib import Path

import numpy as np
import torch
from corpus_files import write_corpus
from torch import Tensor, nn

from audio import waveforms
from audio.clips import Corpus
from audio.corpora import tau
from audio.feed import Feed
from audio.front_ends import FrontEnd
from audio.views import Augmentation
from training import TrainingRecipe, WarmupCosine

RATE = 8_000
FRONT_END = FrontEnd(
    sample_rate=RATE, n_fft=512, window_samples=400, hop_samples=250, mel_bands=24, max_hz=4000
)
AUGMENTATION = Augmentation(
    max_roll_samples=800,
    impulse_response_probability=0.5,
    max_masked_bands=6,
    mixstyle_probability=0.5,
)
RECIPE = TrainingRecipe(
    max_epochs=6,
    batch_size=8,
    peak_learning_rate=1e-2,
    schedule=WarmupCosine(warmup_steps=5),
    keep="best",
)


class TinyModel(nn.Module):
    """Mean and spread over time -> linear, with dropout, so that the generator's state matters."""

    def __init__(self, n_classes: int, n_bands: int = FRONT_END.mel_bands) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * n_bands)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(2 * n_bands, n_classes)

    def forward(self, inputs_BCFT: Tensor) -> Tensor:
        """Return logits [B, K]."""
        pooled = torch.cat([inputs_BCFT.mean(3), inputs_BCFT.std(3)], dim=2).flatten(1)
        return self.linear(self.dropout(self.norm(pooled)))


def tiny_corpus(folder: Path) -> Corpus:
    """Return a corpus of 57 clips of tones, three scenes."""
    return tau.read(write_corpus(folder / "tau"))


def tiny_feed(corpus: Corpus, cache: Path, augmentation: Augmentation = AUGMENTATION) -> Feed:
    """Return a feed of the corpus with a small front-end and two impulse responses."""
    decoded = waveforms.decode_corpus(corpus, RATE, cache=cache)
    responses_RL = np.array([[0.5, 0.5, 0.0], [1.0, -0.9, 0.2]], dtype=np.float32)
    return Feed(corpus, decoded, FRONT_END, augmentation, responses_RL, torch.device("cpu"))
