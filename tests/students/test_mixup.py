import numpy as np
import pytest
import torch

from students.mixup import Mix, Mixup

CPU = torch.device("cpu")


def test_everything_of_a_clip_is_mixed_alike():
    mix = Mix(torch.tensor([2, 0, 1]), torch.tensor([1.0, 0.25, 0.0]))
    inputs = np.arange(12.0).reshape(3, 1, 2, 2)
    labels = np.eye(3)
    for values in (inputs, labels, labels[:, 0]):
        expected = [
            keep * values[row] + (1 - keep) * values[partner]
            for row, partner, keep in ((0, 2, 1.0), (1, 0, 0.25), (2, 1, 0.0))
        ]
        np.testing.assert_allclose(mix(torch.from_numpy(values)).numpy(), expected)


def test_a_batch_has_one_share_or_every_clip_its_own():
    torch.manual_seed(0)
    assert len(Mixup().draw(64, CPU).keep_B.unique()) == 1
    assert len(Mixup(one_share_per="clip").draw(64, CPU).keep_B.unique()) == 64


def test_the_draws_are_those_of_the_generator_that_a_step_seeds():
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        mix = Mixup(one_share_per="clip").draw(16, CPU)
        drawn.append((mix.partner_B.tolist(), mix.keep_B.tolist()))
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_shares_have_the_spread_of_their_beta_distribution():
    torch.manual_seed(0)
    keep = Mixup(alpha=0.2, one_share_per="clip").draw(20_000, CPU).keep_B.numpy()
    assert keep.mean() == pytest.approx(0.5, abs=0.01)
    # Variance of Beta(a, a): 1 / (4 (2 a + 1)); the tolerances are four standard errors.
    assert keep.var() == pytest.approx(1 / (4 * 1.4), abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"alpha": 0.0}, r"alpha=0\.0"), ({"one_share_per": "epoch"}, "one_share_per='epoch'")],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixup(**arguments)
