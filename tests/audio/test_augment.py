import json
from pathlib import Path

import numpy as np
import pytest
import torch

from audio.augment import Convolution, convolve, crop, freq_mixstyle, mask_bands, mask_frames, roll

GOLDEN = Path(__file__).parents[1] / "golden" / "students"


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def waveforms_BS(generator):
    return 0.1 * torch.randn(5, 1_000, generator=generator)


@pytest.fixture
def power_BFT(generator):
    return torch.rand(4, 12, 9, generator=generator) + 0.1


def test_roll_moves_each_clip_by_its_own_shift(waveforms_BS):
    shifts_B = torch.tensor([0, 3, -400, 1_000, -2_345])
    expected = [
        clip_S.roll(shift) for clip_S, shift in zip(waveforms_BS, shifts_B.tolist(), strict=True)
    ]
    assert torch.equal(roll(waveforms_BS, shifts_B), torch.stack(expected))


def test_integers_are_rolled_like_floats(waveforms_BS):
    samples_BS = (waveforms_BS * 32768).to(torch.int16)
    shifts_B = torch.tensor([1, -1, 500, 0, 999])
    assert torch.equal(roll(samples_BS, shifts_B).float(), roll(samples_BS.float(), shifts_B))


def test_a_crop_is_a_slice_of_each_clip(waveforms_BS):
    starts_B = torch.tensor([0, 3, 400, 699, 700])
    expected = [
        clip_S[start : start + 300]
        for clip_S, start in zip(waveforms_BS, starts_B.tolist(), strict=True)
    ]
    assert torch.equal(crop(waveforms_BS, starts_B, 300), torch.stack(expected))


@pytest.mark.parametrize("start", [-1, 701])
def test_a_window_beyond_the_clip_is_refused(waveforms_BS, start):
    with pytest.raises(ValueError, match=r"starts lie within .*, expected 0\.\.\.700"):
        crop(waveforms_BS, torch.tensor([0, 1, start, 2, 3]), 300)


def test_rolling_back_restores_the_clips(waveforms_BS, generator):
    shifts_B = torch.randint(-5_000, 5_000, (5,), generator=generator)
    assert torch.equal(roll(roll(waveforms_BS, shifts_B), -shifts_B), waveforms_BS)


# Odd and even lengths, a response longer than the clip, one sample.
@pytest.mark.parametrize("length", [1, 2, 77, 1_000, 1_500])
def test_convolution_is_that_of_numpy_cropped_to_the_clip(waveforms_BS, generator, length):
    responses_RL = torch.randn(3, length, generator=generator)
    choice_B = torch.tensor([2, 0, 1, 0, 2])
    expected_BS = [
        np.convolve(clip_S.double().numpy(), responses_RL[which].double().numpy())[:1_000]
        for clip_S, which in zip(waveforms_BS, choice_B.tolist(), strict=True)
    ]
    output_BS = Convolution(responses_RL, 1_000)(waveforms_BS.clone(), choice_B)
    # Rounding of float32 transforms, for sums of up to 1000 products of size 0.1.
    np.testing.assert_allclose(output_BS.numpy(), np.stack(expected_BS), rtol=0, atol=2e-5)


def test_clips_without_a_response_do_not_change_in_any_bit(waveforms_BS, generator):
    responses_RL = torch.randn(2, 50, generator=generator)
    choice_B = torch.tensor([-1, 1, -1, 0, -1])
    output_BS = Convolution(responses_RL, 1_000)(waveforms_BS.clone(), choice_B)
    assert torch.equal(output_BS[[0, 2, 4]], waveforms_BS[[0, 2, 4]])
    assert not torch.isclose(output_BS[[1, 3]], waveforms_BS[[1, 3]]).any(dim=1).all()


def test_a_batch_without_any_response_does_not_change(waveforms_BS):
    nothing_B = torch.full((5,), -1)
    for responses_RL in (torch.ones(2, 50), torch.ones(0, 50)):
        output_BS = Convolution(responses_RL, 1_000)(waveforms_BS.clone(), nothing_B)
        assert torch.equal(output_BS, waveforms_BS)


def test_a_convolution_gives_the_same_for_each_batch(waveforms_BS, generator):
    responses_RL = torch.randn(3, 77, generator=generator)
    convolution = Convolution(responses_RL, 1_000)
    for choice_B in (torch.tensor([2, -1, 0, 1, 1]), torch.tensor([0, 0, -1, -1, 2])):
        single_BS = convolve(waveforms_BS, responses_RL, choice_B)
        assert torch.equal(convolution(waveforms_BS.clone(), choice_B), single_BS)


