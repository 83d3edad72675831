"""Turn rows of a corpus into model inputs: gather, augment, log-mel, batched on one device.

Dimensions: B clips in a batch (b of one worker), N clips of the corpus, C channels, F mel bands,
T frames, R impulse responses, L samples of a response, S samples of a clip.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audio import augment, impulse_responses, views, waveforms
from audio.clip_maps import ClipMaps
from audio.clips import Corpus
from audio.decoding import FULL_SCALE
from audio.front_ends import FrontEnd
from audio.lengths import ClipLength
from audio.log_mel import BANDS_PER_BLOCK, LogMel
from audio.modulation import measure_colours
from audio.views import Augmentation, Changes, SpectrumModulation
from audio.waveforms import Waveforms
from disk import choose_numba_cache

if TYPE_CHECKING:
    from audio.cpu_log_mel import CpuLogMel

EVALUATION_BATCH = 64
"""Clips in a batch when nothing is trained."""
CLIPS_AT_A_TIME = 32
"""Waveforms that a CPU augments at a time, so that they stay in its cache and their memory is reused.
Measured: 0.08 ms per clip, 0.21 ms for 256 clips at once."""


class Feed:
    """The model inputs of a corpus, for one front-end and one augmentation.

    The corpus may be one with pools: then each clip is read from the map of the corpus that it comes
    from, and changed as that corpus's own feed changes it.

    Random numbers are drawn on the host, and every decision that depends on them is made there, so
    nothing here waits for a GPU.

    Args:
        corpus: The corpus.
        decoded: Its decoded clips, at the front-end's sample rate; for a corpus with pools, those of
            the corpus and of each foreign corpus.
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
        decoded: Waveforms | Sequence[Waveforms],
        front_end: FrontEnd,
        augmentation: Augmentation,
        responses_RL: np.ndarray,
        device: torch.device,
        length: ClipLength = ClipLength(),  # noqa: B008 - a frozen value
    ) -> None:
        maps = [decoded] if isinstance(decoded, Waveforms) else list(decoded)
        for each in maps:
            if each.sample_rate != front_end.sample_rate:
                rates = f"{each.sample_rate} Hz, the front-end takes {front_end.sample_rate} Hz"
                raise ValueError(f"waveforms of corpus {corpus.name} are at {rates}")
        self.corpus = corpus
        self.device = device
        self.augmentation = augmentation
        self._length = length
        self._maps = ClipMaps(maps, [rows for _, rows in corpus.foreign], device)
        self._names = [corpus.name, *(each.name for each, _ in corpus.foreign)]
        self._clip_samples = self._maps.clip_samples
        self._n_samples = length.count_samples(corpus.clip_duration_s, front_end.sample_rate)
        self._fast_log_mel = _make_fast_log_mel(front_end, device)
        self._log_mel = self._fast_log_mel or LogMel(front_end).to(device)
        self._shape = front_end.compute_shape(self._n_samples)
        self._is_reference_N = _find_reference_clips(corpus)
        self._n_responses = len(responses_RL)
        self._colours_MF: Tensor | None = None
        # For clips of 10 s the transformed responses take 80 MB: made only if they may be drawn.
        may_draw = augmentation.impulse_response_probability > 0 and self._is_reference_N.any()
        used_RL = torch.from_numpy(responses_RL if may_draw else responses_RL[:0])
        self._convolution = augment.Convolution(used_RL.to(device), self._clip_samples)

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
            corpus: The corpus, maybe with pools; decoded now if this machine has not decoded it yet.
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
        corpora = [corpus.own, *(each for each, _ in corpus.foreign)]
        decoded = [waveforms.load_waveforms(each, rate) for each in corpora]
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
        return self._log_mel.compress(self._make_power(rows_B, view))

    def _make_power(self, rows_B: np.ndarray, view: int) -> Tensor:
        """Return the mel power of one view of these clips, masked, [B, F, T]."""
        changes = self._draw_changes(rows_B, view)
        power_BFT = self._hear(rows_B, changes)
        if changes.band_width_B.any():
            starts_B, widths_B = self._send(changes.band_start_B, changes.band_width_B)
            power_BFT = augment.mask_bands(power_BFT, starts_B, widths_B)
        if changes.frame_width_B.any():
            starts_B, widths_B = self._send(changes.frame_start_B, changes.frame_width_B)
            power_BFT = augment.mask_frames(power_BFT, starts_B, widths_B)
        return power_BFT

    def _hear(self, rows_B: np.ndarray, changes: Changes) -> Tensor:
        """Return the mel power of clips after all changes of their waveforms, [B, F, T]."""
        parts, fast = self._split(len(rows_B)), self._fast_log_mel
        if fast is None or not fast.is_faster():
            waves = (self._change_waveforms(rows_B[part], changes.select(part)) for part in parts)
            return torch.cat([self._log_mel.power_mel(waves_bS) for waves_bS in waves])
        power_BFT = torch.empty(len(rows_B), *self._shape[1:])
        for part in parts:
            waves_bS, shifts_b = self._change_but_roll(rows_B[part], changes.select(part))
            fast.fill_power(power_BFT[part], waves_bS, shifts_b)
        return power_BFT

    @torch.no_grad()
    def learn_colours(self, split: int) -> None:
        """Measure the colours of other recording devices in `fit`, if the augmentation gives them to clips.

        Raises:
            CorpusError: no clip of `fit` was recorded by the reference device and another one at once.
        """
        if isinstance(self.augmentation, SpectrumModulation):
            self._colours_MF = measure_colours(
                self.corpus.own, split, lambda rows: self._make_power(rows, 0)
            )

    def _colour(
        self, power_bFT: Tensor, rows_b: np.ndarray, randomness: np.random.Generator
    ) -> Tensor:
        """Give the reference device's clips the colour of another device, in some batches."""
        if self._colours_MF is None or not isinstance(self.augmentation, SpectrumModulation):
            return power_bFT
        is_coloured = randomness.random() < self.augmentation.modulation_probability
        which = int(randomness.integers(len(self._colours_MF)))
        if not is_coloured:
            return power_bFT
        reference_b = self.to_device(self._is_reference_N[rows_b])
        factor_F = 10 ** self._colours_MF[which]
        factor_bF1 = torch.where(reference_b[:, None], factor_F, 1.0).unsqueeze(2)
        return power_bFT * factor_bF1

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

        Before it come the colours of other devices, if `learn_colours` has measured some. Freq-MixStyle depends on the other clips in the batch, so it is no part of a view. Every
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
        power_bFT = self._make_power(rows_B[share], view)
        inputs_bCFT = self._log_mel.compress(self._colour(power_bFT, rows_B[share], randomness))
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
        reference_B = self._is_reference_N[rows_B]
        if len(self._names) == 1:
            return self._draw_changes_of(self.corpus.name, rows_B, view, reference_B)
        parts = [
            (places, self._draw_changes_of(self._names[number], rows, view, reference_B[places]))
            for number, places, rows in self._maps.split(rows_B)
        ]
        return views.join_changes(parts)

    def _draw_changes_of(
        self, corpus: str, rows_B: np.ndarray, view: int, reference_B: np.ndarray
    ) -> Changes:
        _, n_bands, n_frames = self._shape
        return views.draw_changes(
            self.augmentation,
            corpus,
            rows_B,
            view,
            reference_B=reference_B,
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
        return self._roll(*self._change_but_roll(rows_B, changes))

    def _change_but_roll(self, rows_B: np.ndarray, changes: Changes) -> tuple[Tensor, np.ndarray]:
        """Return the clips with all changes but the last one, a roll, and its shifts, [B]."""
        waveforms_BS = self._maps.gather(rows_B).to(torch.float32).mul_(1 / FULL_SCALE)
        if (changes.response_B >= 0).any():
            waveforms_BS = self._convolution(waveforms_BS, torch.from_numpy(changes.response_B))
        if self._n_samples > self._clip_samples:
            rolled_BS = self._roll(waveforms_BS, changes.roll_B)
            return self._extend(rolled_BS), np.zeros_like(changes.roll_B)
        if self._n_samples < self._clip_samples:
            (starts_B,) = self._send(changes.crop_B)
            waveforms_BS = augment.crop(waveforms_BS, starts_B, self._n_samples)
        return waveforms_BS, changes.roll_B

    def _roll(self, waveforms_BS: Tensor, roll_B: np.ndarray) -> Tensor:
        if not roll_B.any():
            return waveforms_BS
        (shifts_B,) = self._send(roll_B)
        return augment.roll(waveforms_BS, shifts_B)

    def _extend(self, waveforms_BS: Tensor) -> Tensor:
        missing = self._n_samples - self._clip_samples
        if self._length.how == "pad":
            return torch.nn.functional.pad(waveforms_BS, (0, missing))
        times = -(-self._n_samples // self._clip_samples)
        return waveforms_BS.repeat(1, times)[:, : self._n_samples]

    def _send(self, *values_B: np.ndarray) -> tuple[Tensor, ...]:
        """Copy integer draws to the device in one transfer."""
        return self.to_device(np.stack(values_B)).unbind(0)


def _make_fast_log_mel(front_end: FrontEnd, device: torch.device) -> "CpuLogMel | None":
    if device.type != "cpu" or front_end.mel_bands % BANDS_PER_BLOCK:
        return None
    # Its loops are compiled by numba, which takes half a second to import and 0.1 GB.
    choose_numba_cache()
    from audio.cpu_log_mel import CpuLogMel

    return CpuLogMel(front_end)


def _find_reference_clips(corpus: Corpus) -> np.ndarray:
    """Return which clips were recorded by the reference device of the corpus they come from, bool [N]."""
    own = corpus.own
    parts = [own.column("recording_device") == own.reference_device]
    parts += [
        other.column("recording_device")[rows] == other.reference_device
        for other, rows in corpus.foreign
    ]
    return np.concatenate(parts)
