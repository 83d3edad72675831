"""Temperatures (M members, N clips, K classes)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ensemble import fit_temperature, fit_temperatures, measure_calibration
from ensemble.calibrate import MAX_TEMPERATURE, MIN_TEMPERATURE
from metrics import calibration_error, log_loss


def overconfident(
    seed: int = 0, n: int = 700, n_classes: int = 5, skill: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are twice as certain as they should be, and labels."""
    generator = np.random.default_rng(seed)
    labels_N = generator.integers(n_classes, size=n)
    logits_NK = generator.normal(0, 1, (n, n_classes))
    logits_NK[np.arange(n), labels_N] += skill
    return 2 * logits_NK, labels_N


def test_a_temperature_is_where_the_log_loss_is_lowest() -> None:
    logits_NK, labels_N = overconfident()
    best = minimize_scalar(lambda t: log_loss(logits_NK / t, labels_N), bounds=(0.5, 5))
    # Near its minimum, a loss distinguishes temperatures up to the square root of its precision.
    assert fit_temperature(logits_NK, labels_N) == pytest.approx(best.x, rel=1e-5)
    lowest = log_loss(logits_NK / fit_temperature(logits_NK, labels_N), labels_N)
    assert lowest <= best.fun + 1e-15


def test_labels_drawn_from_the_softmax_give_back_its_temperature() -> None:
    generator = np.random.default_rng(0)
    logits_NK = generator.normal(0, 3, (200_000, 4))
    # The largest of logits over T plus Gumbel noise is a draw from their softmax.
    labels_N = (logits_NK / 1.7 + generator.gumbel(size=logits_NK.shape)).argmax(axis=1)
    # The standard error of 200,000 clips is about 0.3 %.
    assert fit_temperature(logits_NK, labels_N) == pytest.approx(1.7, rel=0.015)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(20, 400),
    n_classes=st.sampled_from([2, 3, 10]),
    factor=st.floats(0.2, 5),
)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_logits_times_a_factor_have_the_temperature_times_it(
    seed: int, n: int, n_classes: int, factor: float
) -> None:
    logits_NK, labels_N = overconfident(seed, n, n_classes)
    found = fit_temperature(logits_NK, labels_N)
    scaled = fit_temperature(factor * logits_NK, labels_N)
    expected = np.clip(factor * found, MIN_TEMPERATURE, MAX_TEMPERATURE)
    # A few clips may all be correct, or worse than chance: then both are at an end.
    if MIN_TEMPERATURE < found < MAX_TEMPERATURE:
        assert scaled == pytest.approx(expected, rel=1e-9)
    else:
        assert scaled == found


def test_each_member_has_its_own_temperature() -> None:
    first_NK, labels_N = overconfident()
    members_MNK = np.stack([first_NK, 3 * first_NK, overconfident(1)[0]])
    expected_M = [fit_temperature(logits_NK, labels_N) for logits_NK in members_MNK]
    assert fit_temperatures(members_MNK, labels_N).tolist() == expected_M
    assert len(set(expected_M)) == 3


def test_float16_laid_out_by_class_has_the_temperature_of_its_values() -> None:
    logits_NK, labels_N = overconfident()
    half_MKN = np.ascontiguousarray(logits_NK.T[None]).astype(np.float16)
    (found,) = fit_temperatures(half_MKN.transpose(0, 2, 1), labels_N)
    assert found == fit_temperature(half_MKN[0].T.astype(np.float64), labels_N)


def test_logits_that_are_always_right_get_the_lowest_temperature() -> None:
    labels_N = np.arange(30) % 3
    assert fit_temperature(np.eye(3)[labels_N], labels_N) == MIN_TEMPERATURE


def test_logits_that_are_worse_than_none_get_the_highest_temperature() -> None:
    labels_N = np.arange(30) % 3
    assert fit_temperature(-np.eye(3)[labels_N], labels_N) == MAX_TEMPERATURE


def test_logits_that_are_the_same_for_all_classes_stay_as_they_are() -> None:
    labels_N = np.arange(30) % 3
    logits_NK = np.repeat(np.random.default_rng(0).normal(size=(30, 1)), 3, axis=1)
    assert fit_temperature(logits_NK, labels_N) == 1


def test_the_largest_logits_of_float16_have_a_temperature() -> None:
    labels_N = np.arange(30) % 3
    logits_NK = (65504 * np.eye(3)[labels_N]).astype(np.float16)
    labels_N[0] = 1
    assert fit_temperature(logits_NK, labels_N) == MAX_TEMPERATURE


def test_calibration_lowers_error_and_loss_of_logits_that_are_too_sure() -> None:
    logits_NK, labels_N = overconfident(n=5000)
    found = fit_temperature(logits_NK, labels_N)
    figures = measure_calibration(logits_NK, labels_N, found)
    assert figures.before.log_loss == log_loss(logits_NK, labels_N)
    assert figures.after.log_loss == log_loss(logits_NK / found, labels_N)
    assert figures.before.calibration_error == calibration_error(logits_NK, labels_N)
    assert figures.after.calibration_error == calibration_error(logits_NK / found, labels_N)
    assert figures.after.log_loss < figures.before.log_loss
    assert figures.after.calibration_error < 0.5 * figures.before.calibration_error


def test_a_temperature_of_one_changes_no_figure() -> None:
    figures = measure_calibration(*overconfident(), 1.0)
    assert figures.before == figures.after


@pytest.mark.parametrize("wrong", [0, -1, np.nan, np.inf])
def test_calibration_refuses_temperatures_that_do_not_fit(wrong: float) -> None:
    with pytest.raises(ValueError, match=f"temperature {wrong}"):
        measure_calibration(*overconfident(), wrong)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1], r"shape \(2,\).*expected 3 integers"),
        ([0, 1, 2.0], "float64, expected 3 integers"),
        ([0, 1, 5], r"within 0...5, expected 0...4"),
        ([-1, 1, 2], r"within -1...2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_temperature(np.zeros((3, 5)), labels)


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(clips, classes\)"):
        fit_temperature(np.zeros((1, 3, 5)), [0, 0, 0])
    with pytest.raises(ValueError, match=r"\(members, clips, classes\)"):
        fit_temperatures(np.zeros((3, 5)), [0, 0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_member_that_is_not_finite_is_named(value: float) -> None:
    logits_MNK = np.zeros((3, 4, 5), np.float16)
    logits_MNK[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"members \[1\]"):
        fit_temperatures(logits_MNK, [0, 0, 0, 0])
