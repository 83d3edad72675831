from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import AUGMENTATION, FRONT_END, RATE, tiny_corpus, tiny_feed

from audio import augment, clip_maps, waveforms
from audio import feed as feed_module
from audio.errors import UnfitLength
from audio.feed import Feed
from audio.lengths import ClipLength
from audio.log_mel import LogMel
from audio.views import Augmentation, draw_changes

RESPONSES_RL = np.array([[0.5, 0.5, 0.0], [1.0, -0.9, 0.2]], dtype=np.float32)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def decoded(corpus, tmp_path_factory):
    return waveforms.decode_corpus(corpus, RATE, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def feed(corpus, tmp_path_factory):
    return tiny_feed(corpus, tmp_path_factory.mktemp("cache"))


def sounds(corpus, decoded, length, augmentation=AUGMENTATION):
    """Return a function from (rows, view) to the waveforms that reach the front-end."""
    feed = Feed(corpus, decoded, FRONT_END, augmentation, RESPONSES_RL, CPU, length)
    heard = []
    power_mel = feed._log_mel.power_mel

    def listen(waveforms_BS):
        heard.append(waveforms_BS)
        return power_mel(waveforms_BS)

    def waveforms_of(rows_B, view):
        heard.clear()
        feed.make_view(np.asarray(rows_B), view)
        return torch.cat(heard)

    feed._log_mel.power_mel = listen

    return waveforms_of


def drawn(corpus, rows_B, view, spare_samples=0):
    return draw_changes(
        AUGMENTATION,
        corpus.name,
        rows_B,
        view,
        reference_B=corpus.column("recording_device")[rows_B] == corpus.reference_device,
        n_responses=2,
        n_bands=FRONT_END.mel_bands,
        n_frames=FRONT_END.count_frames(RATE),
        spare_samples=spare_samples,
    )


def test_view_0_is_the_log_mel_of_the_unchanged_clip(feed, decoded):
    rows_B = np.array([3, 0, 40])
    waveforms_BS = torch.from_numpy(decoded.samples_NS[rows_B]) / 32768
    torch.testing.assert_close(
        feed.make_view(rows_B, 0), LogMel(FRONT_END)(waveforms_BS), rtol=0, atol=0
    )


def test_a_view_applies_the_changes_one_after_the_other(corpus, decoded):
    rows_B = np.arange(len(corpus))
    changes = drawn(corpus, rows_B, 5)
    assert (changes.response_B >= 0).any()
    assert (changes.response_B < 0).any()
    expected = []
    for row, response, shift in zip(rows_B, changes.response_B, changes.roll_B, strict=True):
        clip_S = decoded.samples_NS[row] / 32768
        if response >= 0:
            clip_S = np.convolve(clip_S, RESPONSES_RL[response])[:RATE]
        expected.append(np.roll(clip_S, shift))
    heard = sounds(corpus, decoded, ClipLength())(rows_B, 5).numpy()
    # Rounding of float32 transforms of waveforms within -1...1.
    np.testing.assert_allclose(heard, np.stack(expected), rtol=0, atol=2e-6)
    untouched = changes.response_B < 0
    np.testing.assert_array_equal(heard[untouched], np.stack(expected)[untouched])


@pytest.mark.parametrize("view", [0, 5])
def test_the_waveforms_of_a_view_are_what_the_front_end_hears(corpus, decoded, feed, view):
    rows_B = np.arange(len(corpus))
    heard_BS = sounds(corpus, decoded, ClipLength())(rows_B, view)
    torch.testing.assert_close(feed.make_waveforms(rows_B, view), heard_BS, rtol=0, atol=0)


def test_a_corpus_without_a_reference_device_gets_no_impulse_responses(corpus, decoded):
    rows_B = np.arange(len(corpus))
    without = replace(corpus, reference_device=None)
    silent = replace(AUGMENTATION, impulse_response_probability=0.0)
    heard = sounds(without, decoded, ClipLength())(rows_B, 5)
    assert torch.equal(heard, sounds(corpus, decoded, ClipLength(), silent)(rows_B, 5))


def test_a_view_of_a_clip_is_the_same_in_every_batch(feed):
    together = feed.make_view(np.arange(20), 3)
    backwards = feed.make_view(np.arange(20)[::-1].copy(), 3).flip(0)
    # Batched transforms may sum in another order: float32 rounding, in logarithms.
    torch.testing.assert_close(together, backwards, rtol=0, atol=1e-4)


def test_a_batch_computed_in_parts_equals_the_whole_batch(corpus, decoded, feed, monkeypatch):
    rows_B = np.arange(len(corpus))
    monkeypatch.setattr(feed_module, "CLIPS_AT_A_TIME", 5)
    in_parts = feed.make_view(rows_B, 3)
    monkeypatch.setattr(feed_module, "CLIPS_AT_A_TIME", 100)
    # As in the test above.
    torch.testing.assert_close(in_parts, feed.make_view(rows_B, 3), rtol=0, atol=1e-4)


def test_views_differ_from_each_other_and_from_the_clip(feed):
    rows_B = np.arange(20)
    views = [feed.make_view(rows_B, view) for view in (0, 1, 2)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        per_clip = (views[first] - views[second]).abs().amax(dim=(1, 2, 3))
        assert (per_clip > 0.1).all()


def test_a_masked_band_is_the_logarithm_of_zero_power(feed, corpus):
    rows_B = np.arange(len(corpus))
    changes = drawn(corpus, rows_B, 1)
    row = int(np.flatnonzero(changes.band_width_B)[0])
    band = int(changes.band_start_B[row])
    masked = feed.make_view(rows_B, 1)[row, 0, band]
    assert masked.tolist() == pytest.approx([np.log(1e-5)] * len(masked), rel=1e-6)


def test_mixstyle_is_applied_to_the_given_share_of_batches(corpus, feed, tmp_path):
    only_mixstyle = tiny_feed(corpus, tmp_path, Augmentation(mixstyle_probability=0.3))
    rows_B, randomness = np.arange(4), np.random.default_rng(0)
    clean = only_mixstyle.make_view(rows_B, 0)
    mixed = sum(
        not torch.equal(only_mixstyle.make_training_batch(rows_B, 0, randomness), clean)
        for _ in range(300)
    )
    assert mixed == pytest.approx(90, abs=24)  # 3 standard deviations


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_split_over_workers_equals_that_of_one_worker(feed, seed):
    rows_B = np.random.default_rng(seed).permutation(57)[:11]
    shares = (slice(0, 4), slice(4, 11))
    whole = feed.make_training_batch(rows_B, 2, np.random.default_rng(seed))
    seen = [None, None]

    def worker(number, gather):
        randomness = np.random.default_rng(seed)
        inputs = feed.make_training_batch(rows_B, 2, randomness, shares[number], gather)
        return inputs, randomness.random()

    def tell(number, own):
        seen[number] = own
        return torch.zeros(11, *own.shape[1:])

    for number in (0, 1):
        worker(number, lambda own, number=number: tell(number, own))
    (first, next_draw), (second, other_draw) = (
        worker(number, lambda own: torch.cat(seen)) for number in (0, 1)
    )
    # Products and sums over another number of clips may add in another order, in logarithms.
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-4)
    assert next_draw == other_draw
    assert (seen[0] is None) == torch.equal(whole, feed.make_view(rows_B, 2))


def test_mixing_is_the_published_one_with_the_drawn_permutation_and_weights(corpus, decoded):
    always = replace(AUGMENTATION, mixstyle_probability=1.0)
    feed = Feed(corpus, decoded, FRONT_END, always, RESPONSES_RL, CPU)
    rows_B, randomness = np.arange(9), np.random.default_rng(1)
    mixed = feed.make_training_batch(rows_B, 4, np.random.default_rng(1))
    randomness.random()
    permutation_B = torch.from_numpy(randomness.permutation(9))
    alpha = always.mixstyle_alpha
    lambda_B = torch.from_numpy(randomness.beta(alpha, alpha, size=9).astype(np.float32))
    expected = augment.freq_mixstyle(feed.make_view(rows_B, 4), permutation_B, lambda_B)
    assert torch.equal(mixed, expected)


def test_a_padded_clip_is_the_clip_followed_by_silence(corpus, decoded):
    rows_B = [1, 7, 30]
    for view in (0, 3):
        native = sounds(corpus, decoded, ClipLength())(rows_B, view)
        padded = sounds(corpus, decoded, ClipLength(how="pad", duration_s=1.75))(rows_B, view)
        assert padded.shape == (3, 14_000)
        assert torch.equal(padded[:, :RATE], native)
        assert not padded[:, RATE:].any()


def test_a_repeated_clip_is_cut_off_at_the_end(corpus, decoded):
    rows_B = [1, 7, 30]
    for view in (0, 3):
        native = sounds(corpus, decoded, ClipLength())(rows_B, view)
        repeated = sounds(corpus, decoded, ClipLength(how="repeat", duration_s=2.5))(rows_B, view)
        assert torch.equal(repeated, torch.cat([native, native, native[:, : RATE // 2]], dim=1))


def test_a_crop_is_the_middle_in_view_0_and_a_random_window_in_others(corpus, decoded):
    rows_B, crop = np.arange(12), ClipLength(how="crop", duration_s=0.5)
    plain = sounds(corpus, decoded, crop, Augmentation())
    clips_BS = torch.from_numpy(decoded.samples_NS[rows_B]) / 32768
    assert torch.equal(plain(rows_B, 0), clips_BS[:, 2_000:6_000])
    starts_B = drawn(corpus, rows_B, 3, spare_samples=4_000).crop_B
    expected = [
        clip_S[start : start + 4_000] for clip_S, start in zip(clips_BS, starts_B, strict=True)
    ]
    assert torch.equal(plain(rows_B, 3), torch.stack(expected))
    assert len(set(starts_B)) > 6


def test_a_roll_stays_within_the_cropped_window(corpus, decoded):
    rows_B, crop = np.arange(12), ClipLength(how="crop", duration_s=0.5)
    only_roll = Augmentation(max_roll_samples=800)
    rolled = sounds(corpus, decoded, crop, only_roll)(rows_B, 3)
    cut = sounds(corpus, decoded, crop, Augmentation())(rows_B, 3)
    assert not torch.equal(rolled, cut)
    assert torch.equal(rolled.sort(dim=1).values, cut.sort(dim=1).values)


@pytest.mark.parametrize(
    ("length", "samples"),
    [
        (ClipLength(how="crop", duration_s=0.5), 4_000),
        (ClipLength(how="repeat", duration_s=3.0), 24_000),
    ],
)
def test_the_input_shape_follows_from_the_length(corpus, decoded, length, samples):
    feed = Feed(corpus, decoded, FRONT_END, AUGMENTATION, RESPONSES_RL, CPU, length)
    assert feed.input_shape == (1, *FRONT_END.compute_shape(samples))
    assert feed.make_view(np.arange(3), 1).shape == (3, *feed.input_shape[1:])
    assert feed.count_input_bytes(np.arange(3)) == feed.make_view(np.arange(3), 0).nbytes


def test_an_impossible_length_is_refused_when_the_feed_is_made(corpus, decoded):
    length = ClipLength(how="crop", duration_s=2.0)
    with pytest.raises(UnfitLength, match="clips of 1 s cannot become 2 s by crop"):
        Feed(corpus, decoded, FRONT_END, AUGMENTATION, RESPONSES_RL, CPU, length)


def test_waveforms_at_another_rate_than_the_front_ends_are_refused(corpus, tmp_path):
    decoded = waveforms.decode_corpus(corpus, 16_000, cache=tmp_path)
    with pytest.raises(ValueError, match="16000 Hz, the front-end takes 8000 Hz"):
        Feed(corpus, decoded, FRONT_END, AUGMENTATION, RESPONSES_RL, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("share", [0.25, 0.0], ids=["in GPU memory", "gathered on the host"])
def test_a_training_batch_on_a_gpu_equals_that_of_the_cpu_and_does_not_wait(
    corpus, decoded, monkeypatch, share
):
    monkeypatch.setattr(clip_maps, "RESIDENT_SHARE", share)
    arguments = (corpus, decoded, FRONT_END, AUGMENTATION, RESPONSES_RL)
    gpu, cpu = Feed(*arguments, torch.device("cuda")), Feed(*arguments, CPU)
    rows_B = np.arange(24)
    gpu.make_training_batch(
        rows_B, 1, np.random.default_rng(0)
    )  # makes the plans of the transforms
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = [
            gpu.make_training_batch(rows_B, 1, np.random.default_rng(seed)) for seed in range(4)
        ]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for seed, batch in enumerate(batches):
        expected = cpu.make_training_batch(rows_B, 1, np.random.default_rng(seed))
        # Rounding of two float32 transforms, in logarithms.
        torch.testing.assert_close(batch.cpu(), expected, rtol=0, atol=1e-3)
