import numpy as np
import pytest
import torch

from students.mixup import Mix, draw_mix
from students.recipe import Mixup

CPU = torch.device("cpu")


def test_all_values_of_a_clip_are_mixed_alike():
    mix = Mix(torch.tensor([2, 0, 1]), torch.tensor([1.0, 0.25, 0.0]))
    inputs = np.arange(12.0).reshape(3, 1, 2, 2)
    labels = np.eye(3)
    for values in (inputs, labels, labels[:, 0]):
        expected = [
            keep * values[row] + (1 - keep) * values[partner]
            for row, partner, keep in ((0, 2, 1.0), (1, 0, 0.25), (2, 1, 0.0))
        ]
        np.testing.assert_allclose(mix(torch.from_numpy(values)).numpy(), expected)


def test_shares_are_drawn_per_batch_or_per_clip():
    torch.manual_seed(0)
    assert len(draw_mix(Mixup(), 64, CPU).keep_B.unique()) == 1
    assert len(draw_mix(Mixup(one_share_per="clip"), 64, CPU).keep_B.unique()) == 64


def test_draws_use_the_generator_that_a_step_seeds():
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        mix = draw_mix(Mixup(one_share_per="clip"), 16, CPU)
        drawn.append((mix.partner_B.tolist(), mix.keep_B.tolist()))
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_shares_have_the_spread_of_their_beta_distribution():
    torch.manual_seed(0)
    keep = draw_mix(Mixup(alpha=0.2, one_share_per="clip"), 20_000, CPU).keep_B.numpy()
    assert keep.mean() == pytest.approx(0.5, abs=0.01)
    # Variance of Beta(a, a): 1 / (4 (2 a + 1)); the tolerances are four standard errors.
    assert keep.var() == pytest.approx(1 / (4 * 1.4), abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"alpha": 0.0}, r"alpha=0\.0"), ({"one_share_per": "epoch"}, "one_share_per='epoch'")],
)
def test_settings_that_cannot_be_drawn_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixup(**arguments)
