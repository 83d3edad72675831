"""Turn rows of a corpus into model inputs: gather, augment, log-mel, batched on one device.

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
from audio.decoding import FULL_SCALE
from audio.front_ends import FrontEnd
from audio.lengths import ClipLength
from audio.log_mel import LogMel
from audio.views import Augmentation, Changes
from audio.waveforms import Waveforms

EVALUATION_BATCH = 64
"""Clips in a batch when nothing is trained."""
RESIDENT_SHARE = 0.25
"""A corpus is kept in GPU memory if it takes at most this share of what this process may use; the
model and its batch need the rest. TAU at 32 kHz is 14.7 GB."""
UPLOAD_BYTES = 256 * 1024**2
"""Part of a corpus that is copied to the GPU at a time."""
CLIPS_AT_A_TIME = 32
"""Waveforms that a CPU augments at a time, so that they stay in its cache and their memory is reused.
Measured: 0.08 ms per clip, 0.21 ms for 256 clips at once."""


class Feed:
    """The model inputs of a corpus, for one front-end and one augmentation.

    Random numbers are drawn on the host, and every decision that depends on them is made there, so
    nothing here waits for a GPU.

    Args:
        corpus: The corpus.
        decoded: Its decoded clips, at the front-end's sample rate.
        front_end: How a waveform becomes a log-mel spectrogram.
        augmentation: The random changes of clips in views other than 0.
        responses_RL: Impulse responses of other recording devices, float32 [R, L].
        device: The device of everything after gathering.
        length: How long clips are when they reach the front-end.

    Raises:
        ValueError: The waveforms have another sample rate than the front-end expects.
        UnfitLength: The corpus's clips cannot be brought to that length.
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
        self._n_samples = length.count_samples(corpus.clip_duration_s, decoded.sample_rate)
        self._log_mel = LogMel(front_end).to(device)
        self._shape = front_end.compute_shape(self._n_samples)
        self._is_reference_N = corpus.column("recording_device") == corpus.reference_device
        self._n_responses = len(responses_RL)
        # For clips of 10 s the transformed responses take 80 MB: made only if they may be drawn.
        may_draw = augmentation.impulse_response_probability > 0 and self._is_reference_N.any()
        used_RL = torch.from_numpy(responses_RL if may_draw else responses_RL[:0])
        self._convolution = augment.Convolution(used_RL.to(device), self._clip_samples)
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
        """Open a feed over this machine's decoded clips.

        Args:
            corpus: The corpus; decoded now if this machine has not decoded it yet.
            front_end: How a waveform becomes a log-mel spectrogram.
            augmentation: The random changes of clips.
            responses: Folder of impulse responses; None for the synthetic set.
            device: The device that it runs on.
            length: How long clips are when they reach the front-end.
        """
        rate = front_end.sample_rate
        responses_RL = (
            impulse_responses.synthesise_responses(rate)
            if responses is None
            else impulse_responses.load_responses(responses, rate)
        )
        decoded = waveforms.load_waveforms(corpus, rate)
        return cls(corpus, decoded, front_end, augmentation, responses_RL, device, length)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """The shape of one clip's input, (1, C, F, T)."""
        return (1, *self._shape)

    def iterate_batches(self, rows: np.ndarray, view: int = 0) -> Iterator[Tensor]:
        """Yield one view of many clips in batches that any device can hold, float32 [B, C, F, T]."""
        for rows_B in np.array_split(rows, -(-len(rows) // EVALUATION_BATCH)):
            yield self.make_view(rows_B, view)

    def count_input_bytes(self, rows: np.ndarray) -> int:
        """Return the memory that the inputs of these clips take."""
        return len(rows) * math.prod(self._shape) * torch.float32.itemsize

    def to_device(self, values: np.ndarray) -> Tensor:
        """Copy an array to the feed's device, without waiting for the device."""
        return augment.to_device(torch.from_numpy(values), self.device)

    @torch.no_grad()
    def make_view(self, rows_B: np.ndarray, view: int) -> Tensor:
        """Return one view of these clips, float32 [B, C, F, T].

        The order is the published one: impulse response, roll, power mel, masks, logarithm. A
        window is cropped between impulse response and roll, so that the roll stays within it; a
        clip is repeated or padded after the roll, so that all repetitions are alike.
        """
        changes = self._draw_changes(rows_B, view)
        power_BFT = torch.cat(
            [
                self._log_mel.power_mel(self._change_waveforms(rows_B[part], changes.select(part)))
                for part in self._split(len(rows_B))
            ]
        )
        if changes.band_width_B.any():
            starts_B, widths_B = self._send(changes.band_start_B, changes.band_width_B)
            power_BFT = augment.mask_bands(power_BFT, starts_B, widths_B)
        if changes.frame_width_B.any():
            starts_B, widths_B = self._send(changes.frame_start_B, changes.frame_width_B)
            power_BFT = augment.mask_frames(power_BFT, starts_B, widths_B)
        return self._log_mel.compress(power_BFT)

    @torch.no_grad()
    def make_waveforms(self, rows_B: np.ndarray, view: int) -> Tensor:
        """Return what `make_view` hears, before the front-end: within -1...1, float32 [B, S]."""
        changes = self._draw_changes(rows_B, view)
        return torch.cat(
            [
                self._change_waveforms(rows_B[part], changes.select(part))
                for part in self._split(len(rows_B))
            ]
        )

    @torch.no_grad()
    def make_training_batch(
        self,
        rows_B: np.ndarray,
        view: int,
        randomness: np.random.Generator,
        share: slice = slice(None),
        gather: Callable[[Tensor], Tensor] = lambda own: own,
    ) -> Tensor:
        """Return a view for a training step: with Freq-MixStyle between the clips of the batch.

        Freq-MixStyle depends on the other clips in the batch, so it is no part of a view. Every
        worker draws for the whole batch, so that a batch that is split over workers gets the same
        inputs as on a single worker.

        Args:
            rows_B: The whole batch of all workers.
            view: The view of the clips.
            randomness: Generator of the mixing; it makes the same draws whatever the share is.
            share: The clips of the batch that this worker gets.
            gather: Turns a tensor of this worker's clips, [b, ...], into that of the whole batch in
                order, [B, ...]; called by all workers or by none.

        Returns:
            float32 [b, C, F, T].
        """
        inputs_bCFT = self.make_view(rows_B[share], view)
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

    def _draw_changes(self, rows_B: np.ndarray, view: int) -> Changes:
        _, n_bands, n_frames = self._shape
        return views.draw_changes(
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

    def _split(self, n_clips: int) -> list[slice]:
        """Split a batch into parts that are augmented together; a GPU takes it whole."""
        step = CLIPS_AT_A_TIME if self.device.type == "cpu" else max(1, n_clips)
        return [slice(start, start + step) for start in range(0, n_clips, step)]

    def _change_waveforms(self, rows_B: np.ndarray, changes: Changes) -> Tensor:
        """Return the clips with all changes of their waveforms, within -1...1, float32 [B, S]."""
        waveforms_BS = self._gather(rows_B).to(torch.float32).mul_(1 / FULL_SCALE)
        waveforms_BS = self._convolution(waveforms_BS, torch.from_numpy(changes.response_B))
        if self._n_samples < self._clip_samples:
            (starts_B,) = self._send(changes.crop_B)
            waveforms_BS = augment.crop(waveforms_BS, starts_B, self._n_samples)
        if changes.roll_B.any():
            (shifts_B,) = self._send(changes.roll_B)
            waveforms_BS = augment.roll(waveforms_BS, shifts_B)
        if self._n_samples > self._clip_samples:
            waveforms_BS = self._extend(waveforms_BS)
        return waveforms_BS

    def _extend(self, waveforms_BS: Tensor) -> Tensor:
        missing = self._n_samples - self._clip_samples
        if self._length.how == "pad":
            return torch.nn.functional.pad(waveforms_BS, (0, missing))
        times = -(-self._n_samples // self._clip_samples)
        return waveforms_BS.repeat(1, times)[:, : self._n_samples]

    def _gather(self, rows_B: np.ndarray) -> Tensor:
        """Return the decoded clips of these rows on the device, int16 [B, S]."""
        if self._resident_NS is not None:
            return self._resident_NS.index_select(0, self.to_device(rows_B))
        return self.to_device(self._samples_NS[rows_B])

    def _send(self, *values_B: np.ndarray) -> tuple[Tensor, ...]:
        """Copy integer draws to the device in one transfer."""
        return self.to_device(np.stack(values_B)).unbind(0)


def _upload(samples_NS: np.ndarray, device: torch.device) -> Tensor | None:
    """Copy all clips to the device's memory, int16 [N, S]; return None if they stay on the host."""
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
