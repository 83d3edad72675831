"""From rows of a corpus to what a model takes: gather, change, log-mel, all batched on one device.

Dimensions: B clips in a batch, C channels, F mel bands, T frames, R impulse responses, L samples
of a response, S samples of a clip.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audio import augment, impulse_responses, views, waveforms
from audio.clips import Corpus
from audio.log_mel import FrontEnd, LogMel
from audio.views import Augmentation
from audio.waveforms import Waveforms

EVALUATION_BATCH = 64


class Feed:
    """A corpus through one front-end, with one way of changing its clips.

    Args:
        corpus: whose clips.
        decoded: the decoded clips, at the front-end's sample rate.
        front_end: how a waveform becomes a log-mel spectrogram.
        augmentation: what may happen to a clip in views other than 0.
        responses_RL: impulse responses of other recording devices, float32 [R, L].
        device: where everything after the gathering runs.
    """

    def __init__(
        self,
        corpus: Corpus,
        decoded: Waveforms,
        front_end: FrontEnd,
        augmentation: Augmentation,
        responses_RL: np.ndarray,
        device: torch.device,
    ) -> None:
        if decoded.sample_rate != front_end.sample_rate:
            rates = f"{decoded.sample_rate} Hz, the front-end takes {front_end.sample_rate} Hz"
            raise ValueError(f"waveforms of corpus {corpus.name} are at {rates}")
        self.corpus = corpus
        self.device = device
        self.augmentation = augmentation
        self._waveforms = decoded
        self._log_mel = LogMel(front_end).to(device)
        self._shape = front_end.shape(decoded.samples_NS.shape[1])
        self._responses_RL = torch.from_numpy(responses_RL).to(device)
        self._is_reference_N = corpus.column("recording_device") == corpus.reference_device

    @classmethod
    def open(
        cls,
        corpus: Corpus,
        front_end: FrontEnd,
        augmentation: Augmentation,
        responses: Path | None,
        device: torch.device,
    ) -> "Feed":
        """A feed over this machine's decoded clips.

        Args:
            corpus: whose clips; decoded now if this machine has not yet.
            front_end: how a waveform becomes a log-mel spectrogram.
            augmentation: what may happen to a clip.
            responses: folder of impulse responses; None for the synthetic set.
            device: where it runs.
        """
        rate = front_end.sample_rate
        responses_RL = (
            impulse_responses.synthetic(rate)
            if responses is None
            else impulse_responses.load(responses, rate)
        )
        decoded = waveforms.load(corpus, rate)
        return cls(corpus, decoded, front_end, augmentation, responses_RL, device)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of one clip's input, (1, C, F, T)."""
        return (1, *self._shape)

    def clean(self, rows_B: np.ndarray) -> Tensor:
        """View 0, the untouched clips: float32 [B, C, F, T]."""
        return self.view(rows_B, 0)

    def batches(self, rows: np.ndarray, view: int = 0) -> Iterator[Tensor]:
        """One view of many clips, in batches that any device can hold: float32 [B, C, F, T]."""
        for rows_B in np.array_split(rows, -(-len(rows) // EVALUATION_BATCH)):
            yield self.view(rows_B, view)

    def input_bytes(self, rows: np.ndarray) -> int:
        """What the inputs of these clips take in memory."""
        return len(rows) * math.prod(self._shape) * torch.float32.itemsize

    @torch.no_grad()
    def view(self, rows_B: np.ndarray, view: int) -> Tensor:
        """One view of these clips, float32 [B, C, F, T].

        The order is the published one: impulse response, roll, power mel, masks, logarithm.
        """
        _, n_bands, n_frames = self._shape
        changes = views.draw(
            self.augmentation,
            self.corpus.name,
            rows_B,
            view,
            reference_B=self._is_reference_N[rows_B],
            n_responses=len(self._responses_RL),
            n_bands=n_bands,
            n_frames=n_frames,
        )

        def tensor(values_B: np.ndarray) -> Tensor:
            return torch.from_numpy(values_B).to(self.device)

        waveforms_BS = self._waveforms.batch(rows_B, self.device)
        if (changes.response_B >= 0).any():
            waveforms_BS = augment.convolve(
                waveforms_BS, self._responses_RL, tensor(changes.response_B)
            )
        if changes.roll_B.any():
            waveforms_BS = augment.roll(waveforms_BS, tensor(changes.roll_B))
        power_BFT = self._log_mel.power_mel(waveforms_BS)
        if changes.band_width_B.any():
            power_BFT = augment.mask_bands(
                power_BFT, tensor(changes.band_start_B), tensor(changes.band_width_B)
            )
        if changes.frame_width_B.any():
            power_BFT = augment.mask_frames(
                power_BFT, tensor(changes.frame_start_B), tensor(changes.frame_width_B)
            )
        return self._log_mel.compress(power_BFT)

    def training_batch(
        self, rows_B: np.ndarray, view: int, randomness: np.random.Generator
    ) -> Tensor:
        """A view as a training step sees it: with Freq-MixStyle between the clips of the batch.

        Freq-MixStyle depends on who else is in the batch, so it is no part of a view.
        """
        inputs_BCFT = self.view(rows_B, view)
        if randomness.random() >= self.augmentation.mixstyle_probability:
            return inputs_BCFT
        alpha = self.augmentation.mixstyle_alpha
        permutation_B = randomness.permutation(len(rows_B))
        lambda_B = randomness.beta(alpha, alpha, size=len(rows_B)).astype(np.float32)
        return augment.freq_mixstyle(
            inputs_BCFT,
            torch.from_numpy(permutation_B).to(self.device),
            torch.from_numpy(lambda_B).to(self.device),
        )
