"""Means and soft labels (M members, N clips, K classes)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, softmax

from ensemble import mean_logits, soft_labels

WEIGHTS_M = np.array([0.5, 0.2, 0.3])
TEMPERATURES_M = np.array([0.5, 1, 3.0])
SPACES = ("logits", "probabilities")


@pytest.fixture
def logits_MNK() -> np.ndarray:
    # Many blocks, and a part of one.
    return np.random.default_rng(0).normal(0, 4, (3, 9000, 7)).astype(np.float32)


def slow_mean(logits_MNK: Any, weights_M: Any, space: str, temperatures_M: Any = 1) -> np.ndarray:
    divisors_M = np.broadcast_to(np.asarray(temperatures_M, np.float64), len(logits_MNK))
    scaled_MNK = np.asarray(logits_MNK, np.float64) / divisors_M[:, None, None]
    shares_M = np.asarray(weights_M, np.float64)[:, None, None]
    if space == "logits":
        return (shares_M * scaled_MNK).sum(axis=0)
    return logsumexp(log_softmax(scaled_MNK, axis=2), axis=0, b=shares_M)


def test_mean_logits_are_the_weighted_mean(logits_MNK: np.ndarray) -> None:
    mean_NK = mean_logits(logits_MNK, WEIGHTS_M)
    assert mean_NK.dtype == np.float32
    assert mean_NK.flags.c_contiguous
    # One rounding to float32 at the end.
    expected_NK = slow_mean(logits_MNK, WEIGHTS_M, "logits")
    np.testing.assert_allclose(mean_NK, expected_NK, rtol=6e-8, atol=1e-9)


def test_mean_probabilities_come_as_their_logarithms(logits_MNK: np.ndarray) -> None:
    mean_NK = mean_logits(logits_MNK, WEIGHTS_M, space="probabilities")
    expected_NK = slow_mean(logits_MNK, WEIGHTS_M, "probabilities")
    np.testing.assert_allclose(mean_NK, expected_NK, rtol=6e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("gap", [5, 80, 500, 800, 60_000])
def test_mean_probabilities_are_exact_however_sure_members_are(gap: int, dtype: Any) -> None:
    one_NK, other_NK = [[gap, 1, -2], [0, gap, 1]], [[gap, -1, 2], [1, 0, 2]]
    logits_MNK = np.array([one_NK, other_NK, np.full((2, 3), np.nan)], dtype)
    mean_NK = mean_logits(logits_MNK, [0.7, 0.3, 0], space="probabilities")
    expected_NK = slow_mean(logits_MNK[:2], [0.7, 0.3], "probabilities")
    np.testing.assert_allclose(mean_NK, expected_NK, rtol=6e-8, atol=1e-9)


@pytest.mark.parametrize("space", SPACES)
def test_each_member_is_divided_by_its_temperature(logits_MNK: np.ndarray, space: Any) -> None:
    mean_NK = mean_logits(logits_MNK, WEIGHTS_M, temperatures_M=TEMPERATURES_M, space=space)
    expected_NK = slow_mean(logits_MNK, WEIGHTS_M, space, TEMPERATURES_M)
    np.testing.assert_allclose(mean_NK, expected_NK, rtol=6e-8, atol=1e-9)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("temperature", [0.5, 1, 4.0])
def test_soft_labels_are_the_softmax_of_the_mean_at_a_temperature(
    logits_MNK: np.ndarray, temperature: float, space: Any
) -> None:
    soft_NK = soft_labels(logits_MNK, WEIGHTS_M, temperature, space=space)
    assert soft_NK.dtype == np.float32
    mean_NK = slow_mean(logits_MNK, WEIGHTS_M, space)
    np.testing.assert_allclose(soft_NK, softmax(mean_NK / temperature, axis=1), rtol=1e-7)
    # Seven values rounded to float32.
    np.testing.assert_allclose(soft_NK.sum(axis=1, dtype=np.float64), 1, atol=3e-7)


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 600), st.sampled_from([2, 3, 10, 50])),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    scale=st.sampled_from([0.01, 1, 30, 3000]),
    temperature=st.floats(0.1, 20),
    space=st.sampled_from(SPACES),
    seed=st.integers(0, 2**32 - 1),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_soft_labels_are_those_of_slow_float64(
    shape: Any, dtype: Any, scale: float, temperature: float, space: Any, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    logits_MNK = generator.normal(0, scale, shape).astype(dtype)
    weights_M = generator.dirichlet(np.ones(shape[0]))
    temperatures_M = generator.uniform(0.5, 2, shape[0])
    soft_NK = soft_labels(
        logits_MNK, weights_M, temperature, temperatures_M=temperatures_M, space=space
    )
    mean_NK = slow_mean(logits_MNK, weights_M, space, temperatures_M)
    np.testing.assert_allclose(soft_NK, softmax(mean_NK / temperature, axis=1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(soft_NK.sum(axis=1, dtype=np.float64), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_layout_in_memory_changes_nothing(logits_MNK: np.ndarray, dtype: Any) -> None:
    typed_MNK = logits_MNK.astype(dtype)
    by_class_MNK = np.ascontiguousarray(typed_MNK.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(
        soft_labels(by_class_MNK, WEIGHTS_M, 2), soft_labels(typed_MNK, WEIGHTS_M, 2)
    )


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", np.longdouble])
def test_floats_of_another_machine_are_the_same_numbers(logits_MNK: np.ndarray, dtype: Any) -> None:
    rounded_MNK = logits_MNK.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(
        mean_logits(rounded_MNK.astype(dtype), WEIGHTS_M), mean_logits(rounded_MNK, WEIGHTS_M)
    )


@pytest.mark.parametrize("space", SPACES)
def test_every_float16_counts_as_what_it_is(space: Any) -> None:
    every_N = np.arange(2**16, dtype=np.uint16).view(np.float16)
    logits_MNK = np.stack([every_N[np.isfinite(every_N)], np.zeros(63488, np.float16)], axis=1)[
        None
    ]
    np.testing.assert_array_equal(
        mean_logits(logits_MNK, [1.0], space=space),
        mean_logits(logits_MNK.astype(np.float64), [1.0], space=space),
    )


@pytest.mark.parametrize("space", SPACES)
def test_a_high_temperature_makes_all_classes_equal(logits_MNK: np.ndarray, space: Any) -> None:
    soft_NK = soft_labels(logits_MNK, WEIGHTS_M, 1e9, space=space)
    np.testing.assert_allclose(soft_NK, 1 / 7, atol=1e-7)


@pytest.mark.parametrize("space", SPACES)
def test_the_largest_logits_give_certainty(space: Any) -> None:
    logits_MNK = np.array([[[65504, -65504]], [[65504, 0]]], np.float16)
    assert soft_labels(logits_MNK, [0.5, 0.5], 0.01, space=space).tolist() == [[1, 0]]


@pytest.mark.parametrize("space", SPACES)
def test_members_without_weight_do_not_count(logits_MNK: np.ndarray, space: Any) -> None:
    one = mean_logits(logits_MNK[1:2], [1.0], space=space)
    logits_MNK[0] = np.nan
    np.testing.assert_array_equal(mean_logits(logits_MNK, [0, 1, 0], space=space), one)


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
    with pytest.raises(ValueError, match="temperatures"):
        mean_logits(logits_MNK, WEIGHTS_M, temperatures_M=[1, temperature, 1])


def test_temperatures_of_other_members_are_refused(logits_MNK: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\)"):
        mean_logits(logits_MNK, WEIGHTS_M, temperatures_M=[1, 1])


def test_a_space_that_there_is_not_is_refused(logits_MNK: np.ndarray) -> None:
    with pytest.raises(ValueError, match="'votes', expected 'logits' or 'probabilities'"):
        mean_logits(logits_MNK, WEIGHTS_M, space="votes")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "values", [(0, np.nan), (0, np.inf), (np.inf, -np.inf), (-np.inf, -np.inf)]
)
def test_a_value_that_is_not_finite_is_named_by_its_row_and_members(
    logits_MNK: np.ndarray, values: tuple[float, float], dtype: Any, space: Any
) -> None:
    logits_MNK[:2, 8999, 3] = values
    members = [m for m in range(2) if not np.isfinite(values[m])]
    words = rf"row 8999 of members \[{', '.join(map(str, members))}\]"
    with pytest.raises(ValueError, match=words):
        mean_logits(logits_MNK.astype(dtype), WEIGHTS_M, space=space)


def test_a_member_without_weight_is_not_named(logits_MNK: np.ndarray) -> None:
    logits_MNK[:, 5, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 5 of members \[0, 2\]"):
        mean_logits(logits_MNK, [0.5, 0, 0.5])


def test_a_mean_that_float32_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"row 0 of members \[1\]"):
        mean_logits(np.array([[[0.0]], [[1e39]]]), [0.5, 0.5])


@pytest.mark.parametrize("shape", [(9000, 7), (3, 0, 7), (0, 9, 7)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="members, clips, classes"):
        mean_logits(np.zeros(shape), WEIGHTS_M)
