"""Calibration of logits by a temperature (M members, N clips, K classes, B clips of a block)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import root_scalar

from disk.numba_cache import compiled
from ensemble.arithmetic import (
    exp,
)
from ensemble.blocks import (
    CLIPS_PER_BLOCK,
    as_float64,
    check_finite,
    check_labels,
    check_logits,
    lay_out_by_class,
    load_block,
)
from metrics import calibration_error, log_loss
from metrics.scores import Floats, Integers

MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How far probabilities can be trusted."""

    calibration_error: float
    """Expected calibration error, 0...1: see `metrics.calibration_error`."""
    log_loss: float
    """Mean cross entropy in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The effect of a temperature on reliability."""

    before: Reliability
    """The reliability of the logits as they are."""
    after: Reliability
    """The reliability of the logits divided by the temperature."""


def fit_temperature(logits_NK: ArrayLike, labels_N: ArrayLike) -> float:
    """Find the temperature at which the log loss of logits is lowest, to 12 digits.

    Temperature scaling: Guo et al. 2017, arXiv:1706.04599, section 4.2. The loss is convex in 1/T,
    so the root of its slope is the only minimum. The search is within MIN_TEMPERATURE...
    MAX_TEMPERATURE. If the loss falls up to one end of this range, that end is returned: the lower
    one if every clip's label has the largest logit, as more certainty is then always better; the
    upper one if the logits are worse than none. Logits that are equal for all classes give 1, as no
    temperature changes their loss.

    Args:
        logits_NK: finite floats.
        labels_N: true classes, 0...K-1.

    Raises:
        ValueError: shapes, types or labels are wrong, or values are not finite.
    """
    logits = np.asarray(logits_NK)
    if logits.ndim != 2:
        raise ValueError(f"logits of shape {logits.shape}, expected (clips, classes)")
    return float(fit_temperatures(logits[None], labels_N)[0])


def fit_temperatures(logits_MNK: ArrayLike, labels_N: ArrayLike) -> Floats:
    """Find the temperature of each member as `fit_temperature` does, [M].

    Args:
        logits_MNK: finite floats. Not copied, and fastest, in the layout of `LogitStore.read`.
        labels_N: true classes, 0...K-1.

    Raises:
        ValueError: shapes, types or labels are wrong, or values are not finite.
    """
    logits = check_logits(logits_MNK)
    labels = check_labels(labels_N, *logits.shape[1:])
    check_finite(logits)
    return np.array(
        [_find_lowest(as_float64(each_KN), labels) for each_KN in lay_out_by_class(logits)]
    )


def measure_calibration(
    logits_NK: ArrayLike, labels_N: ArrayLike, temperature: float
) -> Calibration:
    """Measure calibration error and log loss before and after dividing logits by a temperature.

    Args:
        logits_NK: finite floats.
        labels_N: true classes, 0...K-1. If the temperature was fitted to these clips, the results
            are too good.
        temperature: above 0.

    Raises:
        ValueError: shapes, labels or the temperature are wrong, or values are not finite.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature!r}, expected a finite number above 0")
    logits = np.asarray(logits_NK, np.float64)
    return Calibration(
        before=_measure_reliability(logits, labels_N),
        after=_measure_reliability(logits / temperature, labels_N),
    )


def _measure_reliability(logits_NK: Floats, labels_N: ArrayLike) -> Reliability:
    return Reliability(
        calibration_error=calibration_error(logits_NK, labels_N),
        log_loss=log_loss(logits_NK, labels_N),
    )


def _find_lowest(logits_KN: Floats, labels_N: Integers) -> float:
    def slope(log_temperature: float) -> float:
        return _slope(logits_KN, labels_N, math.exp(-log_temperature))

    coldest, hottest = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    at_coldest, at_hottest = slope(coldest), slope(hottest)
    if at_coldest == at_hottest == 0:
        # A convex function that is flat at both ends is flat in between.
        return 1.0
    if at_coldest <= 0:
        return MIN_TEMPERATURE
    if at_hottest >= 0:
        return MAX_TEMPERATURE
    root = root_scalar(slope, bracket=(coldest, hottest), method="brentq", xtol=1e-13, rtol=1e-15)
    return math.exp(root.root)


@compiled()
def _slope(logits_KN: Floats, labels_N: Integers, inverse_temperature: float) -> float:
    """Return the slope of the mean log loss in 1/T: the softmax mean minus the label's logit."""
    n_classes, n = logits_KN.shape
    total = 0.0
    for start in range(0, n, CLIPS_PER_BLOCK):
        logits_KB = np.empty((n_classes, min(CLIPS_PER_BLOCK, n - start)))
        load_block(logits_KN, start, 1.0, logits_KB)
        largest_B = logits_KB[0].copy()
        for k in range(1, n_classes):
            for b in range(len(largest_B)):
                largest_B[b] = max(largest_B[b], logits_KB[k, b])
        sum_B, weighted_B = np.zeros(len(largest_B)), np.zeros(len(largest_B))
        for k in range(n_classes):
            for b in range(len(largest_B)):
                below = logits_KB[k, b] - largest_B[b]
                power = exp(inverse_temperature * below)
                sum_B[b] += power
                weighted_B[b] += power * below
        for b in range(len(largest_B)):
            label_logit = logits_KB[labels_N[start + b], b]
            total += weighted_B[b] / sum_B[b] - (label_logit - largest_B[b])
    return total / n
