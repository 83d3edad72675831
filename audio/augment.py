"""Random changes to a batch, whose draws are given as tensors.

B clips, S samples, R responses of L samples (U of them in use), C channels, F mel bands, T frames.
"""

import torch
from scipy.fft import next_fast_len
from torch import Tensor


def roll(waveforms_BS: Tensor, shifts_B: Tensor) -> Tensor:
    """Each clip moved round in a circle by its own number of samples; positive is later."""
    _check_draws(waveforms_BS, shifts_B, "shifts")
    n_samples = waveforms_BS.shape[1]
    shifts_B1 = shifts_B.to(waveforms_BS.device).unsqueeze(1)
    at_BS = (torch.arange(n_samples, device=waveforms_BS.device) - shifts_B1) % n_samples
    return waveforms_BS.gather(1, at_BS)


def convolve(waveforms_BS: Tensor, responses_RL: Tensor, choice_B: Tensor) -> Tensor:
    """Each clip as its chosen impulse response would have recorded it.

    The first S samples of the full linear convolution, at the level that it gives (Morocutti et
    al. 2023, arXiv:2305.07499).

    Args:
        waveforms_BS: The clips.
        responses_RL: Impulse responses at the clips' sample rate.
        choice_B: Which response each clip gets; -1 leaves that clip as it is, to the last bit.

    Raises:
        ValueError: A choice that is neither -1 nor the number of a response.
    """
    _check_draws(waveforms_BS, choice_B, "choices")
    _check_choice(choice_B, len(responses_RL))
    treated = torch.nonzero(choice_B >= 0).flatten()
    # What is chosen twice is transformed once: a batch of 256 draws from 66 responses.
    used, which = torch.unique(choice_B[treated], return_inverse=True)
    if len(treated) == 0:
        return waveforms_BS.clone()
    device = waveforms_BS.device
    treated, which = treated.to(device), which.to(device)
    chosen_UL = responses_RL.to(waveforms_BS)[used.to(device)]
    convolved = _fft_convolve(waveforms_BS[treated], chosen_UL, which)
    return waveforms_BS.index_copy(0, treated, convolved)


def mask_bands(power_BFT: Tensor, starts_B: Tensor, widths_B: Tensor) -> Tensor:
    """Mel power with bands [start, start + width) of each clip set to 0; width 0 masks nothing."""
    return _mask(power_BFT, starts_B, widths_B, axis=1)


def mask_frames(power_BFT: Tensor, starts_B: Tensor, widths_B: Tensor) -> Tensor:
    """Mel power with frames [start, start + width) of each clip set to 0; width 0 masks nothing."""
    return _mask(power_BFT, starts_B, widths_B, axis=2)


def freq_mixstyle(
    log_mel_BCFT: Tensor, permutation_B: Tensor, lambda_B: Tensor, eps: float = 1e-6
) -> Tensor:
    """Each clip with the mean and spread of every mel band moved towards those of another clip.

    Labels stay. The statistics are constants to the gradient: MixStyle (Zhou et al. 2021,
    arXiv:2104.02008) with one mean and spread a band (Schmid et al. 2022, CP-JKU's DCASE 2022
    technical report).

    Args:
        log_mel_BCFT: The clips, with at least two values in each band.
        permutation_B: Whose statistics each clip is mixed with.
        lambda_B: How much of its own statistics each clip keeps, 0...1.
        eps: Added to the variance, inside the root.
    """
    _check_draws(log_mel_BCFT, permutation_B, "permutation")
    _check_draws(log_mel_BCFT, lambda_B, "lambda")
    permutation_B = permutation_B.to(log_mel_BCFT.device)
    own = lambda_B.to(log_mel_BCFT).view(-1, 1, 1, 1)
    variance, mean = torch.var_mean(log_mel_BCFT.detach(), dim=(1, 3), keepdim=True)
    spread = (variance + eps).sqrt()
    mixed_mean = own * mean + (1 - own) * mean[permutation_B]
    mixed_spread = own * spread + (1 - own) * spread[permutation_B]
    return (log_mel_BCFT - mean) / spread * mixed_spread + mixed_mean


def _fft_convolve(waveforms_BS: Tensor, responses_UL: Tensor, which_B: Tensor) -> Tensor:
    n_samples = waveforms_BS.shape[1]
    # What a response does after a clip's length is never heard.
    responses_UL = responses_UL[:, :n_samples]
    n_fft = next_fast_len(n_samples + responses_UL.shape[1] - 1, real=True)
    spectra_U = torch.fft.rfft(responses_UL, n=n_fft)
    product_B = torch.fft.rfft(waveforms_BS, n=n_fft) * spectra_U[which_B]
    return torch.fft.irfft(product_B, n=n_fft)[:, :n_samples]


def _mask(power_BFT: Tensor, starts_B: Tensor, widths_B: Tensor, axis: int) -> Tensor:
    _check_draws(power_BFT, starts_B, "starts")
    _check_draws(power_BFT, widths_B, "widths")
    device = power_BFT.device
    starts_B1, widths_B1 = starts_B.to(device).unsqueeze(1), widths_B.to(device).unsqueeze(1)
    position = torch.arange(power_BFT.shape[axis], device=device)
    masked = (position >= starts_B1) & (position < starts_B1 + widths_B1)
    return power_BFT.masked_fill(masked.unsqueeze(3 - axis), 0.0)


def _check_draws(batch: Tensor, draws_B: Tensor, name: str) -> None:
    if draws_B.shape != batch.shape[:1]:
        raise ValueError(
            f"{name} have shape {tuple(draws_B.shape)}, expected one for each of the "
            f"{batch.shape[0]} clips"
        )


def _check_choice(choice_B: Tensor, n_responses: int) -> None:
    if len(choice_B) == 0:
        return
    low, high = (int(bound) for bound in choice_B.aminmax())
    if low < -1 or high >= n_responses:
        raise ValueError(
            f"choices lie within {low}...{high}, expected -1 (leave the clip alone) or one of "
            f"the {n_responses} responses, 0...{n_responses - 1}"
        )
