"""What logits say of clips is what numpy says of them (N clips, R of their rows, K classes)."""

import numpy as np
import pytest

from logit_store.judgement import judge_clips, predict_classes
from metrics.scores import hits, losses


@pytest.fixture
def logits_KN() -> np.ndarray:
    """Logits of more clips than a block, with many equal ones, zeros of both signs and extremes."""
    logits_KN = np.random.default_rng(0).normal(0, 3, (11, 9_001)).astype(np.float16)
    logits_KN[:, ::3] = np.round(logits_KN[:, ::3] / 3)
    logits_KN[:, ::5] = np.random.default_rng(1).choice([0.0, -0.0], (11, 1_801))
    logits_KN[3:6, 7] = 65504, -65504, 65504
    logits_KN[:, 8] = np.finfo(np.float16).smallest_subnormal * np.arange(-9, 2)
    return logits_KN


def test_clips_are_judged_as_the_metrics_judge_them(logits_KN: np.ndarray) -> None:
    rows_R = np.random.default_rng(2).permutation(9_001)[:8_500]
    labels_R = np.random.default_rng(3).integers(0, 11, 8_500)
    hit_R, loss_R = judge_clips(logits_KN, rows_R, labels_R)
    logits_RK = logits_KN.T[rows_R].astype(np.float64)
    np.testing.assert_array_equal(hit_R, hits(logits_RK, labels_R))
    # The sum over classes may be in another order.
    np.testing.assert_allclose(loss_R, losses(logits_RK, labels_R), rtol=1e-13, atol=1e-15)


def test_the_predicted_class_is_the_first_of_the_largest(logits_KN: np.ndarray) -> None:
    rows_R = np.random.default_rng(2).permutation(9_001)
    np.testing.assert_array_equal(
        predict_classes(list(logits_KN), rows_R), logits_KN.T[rows_R].argmax(axis=1)
    )


def test_the_order_of_all_finite_float16_is_kept() -> None:
    finite_N = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite_N = np.sort(finite_N[np.isfinite(finite_N)])
    rows_R = np.arange(len(finite_N) - 1)
    pairs = [finite_N[:-1], finite_N[1:]]
    expected_R = (finite_N[1:] > finite_N[:-1]).astype(int)
    np.testing.assert_array_equal(predict_classes(pairs, rows_R), expected_R)
