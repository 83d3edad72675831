"""Compiled loops give the log-mels that torch's operations give (F mel bands, Q bins, R frames, L lanes)."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import AUGMENTATION, FRONT_END, RATE, tiny_corpus

from audio import augment, cpu_log_mel, waveforms
from audio.cpu_log_mel import CpuLogMel
from audio.feed import Feed
from audio.front_ends import (
    AISFX,
    ASCDOMAIN_CNN,
    AUDIOSET,
    CNN_GRU,
    CP_MOBILE,
    DSMN_FRONT_END,
    TF_SEPNET,
)
from audio.lengths import ClipLength
from audio.log_mel import LogMel
from audio.mel_kernels import make_workspace, plan_bands, split_sum, sum_bands

PUBLISHED = {
    "aisfx": AISFX,
    "ascdomain_cnn": ASCDOMAIN_CNN,
    "audioset": AUDIOSET,
    "cnn_gru": CNN_GRU,
    "cp_mobile": CP_MOBILE,
    "dsmn": DSMN_FRONT_END,
    "tf_sepnet": TF_SEPNET,
}
# On an AMD EPYC all are equal. On other processors MKL may add the products of a band in another order.
ROUNDING = {"rtol": 1e-5, "atol": 0}


@pytest.mark.parametrize("front_end", PUBLISHED.values(), ids=PUBLISHED)
def test_power_is_that_of_torchs_operations_on_rolled_clips(front_end):
    # Three clips: one more than are transformed at a time.
    noise = torch.Generator().manual_seed(0)
    waveforms_BS = 0.1 * torch.randn(3, front_end.sample_rate, generator=noise)
    shifts_B = np.array([0, 5_000, -7])
    rolled_BS = augment.roll(waveforms_BS, torch.from_numpy(shifts_B))
    log_mel = CpuLogMel(front_end)
    power_BFT = torch.empty(front_end.compute_shape(front_end.sample_rate)[1:]).repeat(3, 1, 1)
    log_mel.fill_power(power_BFT, waveforms_BS, shifts_B)
    expected_BFT = LogMel(front_end).power_mel(rolled_BS)
    torch.testing.assert_close(power_BFT, expected_BFT, **ROUNDING)
    assert torch.equal(log_mel.power_mel(rolled_BS), power_BFT)


@pytest.mark.parametrize("n_frames", [1, 8, 11])
def test_products_are_added_bin_by_bin_with_one_rounding_each(n_frames):
    generator, n_bins = np.random.default_rng(0), 400
    parts_RQ2 = generator.standard_normal((n_frames, n_bins, 2), np.float32)
    bank_QF = generator.random((n_bins, 16), np.float32)
    bank_QF[:30, :8] = 0
    bands = plan_bands([(slice(0, n_bins), bank_QF)])
    power_FR = np.empty((16, n_frames), np.float32)
    spectra_RQ = parts_RQ2.view(np.complex64)[..., 0]
    work = make_workspace(n_bins)
    sum_bands(spectra_RQ, bands.pieces_P4, bands.weights, n_frames, 16, work, power_FR.reshape(-1))

    squares_RQ2 = np.square(parts_RQ2)
    power_RQ = squares_RQ2[..., 0] + squares_RQ2[..., 1]
    cuts = split_sum(n_bins)
    expected_FR = np.zeros_like(power_FR)
    for start, stop in itertools.pairwise(cuts):
        sum_FR = np.zeros_like(power_FR)
        for q in range(start, stop):
            # No digit of the product is lost before it is added.
            product_FR = np.multiply.outer(bank_QF[q], power_RQ[:, q], dtype=np.longdouble)
            sum_FR = (product_FR + sum_FR).astype(np.float32)
        expected_FR += sum_FR
    np.testing.assert_array_equal(power_FR, expected_FR)


def test_long_sums_are_split_as_mkl_splits_them():
    assert split_sum(20) == [0, 20]
    assert split_sum(192) == [0, 192]
    assert split_sum(273) == [0, 136, 272, 273]
    assert split_sum(384) == [0, 192, 384]
    assert split_sum(404) == [0, 192, 384, 404]


@pytest.mark.parametrize(
    "length",
    [
        ClipLength(),
        ClipLength(how="crop", duration_s=0.5),
        ClipLength(how="pad", duration_s=1.5),
        ClipLength(how="repeat", duration_s=2.2),
    ],
    ids=lambda length: length.how,
)
def test_a_feed_gives_the_same_with_many_threads_which_share_torchs_operations(
    tmp_path, monkeypatch, length
):
    corpus = tiny_corpus(tmp_path)
    decoded = waveforms.decode_corpus(corpus, RATE, cache=tmp_path / "cache")
    front_end = replace(FRONT_END, mel_bands=32, pre_emphasis=0.97)
    changes = replace(AUGMENTATION, max_masked_frames=5, mixstyle_probability=1.0)
    responses_RL = np.array([[0.5, 0.5, 0.0], [1.0, -0.9, 0.2]], np.float32)
    device = torch.device("cpu")
    feed = Feed(corpus, decoded, front_end, changes, responses_RL, device, length)

    def make_batch() -> torch.Tensor:
        return feed.make_training_batch(np.arange(40), 3, np.random.default_rng(1))

    fast_BCFT = make_batch()
    monkeypatch.setattr(cpu_log_mel, "MOST_THREADS", 0)
    # Rounding, in logarithms.
    torch.testing.assert_close(fast_BCFT, make_batch(), rtol=0, atol=2e-4)


def test_bands_that_are_no_blocks_of_sixteen_are_left_to_torch():
    with pytest.raises(ValueError, match="mel_bands=24, expected a multiple of 16: use LogMel"):
        CpuLogMel(FRONT_END)


def test_a_waveform_that_needs_a_gradient_is_refused():
    waveforms_BS = torch.zeros(1, AUDIOSET.sample_rate, requires_grad=True)
    with pytest.raises(RuntimeError, match="requires grad"):
        CpuLogMel(AUDIOSET)(waveforms_BS)
