from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audio import log_mel
from audio.front_ends import (
    ASCDOMAIN_CNN,
    ASCDOMAIN_PASST,
    AUDIOSET,
    BCBL_44K,
    CP_MOBILE,
    CPJKU23_CP_RESNET,
    CPJKU23_PASST,
    DSMN_FRONT_END,
    FrontEnd,
)
from audio.log_mel import LogMel

GOLDEN = Path(__file__).parents[1] / "golden" / "front_ends"
TEACHERS = {
    "efficientat_default": AUDIOSET,
    "cpjku23_passt": CPJKU23_PASST,
    "cpjku23_cpresnet": CPJKU23_CP_RESNET,
    "ascdomain_cnn": ASCDOMAIN_CNN,
    "ascdomain_passt": ASCDOMAIN_PASST,
}
ALL = {**TEACHERS, "cp_mobile": CP_MOBILE, "dsmn": DSMN_FRONT_END, "bcbl_44k": BCBL_44K}

SMALL = FrontEnd(
    sample_rate=8_000, n_fft=256, window_samples=200, hop_samples=80, mel_bands=16, max_hz=4_000.0
)


@pytest.fixture(scope="module")
def teachers_golden():
    return np.load(GOLDEN / "teachers.npz")


@pytest.fixture(scope="module")
def students_golden():
    return np.load(GOLDEN / "students.npz")


@pytest.fixture
def noise_BS():
    return 0.1 * torch.randn(3, 8_000, generator=torch.Generator().manual_seed(0))


def second_at_44k():
    t = np.arange(44_100) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * 440 * t)
    sweep = 0.2 * np.sin(2 * np.pi * (200 + 3000 * t) * t)
    noise = 0.05 * np.random.default_rng(3).standard_normal(44_100)
    return torch.from_numpy((tone + sweep + noise).astype(np.float32))


def tone(hertz, front_end):
    t = torch.arange(front_end.sample_rate) / front_end.sample_rate
    return torch.sin(2 * torch.pi * hertz * t).unsqueeze(0)


# Float32 instead of float64 changes the log-mels by up to 3.9e-5; the mildest typical mistake,
# triangles in Hz instead of mel, by 1.9e-3.
@pytest.mark.parametrize("name", TEACHERS)
def test_log_mel_equals_that_of_the_teachers(name, teachers_golden):
    waveform_BS = torch.from_numpy(teachers_golden["waveform"]).unsqueeze(0)
    expected_FT = torch.from_numpy(teachers_golden[f"mel_{name}"])
    output = LogMel(TEACHERS[name])(waveform_BS)
    torch.testing.assert_close(output, expected_FT[None, None], rtol=0, atol=2e-4)


# Float32 changes the corners of the triangles by 2.8e-5.
@pytest.mark.parametrize("name", TEACHERS)
def test_filterbank_equals_that_of_the_teachers(name, teachers_golden):
    expected_FQ = torch.from_numpy(teachers_golden[f"fb_{name}"])
    torch.testing.assert_close(
        log_mel.build_mel_bank(TEACHERS[name]), expected_FQ, rtol=0, atol=5e-5
    )


# A second implementation agreed with the golden files within 7e-5.
@pytest.mark.parametrize(
    ("name", "front_end"), [("logmel_baseline", ASCDOMAIN_CNN), ("logmel_cpmobile", CP_MOBILE)]
)
def test_log_mel_equals_that_of_the_students(name, front_end, students_golden):
    waveform_BS = torch.from_numpy(students_golden["resampled_32k"]).unsqueeze(0)
    expected_FT = torch.from_numpy(students_golden[name])
    output = LogMel(front_end)(waveform_BS)
    torch.testing.assert_close(output, expected_FT[None, None], rtol=0, atol=2e-4)


def test_standardised_log_mel_and_its_slope_equal_those_of_dsmn(students_golden):
    output = LogMel(DSMN_FRONT_END)(second_at_44k().unsqueeze(0))
    expected_CFT = torch.from_numpy(students_golden["logmel_dsmn"])
    torch.testing.assert_close(output, expected_CFT[None], rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("front_end", "shape"),
    [
        (AUDIOSET, (1, 128, 100)),
        (CPJKU23_PASST, (1, 128, 100)),
        (CPJKU23_CP_RESNET, (1, 256, 43)),
        (ASCDOMAIN_CNN, (1, 256, 65)),
        (ASCDOMAIN_PASST, (1, 128, 101)),
        (CP_MOBILE, (1, 256, 64)),
        (DSMN_FRONT_END, (2, 256, 44)),
        (BCBL_44K, (1, 256, 89)),
    ],
)
def test_one_second_has_the_published_shape(front_end, shape):
    assert front_end.compute_shape(front_end.sample_rate) == shape
    assert LogMel(front_end)(torch.zeros(1, front_end.sample_rate)).shape == (1, *shape)


