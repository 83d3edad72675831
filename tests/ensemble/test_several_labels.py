"""Selection where a clip has several labels or none (M members, N clips, K classes)."""

from itertools import pairwise

import numpy as np
import pytest

import ensemble
from ensemble.objectives import LogLossOfLogits
from ensemble.several import from_choices, to_choices
from metrics import log_loss, mean_average_precision

M, N, K = 8, 90, 4
RNG = np.random.default_rng(0)
TARGETS_NK = (RNG.random((N, K)) < 0.3).astype(np.int64)
SKILLS_M = np.linspace(0.2, 2, M)
LOGITS_MNK = (
    SKILLS_M[:, None, None] * (4 * TARGETS_NK - 2) + 2 * RNG.normal(size=(M, N, K)) - 0.5
).astype(np.float16)


def mean_in(space, members):
    chosen = LOGITS_MNK[list(members)].astype(np.float64)
    if space == "logits":
        return chosen.mean(axis=0)
    p_NK = (1 / (1 + np.exp(-chosen))).mean(axis=0)
    return np.log(p_NK) - np.log1p(-p_NK)


def select_slowly(space, loss):
    """Return members and losses of the greedy path, each candidate tried in the plainest way."""
    members, path = [], []
    while len(members) < M:
        found = {m: loss(mean_in(space, [*members, m])) for m in range(M) if m not in members}
        best = min(found, key=found.__getitem__)
        if path and found[best] >= path[-1] - 1e-12:
            break
        members.append(best)
        path.append(found[best])
    return members, path


@pytest.mark.parametrize("space", ["logits", "probabilities"])
def test_choices_are_selected_by_the_binary_log_loss(compiled, space):
    found = ensemble.select(to_choices(LOGITS_MNK), TARGETS_NK.ravel(), space=space)
    members, path = select_slowly(space, lambda mean_NK: log_loss(mean_NK, TARGETS_NK))
    assert list(found.members) == members
    assert found.losses == pytest.approx(path)
    assert len(members) > 1


def test_most_candidates_are_pruned_exactly(compiled, monkeypatch):
    tried = []
    compute = LogLossOfLogits.approximate
    monkeypatch.setattr(
        LogLossOfLogits,
        "approximate",
        lambda self, candidates, limit: (
            tried.extend(candidates) or compute(self, candidates, limit)
        ),
    )
    many_MNK = np.concatenate([LOGITS_MNK, *(-LOGITS_MNK * scale for scale in (1, 2, 3, 4))])
    found = ensemble.select(to_choices(many_MNK), TARGETS_NK.ravel())
    expected = ensemble.select(to_choices(LOGITS_MNK), TARGETS_NK.ravel())
    assert found.members == expected.members
    # No tangent is known in the first step; later ones try a few of all that are left.
    assert len(tried) - len(many_MNK) < len(many_MNK) * len(found.members) / 4


@pytest.mark.parametrize("space", ["logits", "probabilities"])
def test_selection_by_map_tries_every_candidate(compiled, space):
    found = ensemble.select(LOGITS_MNK, TARGETS_NK, space=space, metric="mean_average_precision")
    members, path = select_slowly(
        space, lambda mean_NK: 1 - mean_average_precision(mean_NK, TARGETS_NK)
    )
    assert list(found.members) == members
    assert found.losses == pytest.approx(path)
    assert all(later < earlier for earlier, later in pairwise(found.losses))


@pytest.mark.parametrize("space", ["logits", "probabilities"])
def test_the_mean_is_log_odds_and_soft_labels_are_its_sigmoid(compiled, space):
    weights_M = np.full(M, 1 / M)
    mean_NK = ensemble.mean_logits(LOGITS_MNK, weights_M, space=space, several=True)
    expected_NK = mean_in(space, range(M))
    assert np.allclose(mean_NK, expected_NK, atol=1e-5)
    soft_NK = ensemble.soft_labels(LOGITS_MNK, weights_M, 2.0, space=space, several=True)
    assert np.allclose(soft_NK, 1 / (1 + np.exp(-expected_NK / 2)), atol=1e-6)


def test_a_mean_of_sure_probabilities_keeps_its_log_odds(compiled):
    logits_MNK = np.array([[[300.0, -300.0]], [[300.0, -300.0]]], np.float32)
    mean_NK = ensemble.mean_logits(logits_MNK, [0.5, 0.5], space="probabilities", several=True)
    assert mean_NK.tolist() == [[300, -300]]


def test_choices_give_back_what_they_were_made_of():
    assert np.array_equal(from_choices(to_choices(LOGITS_MNK), K), LOGITS_MNK)


def test_bags_by_map_are_refused(compiled):
    with pytest.raises(ValueError, match="not done in bags"):
        ensemble.select_in_bags(
            LOGITS_MNK, TARGETS_NK, np.arange(N), metric="mean_average_precision"
        )