def test_a_delayed_impulse_delays_the_clip(waveforms_BS):
    responses_RL = torch.zeros(1, 40)
    responses_RL[0, 30] = 1.0
    convolution = Convolution(responses_RL, 1_000)
    output_BS = convolution(waveforms_BS.clone(), torch.zeros(5, dtype=torch.int64))
    # Float32 rounding of values up to 0.4.
    torch.testing.assert_close(output_BS[:, 30:], waveforms_BS[:, :-30], rtol=0, atol=1e-6)
    assert output_BS[:, :30].abs().max() < 1e-6


@pytest.mark.parametrize("which", [-2, 2])
def test_the_index_of_no_response_is_refused(waveforms_BS, which):
    choice_B = torch.tensor([0, 1, which, 0, 1])
    with pytest.raises(ValueError, match=r"choices lie within .*, expected -1\.\.\.1"):
        Convolution(torch.ones(2, 50), 1_000)(waveforms_BS, choice_B)


@pytest.mark.parametrize(("mask", "axis"), [(mask_bands, 0), (mask_frames, 1)])
def test_masks_set_the_given_range_of_each_clip_to_zero_in_place(power_BFT, mask, axis):
    starts_B, widths_B = torch.tensor([0, 3, 5, 0]), torch.tensor([2, 4, 0, 99])
    expected = power_BFT.clone()
    for clip_FT, start, width in zip(expected, starts_B.tolist(), widths_B.tolist(), strict=True):
        (clip_FT if axis == 0 else clip_FT.T)[start : start + width] = 0
    assert mask(power_BFT, starts_B, widths_B) is power_BFT
    assert torch.equal(power_BFT, expected)


@pytest.mark.parametrize(("mask", "axis"), [(mask_bands, 1), (mask_frames, 2)])
def test_a_mask_wider_than_the_axis_begins_before_it(mask, axis):
    power_BFT = torch.ones(3, 6, 6)
    mask(power_BFT, torch.tensor([-2, -1, -3]), torch.tensor([8, 3, 2]))
    assert (power_BFT == 0).all(3 - axis).sum(1).tolist() == [6, 2, 0]


def test_freq_mixstyle_equals_the_published_one():
    golden = json.loads((GOLDEN / "freq_mixstyle.json").read_text())
    output = freq_mixstyle(
        torch.tensor(golden["freq_input"]),
        torch.tensor(golden["perm"]),
        torch.tensor(golden["lambda"]),
        eps=golden["eps"],
    )
    # Golden values are float32 with nine digits.
    torch.testing.assert_close(output, torch.tensor(golden["freq_output"]), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("permutation", "lambdas"), [([3, 2, 1, 0], [1.0] * 4), ([0, 1, 2, 3], [0.0, 0.3, 0.6, 1.0])]
)
def test_freq_mixstyle_of_a_clip_with_itself_changes_nothing(generator, permutation, lambdas):
    x = torch.randn(4, 1, 6, 50, generator=generator)
    output = freq_mixstyle(x, torch.tensor(permutation), torch.tensor(lambdas))
    # Values are divided and multiplied by the same number.
    torch.testing.assert_close(output, x, rtol=0, atol=1e-5)


def test_freq_mixstyle_with_lambda_0_takes_the_statistics_of_the_other_clip(generator):
    scales = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(4, 1, 1, 1)
    x = scales * torch.randn(4, 2, 6, 50, generator=generator) + scales
    permutation = torch.tensor([1, 2, 3, 0])
    output = freq_mixstyle(x, permutation, torch.zeros(4))
    variance, mean = torch.var_mean(output, dim=(1, 3))
    other_variance, other_mean = torch.var_mean(x[permutation], dim=(1, 3))
    # eps is added to variances of about 1 or more.
    torch.testing.assert_close(mean, other_mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(variance, other_variance, rtol=1e-4, atol=0)


def test_freq_mixstyle_treats_statistics_as_constants(generator):
    x = torch.randn(2, 1, 3, 20, generator=generator, dtype=torch.float64, requires_grad=True)
    freq_mixstyle(x, torch.tensor([1, 0]), torch.tensor([0.25, 0.5])).sum().backward()
    spread = (x.detach().var(dim=(1, 3), keepdim=True) + 1e-6).sqrt()
    own = torch.tensor([0.25, 0.5], dtype=torch.float64).view(2, 1, 1, 1)
    expected = (own * spread + (1 - own) * spread.flip(0)) / spread
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected.expand_as(x))


