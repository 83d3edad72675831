import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics import log_loss as sklearn_log_loss

from metrics import (
    average_precisions,
    log_loss,
    main_score,
    mean_average_precision,
    paired_bootstrap,
)

RNG = np.random.default_rng(0)
LOGITS_NK = np.round(RNG.normal(size=(80, 4)), 1)
"""Many are equal."""
TARGETS_NK = (RNG.random((80, 4)) < [0.5, 0.3, 0.1, 0.0]).astype(np.int8)


def test_average_precisions_are_those_of_scikit_learn_and_of_no_clip_there_is_none():
    found = average_precisions(LOGITS_NK, TARGETS_NK)
    for k in range(3):
        assert found[k] == pytest.approx(average_precision_score(TARGETS_NK[:, k], LOGITS_NK[:, k]))
    assert np.isnan(found[3])
    assert mean_average_precision(LOGITS_NK, TARGETS_NK) == pytest.approx(found[:3].mean())
    assert main_score(LOGITS_NK, TARGETS_NK) == mean_average_precision(LOGITS_NK, TARGETS_NK)


def test_the_log_loss_of_several_labels_is_the_mean_of_binary_ones():
    probabilities_NK = 1 / (1 + np.exp(-LOGITS_NK))
    expected = [
        sklearn_log_loss(TARGETS_NK[:, k], probabilities_NK[:, k], labels=[0, 1]) for k in range(4)
    ]
    assert log_loss(LOGITS_NK, TARGETS_NK) == pytest.approx(np.mean(expected))
    assert log_loss([[1000.0, -1000.0]], [[1, 1]]) == 500


@pytest.mark.parametrize(
    ("logits", "targets", "reason"),
    [
        ([[0.0, 1.0]], [[0, 2]], "target 2 in row 0, class 1: expected 0 or 1"),
        ([[0.0, 1.0]], [[0, -1]], "target -1"),
        ([[0.0, np.nan]], [[0, 1]], "not finite"),
        ([[0.0, 1.0]], [[0]], "expected the same"),
        ([[0.0, 1.0]], [[0, 0]], "none of 2 classes has a clip"),
    ],
)
def test_what_cannot_be_judged_is_refused(logits, targets, reason):
    with pytest.raises(ValueError, match=reason):
        mean_average_precision(logits, targets)


@pytest.mark.parametrize(
    ("metric", "function"),
    [("mean_average_precision", mean_average_precision), ("log_loss", log_loss)],
)
def test_intervals_of_several_labels_equal_those_of_resampling_the_clips(metric, function):
    # Eight recordings: a class is missing from some draws.
    recordings_N, first_ANK = np.arange(80) // 10, np.stack([LOGITS_NK, LOGITS_NK[::-1]])
    targets_NK = TARGETS_NK.copy()
    targets_NK[10:, 2] = 0
    generator, drawn = np.random.default_rng(5), []
    for _ in range(100):
        groups = generator.integers(8, size=8)
        rows = np.concatenate([np.flatnonzero(recordings_N == group) for group in groups])
        drawn.append([function(each[rows], targets_NK[rows]) for each in first_ANK])
    comparison = paired_bootstrap(
        first_ANK, first_ANK, targets_NK, recordings_N, metric=metric, n_resamples=100, seed=5
    )
    ends = np.quantile(np.mean(drawn, axis=1), [0.025, 0.975])
    assert (comparison.first.low, comparison.first.high) == pytest.approx(tuple(ends))
    assert comparison.first.value == pytest.approx(
        np.mean([function(each, targets_NK) for each in first_ANK])
    )
    assert comparison.difference.value == 0
