"""Means and soft labels (M members, N clips, K classes)."""

import numpy as np
import pytest
from scipy.special import softmax

from ensemble import mean_logits, soft_labels


@pytest.fixture
def logits_MNK() -> np.ndarray:
    # Two blocks and a bit.
    return np.random.default_rng(0).normal(0, 4, (3, 9000, 7)).astype(np.float32)


WEIGHTS_M = np.array([0.5, 0.2, 0.3])


def test_mean_logits_are_the_weighted_mean(logits_MNK: np.ndarray) -> None:
    mean_NK = mean_logits(logits_MNK, WEIGHTS_M)
    assert mean_NK.dtype == np.float32
    assert mean_NK.flags.c_contiguous
    expected_NK = np.tensordot(WEIGHTS_M, logits_MNK.astype(np.float64), axes=1)
    # One rounding to float32 at the end.
    np.testing.assert_allclose(mean_NK, expected_NK, rtol=6e-8, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1, 4.0])
def test_soft_labels_are_the_softmax_of_the_mean_at_a_temperature(
    logits_MNK: np.ndarray, temperature: float
) -> None:
    soft_NK = soft_labels(logits_MNK, WEIGHTS_M, temperature)
    assert soft_NK.dtype == np.float32
    mean_NK = np.tensordot(WEIGHTS_M, logits_MNK.astype(np.float64), axes=1)
    np.testing.assert_allclose(soft_NK, softmax(mean_NK / temperature, axis=1), rtol=1e-6)
    # Seven values rounded to float32.
    np.testing.assert_allclose(soft_NK.sum(axis=1, dtype=np.float64), 1, atol=3e-7)


def test_soft_labels_of_float16_laid_out_by_class_are_the_same(logits_MNK: np.ndarray) -> None:
    half_MNK = logits_MNK.astype(np.float16)
    by_class_MNK = np.ascontiguousarray(half_MNK.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(
        soft_labels(by_class_MNK, WEIGHTS_M, 2), soft_labels(half_MNK, WEIGHTS_M, 2)
    )


def test_a_high_temperature_makes_all_classes_equal(logits_MNK: np.ndarray) -> None:
    np.testing.assert_allclose(soft_labels(logits_MNK, WEIGHTS_M, 1e9), 1 / 7, atol=1e-7)


def test_the_largest_logits_give_certainty() -> None:
    logits_MNK = np.array([[[65504, -65504]], [[65504, 0]]], np.float16)
    assert soft_labels(logits_MNK, [0.5, 0.5], 0.01).tolist() == [[1, 0]]


def test_members_without_weight_do_not_count(logits_MNK: np.ndarray) -> None:
    one = mean_logits(logits_MNK[1:2], [1.0])
    logits_MNK[0] = np.nan
    np.testing.assert_array_equal(mean_logits(logits_MNK, [0, 1, 0]), one)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([0.5, 0.5], r"shape \(2,\)"),
        ([1.5, -0.5, 0], "none negative"),
        ([0.5, 0.2, 0.2], "sum of 1"),
        ([np.nan, 0.5, 0.5], "sum of 1"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    logits_MNK: np.ndarray, weights: list[float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        mean_logits(logits_MNK, weights)


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf])
def test_temperatures_that_do_not_fit_are_refused(
    logits_MNK: np.ndarray, temperature: float
) -> None:
    with pytest.raises(ValueError, match="temperature"):
        soft_labels(logits_MNK, WEIGHTS_M, temperature)


@pytest.mark.parametrize("values", [(np.nan, 0), (np.inf, 0), (np.inf, -np.inf)])
def test_a_value_that_is_not_finite_is_named_by_its_row(
    logits_MNK: np.ndarray, values: tuple[float, float]
) -> None:
    logits_MNK[:2, 8999, 3] = values
    with pytest.raises(ValueError, match="row 8999"):
        mean_logits(logits_MNK, WEIGHTS_M)


@pytest.mark.parametrize("shape", [(9000, 7), (3, 0, 7), (0, 9, 7)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="members, clips, classes"):
        mean_logits(np.zeros(shape), WEIGHTS_M)
