import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio import impulse_responses
from audio.augment import convolve
from audio.errors import UnfitName, UnfitSound

PROJECT = Path(__file__).parents[2]
GOLDEN = PROJECT / "tests" / "golden" / "students" / "dir.json"
MICIRP = Path(os.environ.get("TUTTI_MICIRP") or PROJECT.parent / "shared" / "data" / "micirp")


def write(file, samples, sample_rate=32_000, subtype="FLOAT"):
    soundfile.write(file, np.asarray(samples, np.float32), sample_rate, subtype=subtype)


def low_tone(sample_rate, duration_s=0.1):
    t = np.arange(round(duration_s * sample_rate)) / sample_rate
    return np.hanning(len(t)) * np.sin(2 * np.pi * 500 * t)


def magnitude_db(response, sample_rate, hertz):
    power = np.abs(np.fft.rfft(response, sample_rate))[hertz]
    return 20 * np.log10(power)


def test_responses_are_in_the_order_of_their_names_and_padded_with_zeros(tmp_path):
    write(tmp_path / "b.WAV", [0.5, 0.25])
    write(tmp_path / "c.flac", [0.75, 0.0, 0.5], subtype="PCM_24")
    write(tmp_path / "a.wav", [1.0])
    (tmp_path / "README.md").write_text("not a recording")
    responses_RL = impulse_responses.load_responses(tmp_path, 32_000)
    assert responses_RL.dtype == np.float32
    expected = [[1.0, 0.0, 0.0], [0.5, 0.25, 0.0], [0.75, 0.0, 0.5]]
    np.testing.assert_array_equal(responses_RL, expected)


@pytest.mark.parametrize("own_rate", [16_000, 44_100, 48_000])
def test_each_response_is_resampled_from_its_own_rate(tmp_path, own_rate):
    write(tmp_path / "own.wav", low_tone(own_rate), own_rate)
    write(tmp_path / "wanted.wav", low_tone(32_000), 32_000)
    resampled, wanted = impulse_responses.load_responses(tmp_path, 32_000)
    # Ripple of the filter at the edges of a tone of 100 ms.
    np.testing.assert_allclose(resampled, wanted, rtol=0, atol=1e-3)


