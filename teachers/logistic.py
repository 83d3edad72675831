"""Multinomial logistic regression, exact and fast for a few thousand clips.

Dimensions: N clips, D features, K classes, R coordinates (at most N and at most D).
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

GRADIENT = 1e-8
"""A solution is found when no part of the scaled gradient is larger."""
MAX_STEPS = 2_000
CORRECTIONS = 20
"""Steps that the optimiser remembers of the curvature."""
ROUNDING = 1e-10
"""Directions in which the features are this much narrower than in the widest one are rounding errors."""
MEASURED_CLIPS = 4_096
MEASURED_TIMES = 5
LEAST_CURVATURE = 1e-4
"""Clips that are classified surely curve the loss no more; the scale of a direction stays finite."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """Features in the coordinates of their principal directions, in which the problem is well scaled.

    Weights [R, K] there have the norm that they have for the features themselves, as the directions
    are orthogonal: the penalty, and so the solution, is the same.
    """

    coordinates_NR: Floats
    directions_DR: Floats
    widths_R: Floats
    """Root mean square of each coordinate."""

    @classmethod
    def of(cls, features_ND: Floats) -> "Rotated":
        """Rotate features whose means are 0; at least one clip."""
        n, n_features = features_ND.shape
        if n < n_features:
            left_NR, singular_R, right_RD = np.linalg.svd(features_ND, full_matrices=False)
            keep_R = singular_R > ROUNDING * max(singular_R[0], 1e-300)
            coordinates_NR = left_NR[:, keep_R] * singular_R[keep_R]
            directions_DR = np.ascontiguousarray(right_RD[keep_R].T)
        else:
            # The eigenvectors are orthogonal to the last digit, even if the eigenvalues are not exact.
            _, directions_DR = np.linalg.eigh(features_ND.T @ features_ND)
            coordinates_NR = features_ND @ directions_DR
        widths_R = np.sqrt(np.square(coordinates_NR).mean(axis=0))
        return cls(np.ascontiguousarray(coordinates_NR), directions_DR, widths_R)


@dataclass(frozen=True, slots=True)
class Solution:
    """Weights and biases that minimise the penalised loss."""

    weights_RK: Floats
    biases_K: Floats

    @classmethod
    def zeros(cls, n_coordinates: int, n_classes: int) -> "Solution":
        """Return where all classes are equally likely."""
        return cls(np.zeros((n_coordinates, n_classes)), np.zeros(n_classes))

    def compute_logits(self, coordinates_NR: Floats) -> Floats:
        """Return logits [N, K]."""
        return coordinates_NR @ self.weights_RK + self.biases_K


def weigh_by_class(labels_N: Integers, n_classes: int) -> Floats:
    """Return weights with which all classes that occur count alike, [N]; their mean is 1."""
    counts_K = np.bincount(labels_N, minlength=n_classes)
    return len(labels_N) / (np.count_nonzero(counts_K) * counts_K[labels_N])


def solve(
    rotated: Rotated,
    rows: Integers,
    labels_N: Integers,
    weights_N: Floats,
    n_classes: int,
    l2: float,
    start: Solution | None = None,
    gradient: float = GRADIENT,
) -> Solution:
    """Minimise the sum of the weighted cross entropies and half of `l2` times the squared weights.

    It is scikit-learn's LogisticRegression with C = 1 / l2; biases are not penalised there either.

    Args:
        rotated: the features of all clips.
        rows: the clips to learn from, rows of `rotated`.
        labels_N: class of each of these clips.
        weights_N: weight of each of these clips.
        n_classes: number of classes.
        l2: the strength of the penalty, above 0.
        start: the solution of a similar problem, which saves steps.
        gradient: how small the scaled gradient has to become.

    Raises:
        ArithmeticError: the optimiser did not come to an end.
    """
    inputs_NR = rotated.coordinates_NR[rows]
    start = start or Solution.zeros(inputs_NR.shape[1], n_classes)
    one_hot_NK = np.eye(n_classes)[labels_N]
    scale_R1, bias_scale = _choose_scales(rotated, inputs_NR, weights_N, l2, start)
    shape = start.weights_RK.shape

    def unpack(values: Floats) -> Solution:
        weights_RK = values[:-n_classes].reshape(shape) * scale_R1
        return Solution(weights_RK, values[-n_classes:] * bias_scale)

    def evaluate(values: Floats) -> tuple[float, Floats]:
        found = unpack(values)
        logits_NK = found.compute_logits(inputs_NR)
        logits_NK -= logits_NK.max(axis=1, keepdims=True)
        true_N = (logits_NK * one_hot_NK).sum(axis=1)
        shares_NK = np.exp(logits_NK, out=logits_NK)
        sums_N1 = shares_NK.sum(axis=1, keepdims=True)
        loss = weights_N @ (np.log(sums_N1[:, 0]) - true_N)
        shares_NK /= sums_N1
        shares_NK -= one_hot_NK
        shares_NK *= weights_N[:, None]
        gradient_RK = (inputs_NR.T @ shares_NK + l2 * found.weights_RK) * scale_R1
        gradient_K = shares_NK.sum(axis=0) * bias_scale
        penalty = l2 / 2 * np.vdot(found.weights_RK, found.weights_RK)
        return loss + penalty, np.concatenate([gradient_RK.ravel(), gradient_K])

    first = np.concatenate([(start.weights_RK / scale_R1).ravel(), start.biases_K / bias_scale])
    options = {"maxcor": CORRECTIONS, "maxiter": MAX_STEPS, "ftol": 0.0, "gtol": gradient}
    result = minimize(evaluate, first, jac=True, method="L-BFGS-B", options=options)
    # At the limit of rounding the line search ends before the gradient is as small as asked for.
    if np.abs(result.jac).max() > max(100 * gradient, 1e-9 * result.fun):
        raise ArithmeticError(
            f"logistic regression of {len(rows)} clips with l2={l2:g} did not converge in "
            f"{result.nit} steps: {result.message}"
        )
    return unpack(result.x)


def _choose_scales(
    rotated: Rotated, inputs_NR: Floats, weights_N: Floats, l2: float, start: Solution
) -> tuple[Floats, float]:
    """Return the scale of each coordinate's weights, [R, 1], and of the biases.

    With these the loss is curved about alike in all directions (one over the root of the second
    derivative at `start`, if the coordinates were independent of the residuals), which takes L-BFGS
    a tenth of the steps.
    """
    logits_NK = start.compute_logits(inputs_NR)
    shares_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    shares_NK /= shares_NK.sum(axis=1, keepdims=True)
    curvature = float(weights_N @ (shares_NK * (1 - shares_NK)).mean(axis=1))
    curvature = max(curvature, LEAST_CURVATURE * len(weights_N))
    scale_R = 1 / np.sqrt(curvature * np.square(rotated.widths_R) + l2)
    return scale_R[:, None], 1 / np.sqrt(curvature)


def measure_evaluation(n: int, n_coordinates: int, n_classes: int) -> float:
    """Return the seconds that one step of `solve` takes for so many clips: the time of its products."""
    few = min(n, MEASURED_CLIPS)
    inputs_NR = np.ones((few, n_coordinates))
    weights_RK = np.ones((n_coordinates, n_classes))
    started = time.monotonic()
    for _ in range(MEASURED_TIMES):
        shares_NK = np.exp(-(inputs_NR @ weights_RK))
        weights_RK = 1e-3 * (inputs_NR.T @ shares_NK)
    return (time.monotonic() - started) / MEASURED_TIMES * n / few