@pytest.mark.parametrize("pre_emphasis", [None, 0.97])
@pytest.mark.parametrize("n_samples", [131, 400, 401, 479, 480, 481, 8_000])
def test_the_number_of_frames_is_that_of_the_output(n_samples, pre_emphasis):
    front_end = replace(SMALL, pre_emphasis=pre_emphasis)
    output = LogMel(front_end)(torch.zeros(1, n_samples))
    assert output.shape[1:] == front_end.compute_shape(n_samples)


def test_power_mel_equals_a_plain_discrete_fourier_transform(noise_BS):
    front_end = replace(SMALL, pre_emphasis=0.97, window="symmetric")
    x = noise_BS[0].double().numpy()
    x = x[1:] - 0.97 * x[:-1]
    padded = np.pad(x, 128, mode="reflect")
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 199), 28)
    frames = [padded[80 * t : 80 * t + 256] * window for t in range(1 + len(x) // 80)]
    power_QT = np.abs(np.fft.rfft(frames)).T ** 2
    expected_FT = log_mel.build_mel_bank(front_end).double().numpy() @ power_QT
    output_FT = LogMel(front_end).power_mel(noise_BS)[0].numpy()
    # Rounding of float32 sums of 256 products: a few 1e-6 of the largest.
    np.testing.assert_allclose(output_FT, expected_FT, rtol=1e-4, atol=1e-6 * expected_FT.max())


def test_forward_is_power_mel_and_then_compress(noise_BS):
    module = LogMel(DSMN_FRONT_END)
    waveforms_BS = noise_BS.repeat(1, 6)[:, :44_100]
    assert torch.equal(module(waveforms_BS), module.compress(module.power_mel(waveforms_BS)))


@pytest.mark.parametrize("front_end", ALL.values(), ids=ALL)
def test_a_clip_does_not_depend_on_the_rest_of_its_batch(front_end, noise_BS):
    module = LogMel(front_end)
    waveforms_BS = noise_BS.repeat(1, 6)[:, : front_end.sample_rate]
    together = module(waveforms_BS)
    alone = torch.cat([module(clip_S.unsqueeze(0)) for clip_S in waveforms_BS])
    # A product of another size may sum in another order: float32 rounding, in logarithms.
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-4)


@pytest.mark.parametrize("mel_bank", ["htk", "htk_slaney_norm", "kaldi"])
def test_a_tone_is_loudest_in_the_band_around_it(mel_bank):
    front_end = replace(SMALL, mel_bank=mel_bank)
    edges_mel = np.linspace(0, 2595 * np.log10(1 + 4_000 / 700), 18)
    centres_hz = 700 * (10 ** (edges_mel[1:-1] / 2595) - 1)
    module = LogMel(front_end)
    for band in (3, 8, 13):
        power_FT = module.power_mel(tone(centres_hz[band], front_end))[0]
        assert power_FT.mean(dim=1).argmax() == band


def test_every_slaney_triangle_has_the_same_area():
    front_end = replace(SMALL, n_fft=8_000, window_samples=8_000, mel_bank="htk_slaney_norm")
    area_F = log_mel.build_mel_bank(front_end).sum(dim=1)  # the bins lie 1 Hz apart
    # Triangles of at least 60 bins are summed instead of integrated.
    torch.testing.assert_close(area_F, torch.ones(16), rtol=1e-3, atol=0)


def test_masked_bands_get_the_logarithm_of_the_offset(noise_BS):
    module = LogMel(ASCDOMAIN_CNN)
    power_BFT = module.power_mel(noise_BS.repeat(1, 4))
    power_BFT[:, 10:20] = 0
    log_mel_BCFT = module.compress(power_BFT)
    assert log_mel_BCFT[:, :, 10:20].unique().tolist() == [pytest.approx(np.log(1e-5), rel=1e-6)]


def test_the_slope_of_a_linear_rise_is_its_step():
    module = LogMel(replace(SMALL, delta=True))
    rise_T = torch.arange(9.0).expand(1, 16, 9)
    slope_FT = module.compress((rise_T - 5).exp() - 1e-5)[0, 1]
    # The two frames at each end include the repeated edge.
    torch.testing.assert_close(slope_FT[:, 2:-2], torch.ones(16, 5), rtol=0, atol=1e-4)


@pytest.mark.parametrize("power", [0.0, 0.3, 7.0])
def test_a_constant_clip_is_standardised_to_values_near_zero(power):
    module = LogMel(DSMN_FRONT_END)
    # Rounding of the mean, below 1e-6, divided by the floor of 1e-3.
    assert module.compress(torch.full((1, 256, 44), power)).abs().max() < 0.01


def test_half_precision_does_not_overflow(noise_BS):
    module = LogMel(ASCDOMAIN_CNN)
    loud_BS = (30 * noise_BS).clamp(-1, 1).repeat(1, 4)
    with torch.autocast("cpu", dtype=torch.float16):
        output = module(loud_BS)
    assert output.dtype == torch.float32
    assert torch.equal(output, module(loud_BS))


def test_a_checkpoint_contains_nothing_of_the_front_end():
    assert LogMel(SMALL).state_dict() == {}


def test_a_gradient_reaches_the_waveform(noise_BS):
    waveforms_BS = noise_BS.requires_grad_()
    LogMel(replace(SMALL, delta=True))(waveforms_BS).sum().backward()
    assert waveforms_BS.grad is not None
    assert waveforms_BS.grad.isfinite().all()
    assert waveforms_BS.grad.abs().amax(dim=1).min() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("front_end", ALL.values(), ids=ALL)
def test_log_mel_is_the_same_on_a_gpu(front_end, noise_BS):
    waveforms_BS = noise_BS.repeat(1, 6)[:, : front_end.sample_rate]
    output = LogMel(front_end).cuda()(waveforms_BS.cuda())
    # Rounding of two float32 transforms; quiet bins with pre-emphasis are the worst.
    torch.testing.assert_close(output.cpu(), LogMel(front_end)(waveforms_BS), rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 0),
        ("n_fft", 255),
        ("n_fft", 0),
        ("window_samples", 257),
        ("window_samples", 0),
        ("hop_samples", 0),
        ("mel_bands", 3),
        ("min_hz", -1.0),
        ("min_hz", 4_000.0),
        ("max_hz", 4_001.0),
        ("max_hz", float("nan")),
        ("mel_bank", "slaney"),
        ("window", "hamming"),
        ("log", "db"),
        ("pre_emphasis", 0.0),
        ("pre_emphasis", 1.5),
        ("log_offset", 0.0),
        ("log_offset", float("inf")),
        ("shift", float("nan")),
        ("scale", 0.0),
    ],
)
def test_an_impossible_front_end_is_refused_by_field_and_value(field, value):
    with pytest.raises(ValueError, match="FrontEnd: ") as caught:
        replace(SMALL, **{field: value})
    assert repr(value) in str(caught.value)


