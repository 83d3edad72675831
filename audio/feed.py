"""From rows of a corpus to what a model takes: gather, change, log-mel, all batched on one device.

Dimensions: B clips in a batch (b of one worker), N clips of the corpus, C channels, F mel bands,
T frames, R impulse responses, L samples of a response, S samples of a clip.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audio import augment, impulse_responses, views, waveforms
from audio.clips import Corpus
from audio.lengths import ClipLength
from audio.log_mel import FrontEnd, LogMel
from audio.views import Augmentation, Changes
from audio.waveforms import FULL_SCALE, Waveforms

EVALUATION_BATCH = 64
RESIDENT_SHARE = 0.25
"""A corpus lives in GPU memory if it takes at most this share of what this process may take of it:
the model and its batch need the rest. TAU at 32 kHz is 14.7 GB."""
UPLOAD_BYTES = 256 * 1024**2
"""Of a corpus go to the GPU at a time."""
CLIPS_AT_A_TIME = 32
"""Waveforms that a CPU changes at a time, so that they stay in its cache and their memory is used
again. Measured: 0.08 ms a clip, 0.21 ms for 256 clips at once."""


class Feed:
    """A corpus through one front-end, with one way of changing its clips.

    What is random is drawn on the host, and what follows from the draws is decided there: on a GPU
    nothing here waits for the device.

    Args:
        corpus: whose clips.
        decoded: the decoded clips, at the front-end's sample rate.
        front_end: how a waveform becomes a log-mel spectrogram.
        augmentation: what may happen to a clip in views other than 0.
        responses_RL: impulse responses of other recording devices, float32 [R, L].
        device: where everything after the gathering runs.
        length: how long clips are when they reach the front-end.

    Raises:
        ValueError: waveforms at another sample rate than the front-end takes.
        UnfitLength: the corpus's clips cannot be brought to that length.
    """

    def __init__(
        self,
        corpus: Corpus,
        decoded: Waveforms,
        front_end: FrontEnd,
        augmentation: Augmentation,
        responses_RL: np.ndarray,
        device: torch.device,
        length: ClipLength = ClipLength(),  # noqa: B008 - a frozen value
    ) -> None:
        if decoded.sample_rate != front_end.sample_rate:
            rates = f"{decoded.sample_rate} Hz, the front-end takes {front_end.sample_rate} Hz"
            raise ValueError(f"waveforms of corpus {corpus.name} are at {rates}")
        self.corpus = corpus
        self.device = device
        self.augmentation = augmentation
        self._length = length
        self._clip_samples = decoded.samples_NS.shape[1]
        self._n_samples = length.samples(corpus.clip_duration_s, decoded.sample_rate)
        self._log_mel = LogMel(front_end).to(device)
        self._shape = front_end.shape(self._n_samples)
        self._is_reference_N = corpus.column("recording_device") == corpus.reference_device
        self._n_responses = len(responses_RL)
        # Of clips of ten seconds the transformed responses are 80 MB: only for who may draw them.
        draws_some = augmentation.impulse_response_probability > 0 and self._is_reference_N.any()
        drawn_RL = torch.from_numpy(responses_RL if draws_some else responses_RL[:0])
        self._convolution = augment.Convolution(drawn_RL.to(device), self._clip_samples)
        self._samples_NS = decoded.samples_NS
        self._resident_NS = _upload(decoded.samples_NS, device)

    @classmethod
    def open(
        cls,
        corpus: Corpus,
        front_end: FrontEnd,
        augmentation: Augmentation,
        responses: Path | None,
        device: torch.device,
        length: ClipLength = ClipLength(),  # noqa: B008 - a frozen value
    ) -> "Feed":
        """A feed over this machine's decoded clips.

        Args:
            corpus: whose clips; decoded now if this machine has not yet.
            front_end: how a waveform becomes a log-mel spectrogram.
            augmentation: what may happen to a clip.
            responses: folder of impulse responses; None for the synthetic set.
            device: where it runs.
            length: how long clips are when they reach the front-end.
        """
        rate = front_end.sample_rate
        responses_RL = (
            impulse_responses.synthetic(rate)
            if responses is None
            else impulse_responses.load(responses, rate)
        )
        decoded = waveforms.load(corpus, rate)
        return cls(corpus, decoded, front_end, augmentation, responses_RL, device, length)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of one clip's input, (1, C, F, T)."""
        return (1, *self._shape)

    def batches(self, rows: np.ndarray, view: int = 0) -> Iterator[Tensor]:
        """One view of many clips, in batches that any device can hold: float32 [B, C, F, T]."""
        for rows_B in np.array_split(rows, -(-len(rows) // EVALUATION_BATCH)):
            yield self.view(rows_B, view)

    def input_bytes(self, rows: np.ndarray) -> int:
        """What the inputs of these clips take in memory."""
        return len(rows) * math.prod(self._shape) * torch.float32.itemsize

    def to_device(self, values: np.ndarray) -> Tensor:
        """An array as a tensor on the feed's device, without waiting for the device."""
        return augment.to_device(torch.from_numpy(values), self.device)

    @torch.no_grad()
    def view(self, rows_B: np.ndarray, view: int) -> Tensor:
        """One view of these clips, float32 [B, C, F, T].

        The order is the published one: impulse response, roll, power mel, masks, logarithm. A
        window is cut out between impulse response and roll, so that the roll stays within it; a
        clip is repeated or padded after the roll, so that all repetitions are alike.
        """
        _, n_bands, n_frames = self._shape
        changes = views.draw(
            self.augmentation,
            self.corpus.name,
            rows_B,
            view,
            reference_B=self._is_reference_N[rows_B],
            n_responses=self._n_responses,
            n_bands=n_bands,
            n_frames=n_frames,
            spare_samples=max(0, self._clip_samples - self._n_samples),
        )
        power_BFT = torch.cat(
            [
                self._log_mel.power_mel(self._changed(rows_B[part], changes.only(part)))
                for part in self._parts(len(rows_B))
            ]
        )
        if changes.band_width_B.any():
            starts_B, widths_B = self._draws(changes.band_start_B, changes.band_width_B)
            power_BFT = augment.mask_bands(power_BFT, starts_B, widths_B)
        if changes.frame_width_B.any():
            starts_B, widths_B = self._draws(changes.frame_start_B, changes.frame_width_B)
            power_BFT = augment.mask_frames(power_BFT, starts_B, widths_B)
        return self._log_mel.compress(power_BFT)

    @torch.no_grad()
    def training_batch(
        self,
        rows_B: np.ndarray,
        view: int,
        randomness: np.random.Generator,
        share: slice = slice(None),
        gather: Callable[[Tensor], Tensor] = lambda own: own,
    ) -> Tensor:
        """A view as a training step sees it: with Freq-MixStyle between the clips of the batch.

        Freq-MixStyle depends on who else is in the batch, so it is no part of a view. Its draws are
        those of the whole batch on every worker, so that a batch split over workers sees what one
        worker alone would see.

        Args:
            rows_B: the whole batch of all workers.
            view: which view of the clips.
            randomness: of the mixing; takes the same draws whatever the share is.
            share: which of the batch's clips this worker gets.
            gather: from one tensor of this worker's clips, [b, ...], to that of the whole batch in
                order, [B, ...]; called by all workers or by none.

        Returns:
            float32 [b, C, F, T].
        """
        inputs_bCFT = self.view(rows_B[share], view)
        if randomness.random() >= self.augmentation.mixstyle_probability:
            return inputs_bCFT
        alpha = self.augmentation.mixstyle_alpha
        permutation_B = randomness.permutation(len(rows_B))
        lambda_B = randomness.beta(alpha, alpha, size=len(rows_B)).astype(np.float32)
        return augment.freq_mixstyle(
            inputs_bCFT,
            self.to_device(permutation_B),
            self.to_device(lambda_B),
            share=share,
            gather=gather,
        )

    def _parts(self, n_clips: int) -> list[slice]:
        """A batch in parts that are changed together: a GPU takes it whole."""
        step = CLIPS_AT_A_TIME if self.device.type == "cpu" else max(1, n_clips)
        return [slice(start, start + step) for start in range(0, n_clips, step)]

    def _changed(self, rows_B: np.ndarray, changes: Changes) -> Tensor:
        """The clips with all that happens to their waveforms, between -1 and 1, float32 [B, S]."""
        waveforms_BS = self._gather(rows_B).to(torch.float32).mul_(1 / FULL_SCALE)
        waveforms_BS = self._convolution(waveforms_BS, torch.from_numpy(changes.response_B))
        if self._n_samples < self._clip_samples:
            (starts_B,) = self._draws(changes.crop_B)
            waveforms_BS = augment.crop(waveforms_BS, starts_B, self._n_samples)
        if changes.roll_B.any():
            (shifts_B,) = self._draws(changes.roll_B)
            waveforms_BS = augment.roll(waveforms_BS, shifts_B)
        if self._n_samples > self._clip_samples:
            waveforms_BS = self._extended(waveforms_BS)
        return waveforms_BS

    def _extended(self, waveforms_BS: Tensor) -> Tensor:
        missing = self._n_samples - self._clip_samples
        if self._length.how == "pad":
            return torch.nn.functional.pad(waveforms_BS, (0, missing))
        times = -(-self._n_samples // self._clip_samples)
        return waveforms_BS.repeat(1, times)[:, : self._n_samples]

    def _gather(self, rows_B: np.ndarray) -> Tensor:
        """The decoded clips of these rows on the device, int16 [B, S]."""
        if self._resident_NS is not None:
            return self._resident_NS.index_select(0, self.to_device(rows_B))
        return self.to_device(self._samples_NS[rows_B])

    def _draws(self, *values_B: np.ndarray) -> tuple[Tensor, ...]:
        """Integer draws on the device, in one transfer."""
        return self.to_device(np.stack(values_B)).unbind(0)


def _upload(samples_NS: np.ndarray, device: torch.device) -> Tensor | None:
    """All clips in the device's memory, int16 [N, S]; None if they stay on the host."""
    if device.type != "cuda":
        return None
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    allowed_bytes = torch.cuda.get_per_process_memory_fraction(device.index) * total_bytes
    if samples_NS.nbytes > RESIDENT_SHARE * min(free_bytes, allowed_bytes):
        return None
    resident_NS = torch.empty(samples_NS.shape, dtype=torch.int16, device=device)
    n_at_a_time = max(1, UPLOAD_BYTES // samples_NS[:1].nbytes)
    for start in range(0, len(samples_NS), n_at_a_time):
        part = np.array(samples_NS[start : start + n_at_a_time])
        resident_NS[start : start + len(part)] = torch.from_numpy(part)
    return resident_NS
