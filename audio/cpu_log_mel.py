"""Log-mels on a CPU by compiled loops, for what trains and predicts (B clips, S samples, F mel bands, T frames)."""

import numpy as np
import torch
from torch import Tensor

from audio.front_ends import FrontEnd
from audio.log_mel import BANDS_PER_BLOCK, LogMel
from audio.mel_kernels import cut_frames, make_workspace, plan_bands, sum_bands

MOST_THREADS = 2
"""The loops run on one thread, and torch's operations on all: with more threads, those are estimated to be as
fast."""


class CpuLogMel(LogMel):
    """`LogMel` for waveforms on a CPU that need no gradient: the same numbers in two thirds of the time.

    Each clip is rolled on its way, and a batch is filled in parts, without copies.

    Raises:
        ValueError: The number of bands is no multiple of `BANDS_PER_BLOCK`: MKL adds the products of a
            narrower block in another order.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        if front_end.mel_bands % BANDS_PER_BLOCK:
            raise ValueError(
                f"mel_bands={front_end.mel_bands}, expected a multiple of {BANDS_PER_BLOCK}: use LogMel"
            )
        super().__init__(front_end)
        blocks = (
            (bins, self.get_buffer(f"bank_{index}").numpy())
            for index, bins in enumerate(self._bins)
        )
        self._bands = plan_bands(blocks)
        self._margin = (front_end.n_fft - front_end.window_samples) // 2
        inner = slice(self._margin, self._margin + front_end.window_samples)
        self._inner_window = self.window[inner].numpy().copy()

    def is_faster(self) -> bool:
        """Return whether `fill_power` is faster than `LogMel.power_mel`."""
        return torch.get_num_threads() <= MOST_THREADS

    def power_mel(self, waveforms_BS: Tensor) -> Tensor:
        """Return linear mel power (B, F, T), lowest band first.

        Raises:
            ValueError: The input is no batch of floating-point waveforms, or the clips are too short.
        """
        if not self.is_faster():
            return super().power_mel(waveforms_BS)
        shape = (len(waveforms_BS), self.front_end.mel_bands, self._count_frames(waveforms_BS))
        power_BFT = torch.empty(shape)
        self.fill_power(power_BFT, waveforms_BS, np.zeros(len(waveforms_BS), np.int64))
        return power_BFT

    def fill_power(self, power_BFT: Tensor, waveforms_BS: Tensor, shifts_B: np.ndarray) -> None:
        """Write the linear mel power of clips, each rolled by its shift, as `power_mel` returns it.

        Args:
            power_BFT: The result, contiguous.
            waveforms_BS: The clips.
            shifts_B: Samples by which each clip is shifted circularly; positive is later in time.

        Raises:
            ValueError: The input is no batch of floating-point waveforms, or the clips are too short.
        """
        front_end, n_frames = self.front_end, self._count_frames(waveforms_BS)
        waves_BS = waveforms_BS.to(torch.float32).contiguous().numpy()
        n_at_a_time = self._choose_chunk_clips(waveforms_BS, n_frames)
        frames_RN = self._make_frames(min(len(waves_BS), n_at_a_time) * n_frames)
        mirrored = np.empty(waves_BS.shape[1] + front_end.n_fft, np.float32)
        power = make_workspace(front_end.n_fft // 2 + 1)
        for first in range(0, len(waves_BS), n_at_a_time):
            chunk = slice(first, first + n_at_a_time)
            chunk_RN = frames_RN[: len(waves_BS[chunk]) * n_frames]
            cut_frames(
                waves_BS[chunk],
                shifts_B[chunk],
                np.float32(front_end.pre_emphasis or 0.0),
                self._inner_window,
                front_end.hop_samples,
                mirrored,
                chunk_RN.numpy(),
            )
            sum_bands(
                torch.fft.rfft(chunk_RN).numpy(),
                self._bands.pieces_P4,
                self._bands.weights,
                n_frames,
                front_end.mel_bands,
                power,
                power_BFT[chunk].view(-1).numpy(),
            )

    def _make_frames(self, n_frames: int) -> Tensor:
        """Return memory for frames that is 0 beside the window."""
        front_end = self.front_end
        frames_RN = torch.empty(n_frames, front_end.n_fft)
        frames_RN[:, : self._margin] = 0
        frames_RN[:, self._margin + front_end.window_samples :] = 0
        return frames_RN
