"""Apply changes to a batch, with random draws that the caller supplies as tensors.

B clips (b of one worker), S samples, R responses of L samples, Q bins of a transform, C channels,
F mel bands, T frames.
"""

from collections.abc import Callable

import torch
from scipy.fft import next_fast_len
from torch import Tensor


def roll(waveforms_BS: Tensor, shifts_B: Tensor) -> Tensor:
    """Shift each clip circularly by its own number of samples; a positive shift is later in time."""
    _check_draws(waveforms_BS, shifts_B, "shifts")
    n_samples = waveforms_BS.shape[1]
    if waveforms_BS.device.type == "cpu":
        # New memory costs more than the copy: two copies of the clips would dominate the time. numpy
        # takes slices of a clip in a tenth of torch's time.
        rolled_BS = torch.empty_like(waveforms_BS)
        pairs = zip(waveforms_BS.numpy(), rolled_BS.numpy(), strict=True)
        for (clip_S, rolled_S), shift in zip(pairs, shifts_B.tolist(), strict=True):
            cut = -shift % n_samples
            rolled_S[: n_samples - cut] = clip_S[cut:]
            rolled_S[n_samples - cut :] = clip_S[:cut]
        return rolled_BS
    twice_BS = torch.cat([waveforms_BS, waveforms_BS], dim=1)
    return _take_windows(twice_BS, -shifts_B % n_samples, n_samples)


def crop(waveforms_BS: Tensor, starts_B: Tensor, n_samples: int) -> Tensor:
    """Return `n_samples` samples of each clip, beginning at its own start."""
    _check_draws(waveforms_BS, starts_B, "starts")
    _check_range(starts_B, 0, waveforms_BS.shape[1] - n_samples, "starts")
    return _take_windows(waveforms_BS.contiguous(), starts_B, n_samples)


class Convolution:
    """A convolution with impulse responses, which are transformed once for clips of one length.

    A clip becomes the first S samples of the full linear convolution; its level is not corrected
    (Morocutti et al. 2023, arXiv:2305.07499).

    Args:
        responses_RL: Impulse responses at the clips' sample rate, on the clips' device.
        n_samples: S.
    """

    def __init__(self, responses_RL: Tensor, n_samples: int) -> None:
        # A response has no effect beyond the length of a clip.
        responses_RL = responses_RL[:, :n_samples]
        self.n_samples = n_samples
        self._n_fft = next_fast_len(n_samples + responses_RL.shape[1] - 1, real=True)
        # MKL cannot transform an empty tensor, and there may be no responses.
        self._spectra_RQ = responses_RL.new_empty(0, dtype=torch.complex64)
        if len(responses_RL):
            self._spectra_RQ = torch.fft.rfft(responses_RL, n=self._n_fft)

    def __call__(self, waveforms_BS: Tensor, choice_B: Tensor) -> Tensor:
        """Convolve each clip with its chosen impulse response, in place; return the clips.

        Args:
            waveforms_BS: The clips; those with a response are overwritten.
            choice_B: The response of each clip, on the host; -1 leaves the clip bit for bit as it
                is.

        Raises:
            ValueError: A choice is neither -1 nor the index of a response.
        """
        _check_draws(waveforms_BS, choice_B, "choices")
        _check_range(choice_B, -1, len(self._spectra_RQ) - 1, "choices")
        convolved = torch.nonzero(choice_B >= 0).flatten()
        if len(convolved) == 0:
            return waveforms_BS
        at_and_which = torch.stack([convolved, choice_B[convolved]])
        at, which = to_device(at_and_which, waveforms_BS.device).unbind(0)
        product_BQ = torch.fft.rfft(waveforms_BS.index_select(0, at), n=self._n_fft)
        product_BQ *= self._spectra_RQ[which]
        output_BS = torch.fft.irfft(product_BQ, n=self._n_fft)[:, : self.n_samples]
        if waveforms_BS.device.type != "cpu":
            return waveforms_BS.index_copy_(0, at, output_BS)
        # The same in a third of the time.
        for clip, output_S in zip(at.tolist(), output_BS, strict=True):
            waveforms_BS[clip] = output_S
        return waveforms_BS


