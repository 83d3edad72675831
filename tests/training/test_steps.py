"""Which clips the steps of a run learn from, with and without a pool."""

from types import SimpleNamespace

import numpy as np
import pytest

from training import PoolUse
from training.steps import StepPlan

ROWS = {"fit": np.arange(10), "select": np.arange(10, 13), "pool": np.arange(20, 50)}


def plan(pool=None, clips_per_epoch=None, batch_size=8):
    def rows(split, *folds):
        return np.concatenate([ROWS[fold] for fold in folds])

    recipe = SimpleNamespace(
        clips_per_epoch=clips_per_epoch, batch_size=batch_size, max_epochs=3, max_steps=None
    )
    feed = SimpleNamespace(corpus=SimpleNamespace(rows=rows))
    run = SimpleNamespace(recipe=recipe, feed=feed, split=25, seed=4, protocol="honest", pool=pool)
    return StepPlan.of(run)


def drawn(planned, epoch=0):
    return np.concatenate(planned.draw_epoch(epoch))


def test_without_a_pool_the_draws_are_permutations_of_fit_as_ever():
    batches = plan().draw_epoch(2)
    expected = np.random.default_rng([4, 0, 2]).permutation(ROWS["fit"])
    assert [len(batch) for batch in batches] == [8, 2]
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_with_its_natural_share_an_epoch_has_each_clip_of_fit_and_pool_once():
    planned = plan(PoolUse())
    assert planned.steps_per_epoch == 5
    everything = np.concatenate([ROWS["fit"], ROWS["pool"]])
    np.testing.assert_array_equal(np.sort(drawn(planned)), everything)
    first = planned.draw_epoch(0)[0]
    assert (first < 20).any()
    assert (first >= 20).any()
    assert len(drawn(plan(PoolUse(), clips_per_epoch=16))) == 16


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
def test_a_share_of_the_pool_is_that_of_each_batch_and_exact_over_an_epoch(share):
    planned = plan(PoolUse(share=share), clips_per_epoch=64)
    batches = planned.draw_epoch(0)
    counts = [int((batch >= 20).sum()) for batch in batches]
    assert all(abs(count - share * len(b)) < 1 for count, b in zip(counts, batches, strict=True))
    assert sum(counts) == round(share * 64)
    own = np.bincount(np.concatenate(batches))[:10]
    assert own.max() - own.min() <= 1


def test_a_first_stage_learns_from_the_pool_alone():
    np.testing.assert_array_equal(np.sort(drawn(plan(PoolUse(alone=True)))), ROWS["pool"])


def test_a_share_is_of_batches_that_hold_other_clips_too():
    for wrong in ({"share": 0.0}, {"share": 1.0}, {"share": 0.5, "alone": True}):
        with pytest.raises(ValueError, match="expected a share between 0 and 1"):
            PoolUse(**wrong)
