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


def test_losses_do_not_depend_on_what_else_is_judged(logits_KN: np.ndarray) -> None:
    """They are in footers, where not even the last bit may change."""
    labels_N = np.random.default_rng(3).integers(0, 11, 9_001)
    shifted_KN = logits_KN.astype(np.float64) - logits_KN.max(axis=0).astype(np.float64)
    sum_N = np.exp(shifted_KN[0])
    for shifted_N in shifted_KN[1:]:
        sum_N += np.exp(shifted_N)
    loss_N = np.log(sum_N) - shifted_KN[labels_N, np.arange(9_001)]
    for rows_R in (np.arange(9_001), np.random.default_rng(2).permutation(9_001)[:8_500]):
        loss_R = judge_clips(logits_KN, rows_R, labels_N[rows_R])[1]
        np.testing.assert_array_equal(loss_R, loss_N[rows_R])


@pytest.mark.parametrize("n_classes", [255, 256, 300])
def test_of_equal_logits_of_many_classes_the_first_wins(n_classes: int) -> None:
    labels_R = np.arange(n_classes)
    hit_R, _ = judge_clips(np.zeros((n_classes, n_classes), np.float16), labels_R, labels_R)
    np.testing.assert_array_equal(hit_R, labels_R == 0)


def test_the_predicted_class_is_the_first_of_the_largest(logits_KN: np.ndarray) -> None:
    rows_R = np.random.default_rng(2).permutation(9_001)
    np.testing.assert_array_equal(
        predict_classes(logits_KN[:, rows_R]), logits_KN.T[rows_R].argmax(axis=1)
    )


def test_the_order_of_all_finite_float16_is_kept() -> None:
    finite_N = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite_N = np.sort(finite_N[np.isfinite(finite_N)])
    pairs = [finite_N[:-1], finite_N[1:]]
    expected_R = (finite_N[1:] > finite_N[:-1]).astype(int)
    np.testing.assert_array_equal(predict_classes(pairs), expected_R)
