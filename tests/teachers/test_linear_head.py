import numpy as np
import pytest

from metrics import log_loss
from teachers.linear_head import (
    L2_GRID,
    UNDECIDED_L2,
    LinearHead,
    fit_head,
    hold_out_recordings,
)
from teachers.logistic import Rotated, solve, weigh_by_class

N_CLASSES = 4


def make_embeddings(n=80, n_dims=24, seed=0, clips_of_a_recording=4):
    """Return embeddings [N, D] around a point a class, labels (class 0 is rare), and recordings."""
    rng = np.random.default_rng(seed)
    labels_N = np.where(np.arange(n) < N_CLASSES, np.arange(n) % N_CLASSES, rng.integers(1, 4, n))
    labels_N[:: n // 8] = 0
    centres_KD = np.random.default_rng(99).normal(size=(N_CLASSES, n_dims))
    embeddings_ND = 3 + 5 * (centres_KD[labels_N] + 1.5 * rng.normal(size=(n, n_dims)))
    recordings_N = np.array(
        [f"{label}-{i // clips_of_a_recording}" for i, label in enumerate(labels_N)]
    )
    return embeddings_ND.astype(np.float32), labels_N, recordings_N


@pytest.mark.parametrize(("n", "n_dims"), [(80, 24), (60, 200)])
@pytest.mark.parametrize("l2", [1000.0, 1.0, 0.03])
def test_logits_are_those_of_scikit_learn(n, n_dims, l2):
    linear_model = pytest.importorskip("sklearn.linear_model")
    embeddings_ND, labels_N, recordings_N = make_embeddings(n, n_dims)
    fitted = fit_head(embeddings_ND, labels_N, recordings_N, N_CLASSES, 0, (l2,))
    wide_ND = embeddings_ND.astype(np.float64)
    mean_D, scale_D = wide_ND.mean(axis=0), wide_ND.std(axis=0)
    reference = linear_model.LogisticRegression(
        C=1 / l2, class_weight="balanced", tol=1e-10, max_iter=10_000
    ).fit((wide_ND - mean_D) / scale_D, labels_N)
    new_ND = make_embeddings(50, n_dims, seed=1)[0]
    expected_NK = reference.decision_function((new_ND - mean_D) / scale_D)
    np.testing.assert_allclose(fitted.head.compute_logits(new_ND), expected_NK, atol=1e-3)


@pytest.mark.parametrize("n_dims", [12, 120])
def test_nothing_near_a_solution_has_a_smaller_loss(n_dims):
    embeddings_ND, labels_N, _ = make_embeddings(n_dims=n_dims)
    features_ND = (embeddings_ND - embeddings_ND.mean(axis=0)).astype(np.float64)
    weights_N, l2 = weigh_by_class(labels_N, N_CLASSES), 3.0
    rotated = Rotated.of(features_ND)
    found = solve(rotated, np.arange(len(labels_N)), labels_N, weights_N, N_CLASSES, l2)

    def lose(weights_DK, biases_K):
        logits_NK = features_ND @ weights_DK + biases_K
        log_sums_N = np.log(np.exp(logits_NK).sum(axis=1))
        losses_N = log_sums_N - logits_NK[np.arange(len(labels_N)), labels_N]
        return weights_N @ losses_N + l2 / 2 * np.square(weights_DK).sum()

    weights_DK = rotated.directions_DR @ found.weights_RK
    least = lose(weights_DK, found.biases_K)
    rng = np.random.default_rng(0)
    for _ in range(20):
        moved = weights_DK + 1e-4 * rng.normal(size=weights_DK.shape)
        assert lose(moved, found.biases_K + 1e-4 * rng.normal(size=N_CLASSES)) >= least


def test_all_classes_weigh_the_same():
    labels_N = np.array([0, 1, 1, 1, 2, 2])
    weights_N = weigh_by_class(labels_N, 3)
    assert weights_N.sum() == pytest.approx(6)
    assert [weights_N[labels_N == label].sum() for label in range(3)] == pytest.approx([2, 2, 2])


def test_the_parts_hold_out_all_recordings_once_but_the_only_one_of_a_class():
    _, labels_N, recordings_N = make_embeddings()
    labels_N[-4:], recordings_N[-4:] = 0, "only"
    labels_N[:-4] = np.maximum(labels_N[:-4], 1)
    recordings_N[:-4] = [f"{y}-{i // 4}" for i, y in enumerate(labels_N[:-4])]
    held_out = list(hold_out_recordings(labels_N, recordings_N, seed=0, n_parts=5))
    assert sorted(np.concatenate(held_out)) == list(range(len(labels_N) - 4))
    for rows in held_out:
        others = np.setdiff1d(np.arange(len(labels_N)), rows)
        assert not set(recordings_N[rows]) & set(recordings_N[others])
        assert set(labels_N[rows]) <= set(labels_N[others])


def test_the_seed_deals_the_recordings():
    _, labels_N, recordings_N = make_embeddings()

    def deal(seed):
        return [rows.tolist() for rows in hold_out_recordings(labels_N, recordings_N, seed, 5)]

    assert deal(3) == deal(3) != deal(4)


def test_the_strength_is_the_one_with_the_least_held_out_loss():
    embeddings_ND, labels_N, recordings_N = make_embeddings()
    fitted = fit_head(embeddings_ND, labels_N, recordings_N, N_CLASSES, 0)
    assert len(fitted.losses) == len(L2_GRID)
    assert fitted.l2 == L2_GRID[int(np.argmin(fitted.losses))]
    # The slow way: each fit from the start, on the features themselves.
    features_ND = (embeddings_ND - fitted.head.mean_D) / fitted.head.scale_D
    weights_N, losses_N = weigh_by_class(labels_N, N_CLASSES), np.zeros(len(labels_N))
    for rows in hold_out_recordings(labels_N, recordings_N, 0, 5):
        others = np.setdiff1d(np.arange(len(labels_N)), rows)
        own_N = weigh_by_class(labels_N[others], N_CLASSES)
        rotated = Rotated.of(features_ND.astype(np.float64))
        found = solve(rotated, others, labels_N[others], own_N, N_CLASSES, fitted.l2)
        logits_NK = found.compute_logits(rotated.coordinates_NR[rows])
        losses_N[rows] = [
            log_loss(row_K[None], [label])
            for row_K, label in zip(logits_NK, labels_N[rows], strict=True)
        ]
    assert min(fitted.losses) == pytest.approx(weights_N @ losses_N / weights_N.sum(), abs=1e-3)


def test_a_fixed_strength_is_taken_where_each_class_has_one_recording():
    embeddings_ND, labels_N, _ = make_embeddings()
    fitted = fit_head(embeddings_ND, labels_N, labels_N.astype(str), N_CLASSES, 0)
    assert (fitted.l2, fitted.losses) == (UNDECIDED_L2, ())


def test_a_feature_that_never_changes_counts_for_nothing():
    embeddings_ND, labels_N, recordings_N = make_embeddings()
    constant_ND = np.concatenate([embeddings_ND, np.full((len(labels_N), 1), 0.1)], axis=1)
    without = fit_head(embeddings_ND, labels_N, recordings_N, N_CLASSES, 0).head
    fitted = fit_head(constant_ND, labels_N, recordings_N, N_CLASSES, 0).head
    np.testing.assert_allclose(
        fitted.compute_logits(constant_ND), without.compute_logits(embeddings_ND), atol=1e-4
    )


def test_a_class_without_a_clip_is_refused():
    embeddings_ND, labels_N, recordings_N = make_embeddings()
    with pytest.raises(ValueError, match="no clip to learn from is of class 4, 5"):
        fit_head(embeddings_ND, labels_N, recordings_N, 6, 0)


def test_an_embedding_that_is_not_finite_is_named():
    embeddings_ND, labels_N, recordings_N = make_embeddings()
    embeddings_ND[7, 3] = np.nan
    with pytest.raises(ValueError, match="embedding in row 7 is not finite"):
        fit_head(embeddings_ND, labels_N, recordings_N, N_CLASSES, 0)


def test_logits_are_float32_whatever_the_embeddings_are():
    head = LinearHead(np.zeros(3), np.ones(3), np.eye(2, 3), np.array([0.5, -0.5]))
    logits_NK = head.compute_logits(np.array([[1, 2, 3]], dtype=np.float16))
    assert logits_NK.dtype == np.float32
    assert logits_NK.tolist() == [[1.5, 1.5]]
