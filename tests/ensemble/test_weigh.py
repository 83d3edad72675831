"""Convex weights (M members, N clips, K classes)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ensemble import convex_weights, mean_logits, weigh
from ensemble.blocks import lay_out_by_class
from ensemble.weigh import GAP_NATS
from metrics import log_loss

SPACES = ("logits", "probabilities")


def members(
    seed: int = 0, n_members: int = 6, n: int = 300, n_classes: int = 4, skill: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of members of different skill, and labels."""
    generator = np.random.default_rng(seed)
    labels_N = generator.integers(n_classes, size=n)
    logits_MNK = generator.normal(0, 1, (n_members, n, n_classes))
    logits_MNK[:, np.arange(n), labels_N] += generator.uniform(0, skill, (n_members, 1))
    return logits_MNK, labels_N


def loss_of(logits_MNK: Any, labels_N: Any, weights_M: Any, space: Any) -> float:
    return log_loss(mean_logits(logits_MNK, weights_M, space=space), labels_N)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_members=st.integers(1, 8),
    n=st.integers(1, 300),
    n_classes=st.sampled_from([2, 3, 10, 50]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    space=st.sampled_from(SPACES),
)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_convex_weights_are_never_worse_than_equal_ones_or_the_best_member(
    seed: int, n_members: int, n: int, n_classes: int, dtype: Any, space: Any
) -> None:
    logits_MNK, labels_N = members(seed, n_members, n, n_classes)
    logits_MNK = logits_MNK.astype(dtype)
    weights_M = convex_weights(logits_MNK, labels_N, space=space)
    assert weights_M.min() >= 0
    assert weights_M.sum() == pytest.approx(1, abs=1e-12)
    loss = loss_of(logits_MNK, labels_N, weights_M, space)
    others = [np.full(n_members, 1 / n_members), *np.eye(n_members)]
    best = min(loss_of(logits_MNK, labels_N, other_M, space) for other_M in others)
    # `loss_of` rounds to float32.
    assert loss <= best + GAP_NATS + 1e-6


@pytest.mark.parametrize("space", SPACES)
def test_no_other_solver_finds_a_lower_loss(space: Any) -> None:
    logits_MNK, labels_N = members()
    found = loss_of(logits_MNK, labels_N, convex_weights(logits_MNK, labels_N, space=space), space)
    other = minimize(
        lambda weights_M: loss_of(logits_MNK, labels_N, weights_M / weights_M.sum(), space),
        np.full(6, 1 / 6),
        bounds=[(1e-9, 1)] * 6,
        method="Nelder-Mead",
        options={"maxfev": 4000, "xatol": 1e-6, "fatol": 1e-9},
    )
    assert found <= other.fun + GAP_NATS
    # Equal weights are worse.
    assert found < loss_of(logits_MNK, labels_N, np.full(6, 1 / 6), space) - 0.001


@pytest.mark.parametrize("space", SPACES)
def test_slopes_are_what_the_loss_changes_by(space: Any) -> None:
    logits_MNK, labels_N = members(n=150)
    logits_MKN, order_M = lay_out_by_class(logits_MNK), np.arange(6)
    judge = weigh._make_judge(logits_MKN, order_M, labels_N, space)
    weights_M = np.random.default_rng(1).dirichlet(np.ones(6))
    loss, slopes_M = judge(weights_M)
    assert loss == pytest.approx(loss_of(logits_MNK, labels_N, weights_M, space), abs=1e-6)
    for m, change_M in enumerate(1e-5 * np.eye(6)):
        above, below = (judge(weights_M + sign * change_M)[0] for sign in (1, -1))
        # The error of a central difference is the square of the change.
        assert slopes_M[m] == pytest.approx((above - below) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_members_in_another_order_have_the_same_weights_to_the_last_bit(
    space: Any, dtype: Any
) -> None:
    logits_MNK, labels_N = members(n_members=12)
    logits_MNK = logits_MNK.astype(dtype)
    weights_M = convex_weights(logits_MNK, labels_N, space=space)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(12)
        permuted_M = convex_weights(logits_MNK[order], labels_N, space=space)
        np.testing.assert_array_equal(permuted_M, weights_M[order])


@pytest.mark.parametrize("space", SPACES)
def test_equal_members_have_equal_weights(space: Any) -> None:
    logits_MNK, labels_N = members()
    logits_MNK[4] = logits_MNK[1]
    weights_M = convex_weights(logits_MNK, labels_N, space=space)
    assert weights_M[4] == weights_M[1] > 0


@pytest.mark.parametrize("space", SPACES)
def test_the_layout_in_memory_changes_no_weight(space: Any) -> None:
    logits_MNK, labels_N = members()
    by_class_MNK = np.ascontiguousarray(logits_MNK.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(
        convex_weights(by_class_MNK, labels_N, space=space),
        convex_weights(logits_MNK, labels_N, space=space),
    )


def test_a_member_that_is_always_right_gets_all_the_weight_among_random_ones() -> None:
    logits_MNK, labels_N = members(skill=0)
    logits_MNK[2] = 20 * np.eye(4)[labels_N]
    assert convex_weights(logits_MNK, labels_N, space="probabilities")[2] > 0.999


@pytest.mark.parametrize("space", SPACES)
def test_members_without_information_share_the_weight(space: Any) -> None:
    weights_M = convex_weights(np.zeros((4, 9, 3)), np.arange(9) % 3, space=space)
    assert weights_M.tolist() == [0.25] * 4


def test_probabilities_of_zero_are_weighted_too() -> None:
    labels_N = np.arange(8) % 2
    always_NK = np.full((8, 2), -65504, np.float16)
    always_NK[:, 0] = 65504
    # Each member is certain, and wrong for half of the clips.
    weights_M = convex_weights(
        np.stack([always_NK, always_NK[:, ::-1]]), labels_N, space="probabilities"
    )
    assert weights_M == pytest.approx([0.5, 0.5])


def test_a_member_whose_probabilities_underflow_is_left_out() -> None:
    labels_N = np.arange(8) % 2
    wrong_NK = np.where(np.eye(2)[labels_N], -3000.0, 3000.0)
    weights_M = convex_weights(np.stack([wrong_NK, np.zeros((8, 2))]), labels_N)
    assert weights_M == pytest.approx([0, 1])


def test_weights_that_are_not_found_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weigh, "MAX_PASSES", 3)
    with pytest.raises(ArithmeticError, match="after 3 passes the weights of 6 members"):
        convex_weights(*members())


def test_unsuitable_input_is_refused() -> None:
    logits_MNK, labels_N = members()
    with pytest.raises(ValueError, match="members, clips, classes"):
        convex_weights(logits_MNK[0], labels_N)
    with pytest.raises(ValueError, match="expected 300 integers"):
        convex_weights(logits_MNK, labels_N[1:])
    with pytest.raises(ValueError, match="'votes'"):
        convex_weights(logits_MNK, labels_N, space="votes")
    logits_MNK[3, 5, 1] = np.nan
    with pytest.raises(ValueError, match=r"members \[3\]"):
        convex_weights(logits_MNK, labels_N)
