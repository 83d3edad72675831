"""Nested selection (M members, N clips, K classes)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ensemble import Optimism, convex_weights, estimate_optimism, mean_logits, select
from metrics import log_loss

SPACES = ("logits", "probabilities")


def members(
    seed: int = 0, n_members: int = 40, n_groups: int = 30, clips_each: int = 5, n_classes: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits of members of equal skill, labels, and groups whose clips are alike."""
    generator = np.random.default_rng(seed)
    groups_N = np.repeat(np.arange(n_groups), clips_each)
    labels_N = generator.integers(n_classes, size=n_groups)[groups_N]
    logits_MNK = generator.normal(0, 1, (n_members, n_groups, n_classes))[:, groups_N]
    logits_MNK += generator.normal(0, 0.3, logits_MNK.shape)
    logits_MNK[:, np.arange(len(labels_N)), labels_N] += 1
    return logits_MNK, labels_N, groups_N


def best_member(logits_MNK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    losses_M = [log_loss(logits_NK, labels_N) for logits_NK in logits_MNK]
    return np.eye(len(logits_MNK))[np.argmin(losses_M)]


def on(choose: Any, logits_MNK: np.ndarray, labels_N: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function that chooses by the clips of some rows."""
    return lambda rows: choose(logits_MNK[:, rows], labels_N[rows])


def estimated(choose: Any, problem: Any, **options: Any) -> Optimism:
    logits_MNK, labels_N, groups_N = problem
    return estimate_optimism(
        logits_MNK, labels_N, groups_N, on(choose, logits_MNK, labels_N), **options
    )


def plain_mean(logits_MNK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    return np.full(len(logits_MNK), 1 / len(logits_MNK))


def test_leaving_each_group_out_is_done_by_hand_in_the_same_way() -> None:
    logits_MNK, labels_N, groups_N = members()
    found = estimated(convex_weights, (logits_MNK, labels_N, groups_N), n_folds=None)
    everywhere_M = convex_weights(logits_MNK, labels_N)
    selected_on = log_loss(mean_logits(logits_MNK, everywhere_M), labels_N)
    total = 0.0
    for group in range(30):
        inside = groups_N == group
        weights_M = convex_weights(logits_MNK[:, ~inside], labels_N[~inside])
        total += 5 * log_loss(mean_logits(logits_MNK[:, inside], weights_M), labels_N[inside])
    assert found.n_folds == 30
    assert found.selected_on == pytest.approx(selected_on, rel=1e-12)
    assert found.nested == pytest.approx(total / 150, rel=1e-12)
    assert found.optimism.value == pytest.approx(total / 150 - selected_on, rel=1e-9)
    assert found.optimism.low < found.optimism.value < found.optimism.high


@pytest.mark.parametrize("space", SPACES)
def test_the_plain_mean_of_all_is_not_optimistic(space: Any) -> None:
    found = estimated(plain_mean, members(), space=space)
    assert found.optimism.value == found.optimism.low == found.optimism.high == 0
    assert found.nested == found.selected_on


def test_a_fold_is_judged_by_a_selection_that_did_not_see_its_groups() -> None:
    logits_MNK, labels_N, groups_N = members()
    seen = []

    def choose(rows: np.ndarray) -> np.ndarray:
        seen.append(set(groups_N[rows].tolist()))
        return plain_mean(logits_MNK, labels_N)

    estimate_optimism(logits_MNK, labels_N, groups_N, choose, n_folds=4)
    everything, *folds = seen
    assert everything == set(range(30))
    left_out = [everything - fold for fold in folds]
    assert sorted(map(len, left_out)) == [7, 7, 8, 8]
    assert sorted(group for fold in left_out for group in fold) == list(range(30))


def gain(logits_MNK: Any, labels_N: Any, weights_M: Any, equal_M: Any) -> float:
    """Return by how much the log loss is below that of the plain mean."""
    loss, plain = (
        log_loss(mean_logits(logits_MNK, some_M), labels_N) for some_M in (weights_M, equal_M)
    )
    return plain - loss


@pytest.mark.parametrize(
    "choose",
    [
        best_member,
        convex_weights,
        lambda logits_MNK, labels_N: select(logits_MNK, labels_N).weights,
    ],
    ids=["best member", "convex weights", "stepwise selection"],
)
def test_the_estimate_is_what_fresh_clips_tell_on_average(choose: Any) -> None:
    estimates, errors = [], []
    for seed in range(40):
        # The members have equal skill, so every choice is chance.
        logits_MNK, labels_N, groups_N = members(seed, 10, n_groups=100, clips_each=1)
        found = estimated(choose, (logits_MNK, labels_N, groups_N))
        fresh_MNK, fresh_N, _ = members(1000 + seed, 10, n_groups=2000, clips_each=1)

        # Minus that of the plain mean, as fresh clips may be harder or easier.
        chosen_M, equal_M = choose(logits_MNK, labels_N), plain_mean(logits_MNK, labels_N)
        gained = gain(logits_MNK, labels_N, chosen_M, equal_M)
        truth = gained - gain(fresh_MNK, fresh_N, chosen_M, equal_M)
        estimates.append(found.optimism.value)
        errors.append(found.optimism.value - truth)
    standard_error = np.std(errors) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) < 3 * standard_error
    # Otherwise the bound above would mean nothing.
    assert np.mean(estimates) > 6 * standard_error


def test_the_same_seed_gives_the_same_figures_and_another_seed_other_folds() -> None:
    first, again, other = (estimated(best_member, members(), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.nested != other.nested
    assert first.selected_on == other.selected_on


def test_names_of_groups_do_not_matter_but_their_order() -> None:
    logits_MNK, labels_N, groups_N = members()
    named = np.array([f"lyon-{group:03d}" for group in groups_N])
    assert estimated(best_member, (logits_MNK, labels_N, named)) == estimated(
        best_member, (logits_MNK, labels_N, groups_N)
    )


@pytest.mark.parametrize("n_folds", [1, 0, 31, 2.0])
def test_folds_that_do_not_fit_are_refused(n_folds: Any) -> None:
    with pytest.raises(ValueError, match=rf"{n_folds!r} folds of 30 group\(s\)"):
        estimated(best_member, members(), n_folds=n_folds)


def test_a_single_group_is_refused() -> None:
    logits_MNK, labels_N, groups_N = members(n_groups=1)
    with pytest.raises(ValueError, match=r"1 folds of 1 group\(s\)"):
        estimated(best_member, (logits_MNK, labels_N, groups_N), n_folds=None)


def test_groups_of_other_clips_are_refused() -> None:
    logits_MNK, labels_N, groups_N = members()
    with pytest.raises(ValueError, match=r"groups of shape \(149,\), expected \(150,\)"):
        estimated(best_member, (logits_MNK, labels_N, groups_N[1:]))