def test_a_scale_without_effect_is_refused():
    with pytest.raises(ValueError, match=r"scale=5\.0 have no effect"):
        replace(SMALL, standardise=True, scale=5.0)


def test_a_front_end_is_frozen():
    with pytest.raises(FrozenInstanceError):
        SMALL.n_fft = 512


@pytest.mark.parametrize("mel_bank", ["htk", "kaldi"])
def test_bands_between_two_bins_are_refused(mel_bank):
    with pytest.raises(ValueError, match=r"mel_bands=128 bands hold no bin of n_fft=256"):
        LogMel(replace(SMALL, mel_bands=128, mel_bank=mel_bank))


@pytest.mark.parametrize(("pre_emphasis", "shortest"), [(None, 129), (0.97, 130)])
def test_a_clip_too_short_to_be_mirrored_is_refused(pre_emphasis, shortest):
    front_end = replace(SMALL, pre_emphasis=pre_emphasis)
    assert LogMel(front_end)(torch.zeros(1, shortest)).shape[-1] == front_end.count_frames(shortest)
    with pytest.raises(ValueError, match=f"{shortest - 1} samples is too short.*{shortest - 1} sa"):
        LogMel(front_end)(torch.zeros(1, shortest - 1))


@pytest.mark.parametrize(
    "waveforms", [torch.zeros(8_000), torch.zeros(1, 8_000, dtype=torch.int16)], ids=["1d", "int16"]
)
def test_anything_except_a_batch_of_floating_point_waveforms_is_refused(waveforms):
    with pytest.raises(ValueError, match="expected floating point"):
        LogMel(SMALL)(waveforms)
