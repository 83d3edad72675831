"""Log loss of mean probabilities (M members, N clips, K classes, B clips in a block, L lanes).

Only the probability of the label counts: one number for each clip and member, and no exponentials
in the loop over candidates.
"""

import numpy as np
from numpy.typing import NDArray

from disk.numba_cache import compiled
from ensemble.arithmetic import (
    FACTORS,
    LANES,
    LOG2_E,
    Singles,
    as_single,
    constants,
    constants_single,
    exp2,
    exp2_single,
    log_of_lanes,
    prefetch,
    take_exponents,
)
from ensemble.blocks import (
    CLIPS_PER_BLOCK,
    Rows,
)
from ensemble.kernels import Labels
from metrics.scores import Floats, Integers

SMALLEST_LIKELIHOOD = 1e-30
"""The smallest likelihood that is used: a clip on which a member is certain and wrong costs 69 nats
and not infinitely many. A product of eight is still a normal double."""


@compiled(error_model="numpy", fastmath={"contract"})
def of_labels(logits_KN: Floats, labels_N: Labels) -> Floats:
    """Return each clip's probability of its label [N], at least SMALLEST_LIKELIHOOD."""
    n_classes, n = logits_KN.shape
    c, result_N = constants(), np.empty(n)
    largest_B = np.empty(CLIPS_PER_BLOCK)
    label_B = np.zeros(CLIPS_PER_BLOCK, logits_KN.dtype)
    total_B = np.empty(CLIPS_PER_BLOCK)
    for start in range(0, n, CLIPS_PER_BLOCK):
        class_B = labels_N[start : start + CLIPS_PER_BLOCK]
        largest_B[:] = -np.inf
        for k in range(n_classes):
            row_B = logits_KN[k, start : start + CLIPS_PER_BLOCK]
            for b in range(len(row_B)):
                largest_B[b] = max(largest_B[b], row_B[b])
            for b in range(len(class_B)):
                logit, other = row_B[b], label_B[b]
                label_B[b] = logit if class_B[b] == k else other
        total_B[:] = 0
        for k in range(n_classes):
            row_B = logits_KN[k, start : start + CLIPS_PER_BLOCK]
            for b in range(len(row_B)):
                total_B[b] += exp2((row_B[b] - largest_B[b]) * LOG2_E, c)
        result_B = result_N[start : start + CLIPS_PER_BLOCK]
        for b in range(len(result_B)):
            probability = exp2((label_B[b] - largest_B[b]) * LOG2_E, c) / total_B[b]
            floor = SMALLEST_LIKELIHOOD
            result_B[b] = max(floor, probability)
    return result_N


@compiled(error_model="numpy", fastmath={"contract"})
def about_of_labels(logits_KN: Rows, labels_N: Labels, small: bool, result_N: Singles) -> None:
    """Fill result_N with `of_labels` in float32 arithmetic.

    Args:
        logits_KN: logits of a member.
        labels_N: true classes.
        small: whether sums of exponentials stay in the range of float32 without subtracting the
            largest logit.
        result_N: the array to fill.
    """
    n_classes, n = logits_KN.shape
    scale, smallest, c = np.float32(LOG2_E), np.float32(-125), constants_single()
    largest_B = np.empty(CLIPS_PER_BLOCK, np.float32)
    label_B, total_B = np.zeros(CLIPS_PER_BLOCK, logits_KN.dtype), np.empty_like(largest_B)
    for start in range(0, n, CLIPS_PER_BLOCK):
        class_B = labels_N[start : start + CLIPS_PER_BLOCK]
        largest_B[:] = 0 if small else -np.inf
        for k in range(0 if small else n_classes):
            row_B = logits_KN[k, start : start + CLIPS_PER_BLOCK]
            for b in range(len(row_B)):
                largest_B[b] = max(largest_B[b], as_single(row_B[b]))
        total_B[:] = 0
        for k in range(n_classes):
            row_B = logits_KN[k, start : start + CLIPS_PER_BLOCK]
            for b in range(len(row_B)):
                exponent = (as_single(row_B[b]) - largest_B[b]) * scale
                total_B[b] += exp2_single(max(exponent, smallest), c)
            for b in range(len(class_B)):
                logit, other = row_B[b], label_B[b]
                label_B[b] = logit if class_B[b] == k else other
        result_B = result_N[start : start + CLIPS_PER_BLOCK]
        for b in range(len(result_B)):
            power = exp2_single(max((as_single(label_B[b]) - largest_B[b]) * scale, smallest), c)
            result_B[b] = max(power / total_B[b], np.float32(SMALLEST_LIKELIHOOD))


@compiled(error_model="numpy", fastmath={"contract"})
def tangent(sum_N: Floats, n_chosen: int, slopes_N: Singles) -> tuple[float, float]:
    """Fill slopes_N with the inverse of the mean likelihood.

    Returns:
        Summed over clips: the slopes' logarithms, and slope times the summed likelihood.
    """
    products_L, exponents_L = np.ones(LANES), np.zeros(LANES, np.int64)
    heights_L = np.zeros(LANES)
    for start in range(0, len(sum_N), LANES):
        sum_L, slopes_L = sum_N[start : start + LANES], slopes_N[start : start + LANES]
        for lane in range(len(sum_L)):
            slopes_L[lane] = n_chosen / sum_L[lane]
        for lane in range(len(sum_L)):
            heights_L[lane] += slopes_L[lane] * sum_L[lane]
        for lane in range(len(sum_L)):
            products_L[lane] *= slopes_L[lane]
        take_exponents(products_L, exponents_L)
    return log_of_lanes(products_L, exponents_L), heights_L.sum()


@compiled(error_model="numpy", fastmath={"contract"})
def sum_logs(rows_MN: NDArray[np.floating], candidates: Integers, base_N: Floats) -> Floats:
    """Return the sum over clips of ln(base + number) for each candidate."""
    n = rows_MN.shape[1]
    result = np.empty(len(candidates))
    factors = LANES * FACTORS
    for i in range(len(candidates)):
        row_N = rows_MN[candidates[i]]
        products_L, exponents_L = np.ones(LANES), np.zeros(LANES, np.int64)
        for start in range(0, n - n % factors, factors):
            prefetch(row_N[start + 4 * factors : start + 5 * factors])
            for first in range(start, start + factors, LANES):
                row_L, base_L = row_N[first : first + LANES], base_N[first : first + LANES]
                for lane in range(LANES):
                    products_L[lane] *= base_L[lane] + row_L[lane]
            take_exponents(products_L, exponents_L)
        for start in range(n - n % factors, n, LANES):
            row_L, base_L = row_N[start : start + LANES], base_N[start : start + LANES]
            for lane in range(len(row_L)):
                products_L[lane] *= base_L[lane] + row_L[lane]
        take_exponents(products_L, exponents_L)
        result[i] = log_of_lanes(products_L, exponents_L)
    return result