@pytest.mark.skipif(
    not MICIRP.is_dir(),
    reason="the MicIRP recordings are not beside the project: name their folder in TUTTI_MICIRP",
)
def test_responses_of_micirp_are_as_published():
    golden = json.loads(GOLDEN.read_text())
    files = sorted(file.name for file in MICIRP.glob("*.wav"))
    responses_RL = torch.from_numpy(impulse_responses.load_responses(MICIRP, 32_000))
    assert len(responses_RL) == len(files) == 66
    noise = (0.1 * np.random.default_rng(7).standard_normal((1, 32_000))).astype(np.float32)
    for case in golden["cases"]:
        which = torch.tensor([files.index(case["file"])])
        output_S = convolve(torch.from_numpy(noise), responses_RL, which)[0].numpy()
        expected = case["out_librosa_soxr_hq_ir_32k"]
        # The tolerance that the golden file states.
        np.testing.assert_allclose(output_S[:24], expected["head"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(output_S[::1000], expected["every1000"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(output_S[-24:], expected["tail"], rtol=0, atol=2e-5)
        assert np.sqrt((output_S**2).mean()) == pytest.approx(expected["rms"], abs=2e-5)


def test_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        impulse_responses.load_responses(tmp_path / "nowhere", 32_000)


def test_an_empty_folder_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path.name}: no impulse responses"):
        impulse_responses.load_responses(tmp_path, 32_000)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([[0.5, 0.5], [0.1, 0.1]], "2 channels, expected mono"),
        ([0.5, float("nan")], "not finite"),
        ([0.5, float("inf")], "not finite"),
        ([0.0, 0.0], "2 samples and no sound"),
        ([], "0 samples and no sound"),
    ],
)
def test_a_file_without_an_impulse_response_is_refused_by_name(tmp_path, samples, message):
    write(tmp_path / "a.wav", [1.0])
    write(tmp_path / "odd one.wav", samples)
    with pytest.raises(ValueError, match=f"odd one.wav: .*{message}"):
        impulse_responses.load_responses(tmp_path, 32_000)


def test_an_unreadable_file_is_refused_by_name(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF, it says")
    with pytest.raises(ValueError, match=r"broken.wav: cannot be read as audio"):
        impulse_responses.load_responses(tmp_path, 32_000)


def test_the_synthetic_set_never_changes():
    responses_RL = impulse_responses.synthesise_responses(32_000)
    assert responses_RL.dtype == np.float32
    assert responses_RL.shape == (64, 1_600)
    # In units of 2^-20: values are rounded to them, so machines cannot differ.
    some = responses_RL[[0, 0, 2, 63], [0, 1, 4, 100]] * 2**20
    assert some.tolist() == [410_794, 745_416, 32_800, 10_297]


def test_a_larger_synthetic_set_begins_with_the_smaller_one():
    np.testing.assert_array_equal(
        impulse_responses.synthesise_responses(16_000, 3),
        impulse_responses.synthesise_responses(16_000, 9)[:3],
    )


@pytest.mark.parametrize("sample_rate", [8_000, 32_000, 44_100])
def test_synthetic_responses_keep_the_level_of_pink_noise(sample_rate):
    generator = np.random.default_rng(0)
    n_samples = 2 * sample_rate
    hertz = np.fft.rfftfreq(n_samples, 1 / sample_rate)
    heard = (hertz >= 50) & (hertz <= 16_000)
    phase = np.exp(2j * np.pi * generator.random(len(hertz)))
    pink = np.fft.irfft(np.where(heard, phase / np.sqrt(np.maximum(hertz, 1)), 0), n_samples)
    pink = torch.from_numpy(pink[None] / pink.std())
    responses_RL = torch.from_numpy(impulse_responses.synthesise_responses(sample_rate, 8))
    recorded = convolve(pink.expand(8, -1).contiguous(), responses_RL, torch.arange(8))
    # The start of the convolution and one draw of phases: a few hundredths of a decibel.
    np.testing.assert_allclose(20 * np.log10(recorded.std(dim=1).numpy()), 0, rtol=0, atol=0.1)


def test_a_synthetic_microphone_is_the_same_at_another_sample_rate():
    hertz = np.array([100, 300, 1_000, 2_000])
    for low, high in zip(
        impulse_responses.synthesise_responses(32_000, 16),
        impulse_responses.synthesise_responses(48_000, 16),
        strict=True,
    ):
        difference = magnitude_db(low, 32_000, hertz) - magnitude_db(high, 48_000, hertz)
        # Distortion by the bilinear transform far below half the rate, and by the upper limit of
        # the level.
        assert np.abs(difference).max() < 1.0


def test_synthetic_microphones_differ_like_small_microphones():
    responses_RL = impulse_responses.synthesise_responses(32_000)
    bass = [magnitude_db(r, 32_000, 30) - magnitude_db(r, 32_000, 1_000) for r in responses_RL]
    colour = np.stack([magnitude_db(r, 32_000, [300, 1_000, 3_000]) for r in responses_RL])
    assert np.median(bass) < -10
    assert (colour.std(axis=0) > 1.5).all()
    assert np.abs(responses_RL[:, -40:]).max() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((4_000,), "sample_rate=4000, expected at least 8000"), ((32_000, 0), "count=0")],
)
def test_impossible_synthetic_sets_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        impulse_responses.synthesise_responses(*arguments)


def test_hidden_files_and_folders_are_no_impulse_responses(tmp_path):
    write(tmp_path / "a.wav", [1.0])
    identity = impulse_responses.identify_responses(tmp_path)
    (tmp_path / "._a.wav").write_bytes(b"what macOS leaves on disks of others")
    (tmp_path / "folder.wav").mkdir()
    np.testing.assert_array_equal(impulse_responses.load_responses(tmp_path, 32_000), [[1.0]])
    # It remembers what it read.
    other = tmp_path.rename(tmp_path.with_name("moved"))
    assert impulse_responses.identify_responses(other) == identity


def test_odd_files_among_impulse_responses_are_refused_by_name(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(UnfitSound, match="pipe.wav: is no regular file"):
        impulse_responses.identify_responses(tmp_path)
    (tmp_path / "pipe.wav").unlink()
    write(os.fsencode(tmp_path) + b"/caf\xe9.wav", [1.0])
    with pytest.raises(UnfitName, match=r"caf\\xe9.wav: the name is not UTF-8; rename it"):
        impulse_responses.identify_responses(tmp_path)
