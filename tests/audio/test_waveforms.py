import os

import numpy as np
import pytest
import soundfile
import torch
from corpus_files import SCENES, write_corpus

from audio import waveforms
from audio.corpora import tau
from audio.errors import BrokenAudio

RATE = 32_000


@pytest.fixture
def root(tmp_path):
    return write_corpus(tmp_path / "tau")


def decode(root, tmp_path, **options):
    return waveforms.decode_corpus(
        tau.read(root), RATE, cache=tmp_path / "cache", threads=2, **options
    )


def first_file(root):
    return min((root / "audio").iterdir())


def row_of(root, file):
    return tau.read(root).column("file").tolist().index(f"audio/{file.name}")


def test_a_resampled_tone_keeps_its_pitch_and_level(root, tmp_path):
    corpus = tau.read(root)
    samples_NS = decode(root, tmp_path).samples_NS
    assert samples_NS.shape == (len(corpus), RATE)
    for row in (0, len(corpus) - 1):
        spectrum = np.abs(np.fft.rfft(samples_NS[row] / 32768)) / (RATE / 2)
        assert spectrum.argmax() == SCENES[corpus.column("scene")[row]]  # 1 s: one bin is 1 Hz
        assert spectrum.max() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_every_sample_width_gives_the_same_clip(root, tmp_path, subtype):
    file = first_file(root)
    samples, rate = soundfile.read(file)
    before = decode(root, tmp_path).samples_NS[row_of(root, file)].copy()
    soundfile.write(file, samples, rate, subtype=subtype)
    after = decode(root, tmp_path).samples_NS[row_of(root, file)]
    np.testing.assert_array_equal(after, before)


def test_16_bit_files_at_the_requested_rate_are_decoded_bit_for_bit(root, tmp_path):
    file = first_file(root)
    samples = np.random.default_rng(0).integers(-32768, 32768, RATE).astype(np.int16)
    soundfile.write(file, samples, RATE, subtype="PCM_16")
    np.testing.assert_array_equal(decode(root, tmp_path).samples_NS[row_of(root, file)], samples)


def test_only_a_changed_file_is_decoded_again(root, tmp_path):
    counts = []
    decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    first_time, counts = counts, []
    decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    assert first_time == [57] * 57
    assert counts == []
    file = first_file(root)
    os.utime(file, ns=(1, 1))
    decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    assert counts == [1]


def test_a_stereo_clip_is_averaged_and_counted(root, tmp_path):
    file = first_file(root)
    left, rate = soundfile.read(file)
    soundfile.write(file, np.stack([left, np.zeros_like(left)], axis=1), rate)
    decoded = decode(root, tmp_path)
    mono, _ = soundfile.read(file, always_2d=True)
    assert decoded.mixed_down == 1
    level = np.abs(decoded.samples_NS[row_of(root, file)] / 32768).max()
    assert level == pytest.approx(np.abs(left).max() / 2, rel=0.05)
    assert mono.shape[1] == 2


def test_samples_beyond_full_scale_are_limited_and_counted(root, tmp_path):
    file = first_file(root)
    soundfile.write(file, np.full(RATE, 1.5), RATE, subtype="FLOAT")
    decoded = decode(root, tmp_path)
    assert decoded.saturated == 1
    assert decoded.samples_NS[row_of(root, file)].tolist() == [32767] * RATE


def spoil_nothing(file):
    file.write_bytes(b"")


def spoil_nan(file):
    samples = np.zeros(16_000)
    samples[77] = np.nan
    soundfile.write(file, samples, 16_000, subtype="FLOAT")


def spoil_length(file):
    soundfile.write(file, np.zeros(8_000), 16_000)


def spoil_missing(file):
    file.unlink()


def spoil_text(file):
    file.write_text("not audio")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_nothing, "Format not recognised"),
        (spoil_nan, r"sample 77 is \[nan\], expected finite numbers"),
        (spoil_length, r"lasts 0\.500 s, expected 1\.000 s"),
        (spoil_missing, "No such file"),
        (spoil_text, "Format not recognised"),
    ],
)
def test_a_broken_clip_is_reported_with_its_reason_and_the_others_are_decoded(
    root, tmp_path, spoil, reason
):
    file = first_file(root)
    row = row_of(root, file)
    spoil(file)
    with pytest.raises(
        BrokenAudio, match=rf"1 of 57 clips(?s:.*){file.name}: .*{reason}"
    ) as caught:
        decode(root, tmp_path)
    assert [clip.file for clip in caught.value.broken] == [f"audio/{file.name}"]
    assert "--leave-out-broken" in str(caught.value)
    counts = []
    with pytest.raises(BrokenAudio):
        decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    assert len(counts) <= 1  # only the broken clip is tried again
    corpus = tau.read(root)
    rest = corpus.keep(np.delete(corpus.column("clip_id"), row))
    assert len(waveforms.decode_corpus(rest, RATE, cache=tmp_path / "cache").samples_NS) == 56


def test_loading_decodes_if_there_is_no_map_yet(root, tmp_path):
    corpus = tau.read(root)
    loaded = waveforms.load_waveforms(corpus, RATE, cache=tmp_path / "other machine")
    np.testing.assert_array_equal(loaded.samples_NS, decode(root, tmp_path).samples_NS)


def test_a_batch_is_within_minus_one_and_one_in_the_order_of_the_rows(root, tmp_path):
    decoded = decode(root, tmp_path)
    rows_B = np.array([5, 0, 5])
    batch_BS = decoded.load_batch(rows_B, torch.device("cpu"))
    expected = decoded.samples_NS[rows_B].astype(np.float32) / 32768
    np.testing.assert_array_equal(batch_BS.numpy(), expected)
