import numpy as np
import pytest

from audio.views import Augmentation, draw_changes, training_view

EVERYTHING = Augmentation(
    max_roll_samples=3200,
    impulse_response_probability=0.6,
    max_masked_bands=48,
    max_masked_frames=20,
)


def changes(rows, view, augmentation=EVERYTHING, corpus="tau", spare_samples=0):
    return draw_changes(
        augmentation,
        corpus,
        np.asarray(rows),
        view,
        reference_B=np.asarray(rows) % 2 == 0,
        n_responses=66,
        n_bands=256,
        n_frames=101,
        spare_samples=spare_samples,
    )


def fields(changes):
    return [getattr(changes, name) for name in changes.__slots__]


def test_a_view_is_the_same_in_any_batch_and_order():
    rows = np.random.default_rng(0).permutation(1000)
    together = fields(changes(rows, 3))
    alone = [fields(changes([row], 3)) for row in rows[:20]]
    for index, values in enumerate(together):
        assert values[:20].tolist() == [each[index][0] for each in alone]


def test_a_view_is_the_same_on_every_machine():
    # Recorded when views were introduced: other numbers would invalidate stored views.
    drawn = changes([0, 1, 2, 3], 1)
    assert drawn.roll_B.tolist() == [3157, -1201, -2548, -993]
    assert drawn.response_B.tolist() == [58, -1, 5, -1]


def test_view_0_is_the_untouched_clip():
    drawn = changes(range(100), 0)
    assert (drawn.response_B == -1).all()
    assert not drawn.roll_B.any()
    assert not drawn.band_width_B.any()
    assert not drawn.frame_width_B.any()


def test_view_0_is_the_middle_of_a_longer_clip():
    assert changes(range(5), 0, spare_samples=9).crop_B.tolist() == [4] * 5
    assert not changes(range(5), 0).crop_B.any()


def test_a_window_may_begin_wherever_it_fits():
    crop_B = changes(np.arange(100_000), 3, spare_samples=200).crop_B
    counts = np.bincount(crop_B, minlength=201)
    assert len(counts) == 201
    assert counts.min() > 350  # 498 are expected in each, with a standard deviation of 22
    assert counts.max() < 650


def test_cropping_changes_no_other_draw():
    rows = np.arange(50)
    short, long = fields(changes(rows, 2)), fields(changes(rows, 2, spare_samples=1000))
    for mine, other in zip(short[:-1], long[:-1], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_views_clips_and_corpora_differ():
    rows = np.arange(100)
    base = changes(rows, 1).roll_B
    assert (base != changes(rows, 2).roll_B).mean() > 0.99
    assert (base != changes(rows + 100, 1).roll_B).mean() > 0.99
    assert (base != changes(rows, 1, corpus="demo").roll_B).mean() > 0.99


def test_draws_are_uniform_over_their_whole_range():
    drawn = changes(np.arange(200_000), 7)
    counts = np.bincount(drawn.roll_B + 3200, minlength=6401)
    assert len(counts) == 6401
    assert counts.min() > 0  # 31 are expected in each: none is missing
    assert drawn.roll_B.mean() == pytest.approx(0, abs=3 * 1848 / 447)  # 3 standard errors
    assert np.unique(drawn.band_width_B).tolist() == list(range(48))
    # As published (torchaudio's rule), a mask starts below size - width, so it spares the last band.
    assert (drawn.band_start_B + drawn.band_width_B).max() == 255
    assert (drawn.frame_start_B + drawn.frame_width_B).max() == 100


def test_only_clips_of_the_reference_device_get_responses_with_the_given_probability():
    rows = np.arange(100_000)
    response_B = changes(rows, 5).response_B
    assert (response_B[1::2] == -1).all()
    assert (response_B[::2] >= 0).mean() == pytest.approx(0.6, abs=0.007)  # 3 standard errors
    assert np.unique(response_B[response_B >= 0]).tolist() == list(range(66))


def test_changes_that_are_off_never_happen():
    drawn = changes(np.arange(100), 4, Augmentation())
    assert not drawn.roll_B.any()
    assert (drawn.response_B == -1).all()
    assert not drawn.band_width_B.any()


def test_no_two_seeds_and_epochs_share_a_view():
    views = {training_view(seed, epoch) for seed in range(20) for epoch in range(200)}
    assert len(views) == 4000
    assert 0 not in views
