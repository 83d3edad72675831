"""Clips of the reference device get the colours of others, as their own names say which they are."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny import AUGMENTATION, tiny_corpus, tiny_feed

from audio import modulation
from audio.corpora import demo
from audio.errors import CorpusError
from audio.modulation import find_pairs
from audio.views import Augmentation, SpectrumModulation
from logit_store import fingerprint


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The corpus of tones, whose devices a, b and s1 record each sound at once by their names."""
    made = tiny_corpus(tmp_path_factory.mktemp("tones"))
    # Each device's clip has another number of a cut.
    names = [re.sub(r"-0-\d-", "-0-0-", name) for name in made.column("clip_id")]
    return replace(made, table=made.table.set_column(1, "clip_id", pa.array(names)))


@pytest.fixture(scope="module")
def feed(corpus, tmp_path_factory):
    always = SpectrumModulation(modulation_probability=1.0)
    made = tiny_feed(corpus, tmp_path_factory.mktemp("cache"), always)
    made.learn_colours(100)
    return made


def test_pairs_are_clips_of_fit_that_two_devices_recorded_at_once(corpus):
    pairs_P2 = find_pairs(corpus, 100)
    assert np.isin(pairs_P2, corpus.rows(100, "fit")).all()
    names, devices = corpus.column("clip_id"), corpus.column("recording_device")
    assert set(devices[pairs_P2[:, 0]]) == {"a"}
    assert set(devices[pairs_P2[:, 1]]) == {"b", "s1"}
    for one, other in pairs_P2:
        assert names[one].rpartition("-")[0] == names[other].rpartition("-")[0]
    n_reference = (devices[corpus.rows(100, "fit")] == "a").sum()
    assert len(pairs_P2) == 2 * n_reference


def test_a_corpus_without_such_clips_is_refused_by_name():
    with pytest.raises(
        CorpusError, match="corpus demo in .* split 5: .* leave out the way modulated"
    ):
        find_pairs(replace(demo.read(), reference_device="nobody"), 5)


def test_only_clips_of_the_reference_device_are_coloured_all_by_one_measured_difference(
    corpus, feed
):
    rows_B = corpus.rows(100, "fit")
    plain = feed.make_view(rows_B, 0)
    coloured = feed.make_training_batch(rows_B, 0, np.random.default_rng(3))
    reference_B = torch.from_numpy(corpus.column("recording_device")[rows_B] == "a")
    torch.testing.assert_close(coloured[~reference_B], plain[~reference_B], rtol=0, atol=0)
    # The front-end takes natural logarithms of power.
    moved_BFT = ((coloured - plain)[reference_B] / np.log(10)).squeeze(1)
    moved_F = moved_BFT.mean((0, 2))
    nearest = (feed._colours_MF - moved_F).abs().mean(1)
    assert nearest.min() < 0.1 * moved_F.abs().mean()


def test_a_colour_is_the_other_devices_mean_spectrum_minus_the_reference_devices(corpus, feed):
    pairs_P2 = find_pairs(corpus, 100)
    assert len(feed._colours_MF) == len(pairs_P2)
    reference, other = (
        (feed._make_power(pairs_P2[:1, place], 0)[0].double() + 1e-10).log10().mean(1)
        for place in (0, 1)
    )
    torch.testing.assert_close(feed._colours_MF[0].double(), other - reference, atol=1e-4, rtol=0)


def test_some_pairs_are_spread_over_all_and_silence_is_no_power_but_the_smallest(
    corpus, monkeypatch
):
    monkeypatch.setattr(modulation, "MOST_PAIRS", 2)
    pairs_P2, is_reference_N = find_pairs(corpus, 100), corpus.column("recording_device") == "a"
    heard = []

    def make_power(rows):
        heard.append(rows)
        return torch.from_numpy(is_reference_N[rows])[:, None, None] * torch.ones(1, 3, 4)

    colours_MF = modulation.measure_colours(corpus, 100, make_power)
    other, reference = heard
    assert np.stack([reference, other], 1).tolist() == pairs_P2[[0, -1]].tolist()
    torch.testing.assert_close(colours_MF, torch.full((2, 3), -10.0))


def test_twelve_of_thirteen_batches_are_coloured(corpus, feed):
    some = replace(feed.augmentation, modulation_probability=12 / 13)
    assert SpectrumModulation().modulation_probability == some.modulation_probability
    rows_B, randomness = corpus.rows(100, "fit")[:2], np.random.default_rng(0)
    power_BFT = torch.ones(2, feed.input_shape[2], 1)
    feed.augmentation, before = some, feed.augmentation
    coloured = sum(
        not torch.equal(feed._colour(power_BFT, rows_B[:2], randomness), power_BFT)
        for _ in range(390)
    )
    feed.augmentation = before
    assert coloured == pytest.approx(360, abs=20)


def test_without_modulation_batches_draw_what_they_drew_and_recipes_keep_their_fingerprints(
    corpus, tmp_path
):
    plain = tiny_feed(corpus, tmp_path, AUGMENTATION)
    plain.learn_colours(100)
    rows_B = corpus.rows(100, "fit")[:8]
    first = plain.make_training_batch(rows_B, 1, np.random.default_rng(0))
    fresh = tiny_feed(corpus, tmp_path, AUGMENTATION)
    torch.testing.assert_close(
        first, fresh.make_training_batch(rows_B, 1, np.random.default_rng(0))
    )
    assert fingerprint(Augmentation()) == "8aec8fc164fc"