def test_a_batch_split_over_workers_is_mixed_like_a_whole_one(generator):
    x = torch.randn(7, 1, 6, 50, generator=generator)
    permutation_B, lambda_B = torch.tensor([3, 0, 6, 5, 1, 2, 4]), torch.rand(7)
    shares = (slice(0, 3), slice(3, 7))
    statistics = []

    def collect(own):
        statistics.append(own)
        return torch.zeros(7, *own.shape[1:])

    for share in shares:
        freq_mixstyle(x[share], permutation_B, lambda_B, share=share, gather=collect)
    together = torch.cat(statistics)
    parts = [
        freq_mixstyle(x[share], permutation_B, lambda_B, share=share, gather=lambda _: together)
        for share in shares
    ]
    # The sum over a band may be in another order for another number of clips.
    whole = freq_mixstyle(x, permutation_B, lambda_B)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)


def test_statistics_gathered_from_too_few_clips_are_refused(generator):
    x, lambda_B = torch.randn(2, 1, 6, 50, generator=generator), torch.rand(4)
    with pytest.raises(ValueError, match="gathered statistics have shape .4,., expected one.* 2"):
        freq_mixstyle(x, torch.arange(4), lambda_B, share=slice(2))


def test_bands_with_a_single_value_are_refused():
    with pytest.raises(ValueError, match="1 value in each band, expected at least 2"):
        freq_mixstyle(torch.zeros(4, 1, 6, 1), torch.arange(4), torch.rand(4))


@pytest.mark.parametrize(
    "change",
    [
        lambda draws: roll(torch.zeros(4, 10), draws),
        lambda draws: crop(torch.zeros(4, 10), draws, 5),
        lambda draws: Convolution(torch.ones(5, 2), 10)(torch.zeros(4, 10), draws),
        lambda draws: mask_bands(torch.zeros(4, 3, 5), draws, torch.zeros(4)),
        lambda draws: mask_frames(torch.zeros(4, 3, 5), torch.zeros(4), draws),
        lambda draws: freq_mixstyle(torch.zeros(4, 1, 3, 5), torch.arange(4), draws),
        lambda draws: freq_mixstyle(torch.zeros(4, 1, 3, 5), draws, torch.zeros(4)),
    ],
    ids=["shifts", "crops", "choices", "starts", "widths", "lambda", "permutation"],
)
def test_draws_for_another_number_of_clips_are_refused(change):
    with pytest.raises(ValueError, match="expected one for each of the 4 clips"):
        change(torch.zeros(1, dtype=torch.int64))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_changes_are_the_same_on_a_gpu(waveforms_BS, power_BFT, generator):
    responses_RL = torch.randn(2, 50, generator=generator)
    draws_B = torch.tensor([-1, 1, -1, 0, 0])
    four_B = torch.tensor([1, 2, 3, 0])
    # Rounding of two float32 transforms.
    torch.testing.assert_close(
        Convolution(responses_RL.cuda(), 1_000)(waveforms_BS.cuda(), draws_B).cpu(),
        Convolution(responses_RL, 1_000)(waveforms_BS.clone(), draws_B),
        rtol=0,
        atol=2e-5,
    )
    assert torch.equal(roll(waveforms_BS.cuda(), draws_B).cpu(), roll(waveforms_BS, draws_B))
    starts_B = draws_B + 1
    cropped_BS = crop(waveforms_BS.cuda(), starts_B, 9)
    assert torch.equal(cropped_BS.cpu(), crop(waveforms_BS, starts_B, 9))
    assert torch.equal(
        mask_bands(power_BFT.cuda(), four_B.cuda(), four_B.cuda()).cpu(),
        mask_bands(power_BFT, four_B, four_B),
    )
    torch.testing.assert_close(
        freq_mixstyle(power_BFT[:, None].cuda(), four_B.cuda(), torch.full((4,), 0.3)).cpu(),
        freq_mixstyle(power_BFT[:, None], four_B, torch.full((4,), 0.3)),
        rtol=0,
        atol=1e-5,
    )