def convolve(waveforms_BS: Tensor, responses_RL: Tensor, choice_B: Tensor) -> Tensor:
    """Return a single batch convolved, and leave it as it is; see `Convolution`."""
    return Convolution(responses_RL, waveforms_BS.shape[1])(waveforms_BS.clone(), choice_B)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device, without waiting for a GPU."""
    if device.type == "cpu":
        return values
    return values.pin_memory().to(device, non_blocking=True)


def mask_bands(power_BFT: Tensor, starts_B: Tensor, widths_B: Tensor) -> Tensor:
    """Set bands [start, start + width) of each clip to 0 in place; width 0 masks nothing."""
    return _mask(power_BFT, starts_B, widths_B, axis=1)


def mask_frames(power_BFT: Tensor, starts_B: Tensor, widths_B: Tensor) -> Tensor:
    """Set frames [start, start + width) of each clip to 0 in place; width 0 masks nothing."""
    return _mask(power_BFT, starts_B, widths_B, axis=2)


def freq_mixstyle(
    log_mel_bCFT: Tensor,
    permutation_B: Tensor,
    lambda_B: Tensor,
    eps: float = 1e-6,
    *,
    share: slice = slice(None),
    gather: Callable[[Tensor], Tensor] = lambda own: own,
) -> Tensor:
    """Move the mean and spread of every mel band of each clip towards those of another clip.

    Labels do not change, and no gradient flows through the statistics. This is MixStyle (Zhou et
    al. 2021, arXiv:2104.02008) with one mean and one spread per band (Schmid et al. 2022, CP-JKU's
    DCASE 2022 technical report).

    Args:
        log_mel_bCFT: The clips of this worker, with at least two values in each band.
        permutation_B: For the whole batch, the clip whose statistics each clip is mixed with.
        lambda_B: For the whole batch, the share of its own statistics that each clip keeps, 0...1.
        eps: Added to the variance, inside the root.
        share: The clips of the batch that this worker has; all if there is one worker.
        gather: Turns the statistics of this worker's clips, [b, 2, F], into those of the whole
            batch in its order, [B, 2, F].

    Raises:
        ValueError: Draws or statistics for another number of clips, or bands with a single value.
    """
    permutation_b, lambda_b = permutation_B[share], lambda_B[share]
    _check_draws(log_mel_bCFT, permutation_b, "permutation")
    _check_draws(log_mel_bCFT, lambda_b, "lambda")
    own_b2F = _compute_band_statistics(log_mel_bCFT.detach(), eps)
    all_B2F = gather(own_b2F)
    _check_draws(all_B2F, permutation_B, "permutation of the gathered statistics")
    keep_b11 = lambda_b.to(own_b2F).view(-1, 1, 1)
    other_b2F = all_B2F[permutation_b.to(own_b2F.device)]
    mean, spread = _split_statistics(own_b2F)
    mixed_mean, mixed_spread = _split_statistics(keep_b11 * own_b2F + (1 - keep_b11) * other_b2F)
    return (log_mel_bCFT - mean).mul_(mixed_spread / spread).add_(mixed_mean)


def _compute_band_statistics(log_mel_BCFT: Tensor, eps: float) -> Tensor:
    """Return the mean of every band and the root of its unbiased variance plus eps: [B, 2, F]."""
    n_values = log_mel_BCFT.shape[1] * log_mel_BCFT.shape[3]
    if n_values < 2:
        raise ValueError(
            f"log-mels of shape {tuple(log_mel_BCFT.shape)} have {n_values} value in each band, "
            "expected at least 2 to mix statistics; give longer clips or switch mixing off"
        )
    # torch.var_mean gives the same in one call, but takes 14 times as long on a CPU.
    mean_BF = log_mel_BCFT.mean(dim=(1, 3))
    squares_BCFT = (log_mel_BCFT - mean_BF[:, None, :, None]).square_()
    variance_BF = squares_BCFT.sum(dim=(1, 3)) / (n_values - 1)
    return torch.stack([mean_BF, (variance_BF + eps).sqrt()], dim=1)


def _split_statistics(statistics_B2F: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread, each as [B, 1, F, 1] to broadcast against log-mels."""
    mean_BF, spread_BF = statistics_B2F.unbind(1)
    return mean_BF[:, None, :, None], spread_BF[:, None, :, None]


def _take_windows(waveforms_BS: Tensor, starts_B: Tensor, n_samples: int) -> Tensor:
    """Return `n_samples` samples of each clip from its start; the clips must be contiguous."""
    # One view has all windows of the batch as rows, and B of them are copied: on a CPU this takes
    # a twentieth of the time of a gather by sample.
    every_window = waveforms_BS.view(-1).unfold(0, n_samples, 1)
    n_clips, clip_samples = waveforms_BS.shape
    offsets_B = torch.arange(n_clips, device=waveforms_BS.device) * clip_samples
    return every_window.index_select(0, offsets_B + starts_B.to(waveforms_BS.device))


def _mask(power_BFT: Tensor, starts_B: Tensor, widths_B: Tensor, axis: int) -> Tensor:
    """Set [start, start + width) of one axis of each clip to 0, in place."""
    _check_draws(power_BFT, starts_B, "starts")
    _check_draws(power_BFT, widths_B, "widths")
    if power_BFT.device.type == "cpu":
        clips = power_BFT.movedim(axis, 1).numpy()
        for clip, start, width in zip(clips, starts_B.tolist(), widths_B.tolist(), strict=True):
            # A mask that is wider than the axis begins before it.
            clip[max(start, 0) : max(start + width, 0)] = 0
        return power_BFT
    starts_B1, widths_B1 = starts_B.unsqueeze(1), widths_B.unsqueeze(1)
    position = torch.arange(power_BFT.shape[axis], device=power_BFT.device)
    is_kept = (position < starts_B1) | (position >= starts_B1 + widths_B1)
    return power_BFT.mul_(is_kept.unsqueeze(3 - axis))


def _check_draws(batch: Tensor, draws_B: Tensor, name: str) -> None:
    if draws_B.shape != batch.shape[:1]:
        raise ValueError(
            f"{name} have shape {tuple(draws_B.shape)}, expected one for each of the "
            f"{batch.shape[0]} clips"
        )


def _check_range(draws_B: Tensor, lowest: int, highest: int, name: str) -> None:
    # Reading numbers from a GPU would wait for its queue, so there the caller is trusted.
    if draws_B.device.type != "cpu" or len(draws_B) == 0:
        return
    low, high = (int(bound) for bound in draws_B.aminmax())
    if low < lowest or high > highest:
        raise ValueError(f"{name} lie within {low}...{high}, expected {lowest}...{highest}")
