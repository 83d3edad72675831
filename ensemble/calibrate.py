"""How sure logits may be: a temperature (M members, N clips, K classes, B clips of a block)."""

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import root_scalar

from ensemble.arithmetic import exp
from ensemble.blocks import (
    CLIPS_PER_BLOCK,
    Floats,
    Integers,
    Rows,
    by_class,
    check_finite,
    checked_labels,
    checked_logits,
    load,
)
from metrics import calibration_error, log_loss

MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How far probabilities can be believed."""

    calibration_error: float
    """Expected calibration error, 0...1: see `metrics.calibration_error`."""
    log_loss: float
    """Mean cross entropy in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What a temperature is worth."""

    before: Reliability
    """Of the logits as they are."""
    after: Reliability
    """Of the logits over the temperature."""


def temperature(logits_NK: ArrayLike, labels_N: ArrayLike) -> float:
    """The temperature at which the log loss of the logits is lowest, to 12 digits.

    Temperature scaling: Guo et al. 2017, arXiv:1706.04599, section 4.2. The loss is convex in 1/T,
    so the root of its slope is the one minimum. It is looked for within MIN_TEMPERATURE...
    MAX_TEMPERATURE. Where the loss falls up to an end, the result is that end: the lower one if
    every clip's label has the largest logit, as more certainty is then always better; the upper one
    if the logits are worse than none. Logits that are the same for all classes give 1: no
    temperature changes their loss.

    Args:
        logits_NK: finite floats.
        labels_N: true classes, 0...K-1.

    Raises:
        ValueError: shapes, types or labels that do not fit, values that are not finite.
    """
    logits = np.asarray(logits_NK)
    if logits.ndim != 2:
        raise ValueError(f"logits of shape {logits.shape}, expected (clips, classes)")
    return float(temperatures(logits[None], labels_N)[0])


def temperatures(logits_MNK: ArrayLike, labels_N: ArrayLike) -> Floats:
    """The `temperature` of each member, [M].

    Args:
        logits_MNK: finite floats. Fastest, and not copied, as `LogitStore.read` lays them out.
        labels_N: true classes, 0...K-1.

    Raises:
        ValueError: shapes, types or labels that do not fit, values that are not finite.
    """
    logits = checked_logits(logits_MNK)
    labels = checked_labels(labels_N, *logits.shape[1:])
    check_finite(logits)
    return np.array([_lowest(logits_KN, labels) for logits_KN in by_class(logits)])


def calibration(logits_NK: ArrayLike, labels_N: ArrayLike, temperature: float) -> Calibration:
    """Calibration error and log loss, before and after the logits are divided by a temperature.

    Args:
        logits_NK: finite floats.
        labels_N: true classes, 0...K-1; of clips that the temperature was not fitted to, for
            figures that are not too good.
        temperature: above 0.

    Raises:
        ValueError: shapes, labels or a temperature that do not fit, values that are not finite.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature!r}, expected a finite number above 0")
    logits = np.asarray(logits_NK, np.float64)
    return Calibration(
        before=_reliability(logits, labels_N), after=_reliability(logits / temperature, labels_N)
    )


def _reliability(logits_NK: Floats, labels_N: ArrayLike) -> Reliability:
    return Reliability(
        calibration_error=calibration_error(logits_NK, labels_N),
        log_loss=log_loss(logits_NK, labels_N),
    )


def _lowest(logits_KN: Rows, labels_N: Integers) -> float:
    def slope(log_temperature: float) -> float:
        return _slope(logits_KN, labels_N, math.exp(-log_temperature))

    coldest, hottest = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    at_coldest, at_hottest = slope(coldest), slope(hottest)
    if at_coldest == at_hottest == 0:
        # A convex function that is level at both ends is level in between.
        return 1.0
    if at_coldest <= 0:
        return MIN_TEMPERATURE
    if at_hottest >= 0:
        return MAX_TEMPERATURE
    root = root_scalar(slope, bracket=(coldest, hottest), method="brentq", xtol=1e-13, rtol=1e-15)
    return math.exp(root.root)


@numba.njit(cache=True)
def _slope(logits_KN: Rows, labels_N: Integers, inverse_temperature: float) -> float:
    """Slope of the mean log loss in 1/T: the mean logit under the softmax, less the label's."""
    n_classes, n = logits_KN.shape
    total = 0.0
    for start in range(0, n, CLIPS_PER_BLOCK):
        logits_KB = np.empty((n_classes, min(CLIPS_PER_BLOCK, n - start)))
        load(logits_KN, start, 1.0, logits_KB)
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
