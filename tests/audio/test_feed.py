import numpy as np
import pytest
import torch
from tiny import AUGMENTATION, FRONT_END, tiny_corpus, tiny_feed

from audio import waveforms
from audio.feed import Feed
from audio.log_mel import LogMel
from audio.views import Augmentation, draw


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def feed(corpus, tmp_path_factory):
    return tiny_feed(corpus, tmp_path_factory.mktemp("cache"))


def test_view_0_is_the_log_mel_of_the_clip_as_it_is(feed, corpus):
    rows_B = np.array([3, 0, 40])
    waveforms_BS = feed._waveforms.batch(rows_B, torch.device("cpu"))
    torch.testing.assert_close(feed.clean(rows_B), LogMel(FRONT_END)(waveforms_BS), rtol=0, atol=0)


def test_a_clip_of_a_view_is_the_same_in_every_batch(feed):
    together = feed.view(np.arange(20), 3)
    backwards = feed.view(np.arange(20)[::-1].copy(), 3).flip(0)
    # Batched transforms may sum in another order: float32 noise of a logarithm.
    torch.testing.assert_close(together, backwards, rtol=0, atol=1e-4)


def test_views_differ_from_each_other_and_from_the_clip(feed):
    rows_B = np.arange(20)
    views = [feed.view(rows_B, view) for view in (0, 1, 2)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        per_clip = (views[first] - views[second]).abs().amax(dim=(1, 2, 3))
        assert (per_clip > 0.1).all()


def test_a_masked_band_is_the_logarithm_of_nothing(feed, corpus):
    rows_B = np.arange(len(corpus))
    changes = draw(
        AUGMENTATION,
        corpus.name,
        rows_B,
        1,
        reference_B=np.zeros(len(corpus), dtype=bool),
        n_responses=2,
        n_bands=FRONT_END.mel_bands,
        n_frames=feed.input_shape[3],
    )
    row = int(np.flatnonzero(changes.band_width_B)[0])
    band = int(changes.band_start_B[row])
    masked = feed.view(rows_B, 1)[row, 0, band]
    assert masked.tolist() == pytest.approx([np.log(1e-5)] * len(masked), rel=1e-6)


def test_mixstyle_happens_in_the_asked_share_of_batches(corpus, feed, tmp_path):
    only_mixstyle = tiny_feed(corpus, tmp_path, Augmentation(mixstyle_probability=0.3))
    rows_B, randomness = np.arange(4), np.random.default_rng(0)
    clean = only_mixstyle.clean(rows_B)
    mixed = sum(
        not torch.equal(only_mixstyle.training_batch(rows_B, 0, randomness), clean)
        for _ in range(300)
    )
    assert mixed == pytest.approx(90, abs=24)  # 3 standard deviations


def test_waveforms_at_another_rate_than_the_front_end_takes_are_refused(corpus, tmp_path):
    decoded = waveforms.decode(corpus, 16_000, cache=tmp_path)
    responses = np.zeros((1, 1), dtype=np.float32)
    with pytest.raises(ValueError, match="16000 Hz, the front-end takes 8000 Hz"):
        Feed(corpus, decoded, FRONT_END, AUGMENTATION, responses, torch.device("cpu"))
