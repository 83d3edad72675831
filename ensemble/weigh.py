"""Weights of members by convex optimisation (M members, N clips, K classes, B clips of a block)."""

import functools
import hashlib
import logging
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from disk.numba_cache import compiled
from ensemble.blocks import (
    SMALLEST_PROBABILITY,
    Rows,
    apply_softmax,
    as_double,
    as_float64,
    check_finite,
    check_labels,
    check_logits,
    check_space,
    lay_out_by_class,
    load_block,
)
from ensemble.options import MeanSpace
from metrics.scores import Floats, Integers

GAP_NATS = 1e-5
"""The loss of the weights is at most this far above the lowest; a split's own error is 1e-2."""
MAX_PASSES = 5000
"""Passes over all logits. 110 members with 29,680 clips take about 120."""

_CLIPS_PER_BLOCK = 128
"""A block of 110 members and ten classes in float16 is 280 KiB. It is still in the second-level
cache when the slopes need it again, so a pass reads the logits from memory only once."""

WeightJudge = Callable[[Floats], tuple[float, Floats]]
"""weights_M -> their log loss in nats and its slope in each weight, [M]."""

logger = logging.getLogger(__name__)


def convex_weights(
    logits_MNK: ArrayLike, labels_N: ArrayLike, *, space: MeanSpace = "logits"
) -> Floats:
    """Return the weights [M] that minimise the log loss of the weighted mean.

    None is negative, and their sum is 1. The loss is convex in the weights in either space, so it
    has one lowest value. It is found by exponentiated gradient from equal weights (Kivinen and
    Warmuth 1997, "Exponentiated gradient versus gradient descent for linear predictors"). A step
    may grow as long as the loss stays below its model: the slope plus the divergence from the last
    weights over the step. The search stops when the duality gap, weights . slopes - lowest slope,
    is at most GAP_NATS: by convexity, no weights have a loss that is lower by more (Jaggi 2013,
    "Revisiting Frank-Wolfe", section 2).

    The result is deterministic. A permutation of the members permutes the weights, to the last bit;
    members with equal logits get equal weights.

    Args:
        logits_MNK: finite floats. Not copied, and fastest, in the layout of `LogitStore.read`.
        labels_N: true classes, 0...K-1.
        space: whether the mean is of logits or of probabilities.

    Raises:
        ValueError: shapes, types, labels or the space are wrong, or values are not finite.
        ArithmeticError: the gap is not reached, as with a member whose logits are a hundred times
            as large as the others'.
    """
    logits = check_logits(logits_MNK)
    labels = check_labels(labels_N, *logits.shape[1:])
    check_space(space)
    check_finite(logits)
    logits_MKN = lay_out_by_class(logits)
    # Sums over members are in an order that does not depend on the order of the input.
    order = np.array(sorted(range(len(logits)), key=lambda m: _digest(logits_MKN[m])))
    judge = _make_judge(logits_MKN, order, labels, space)
    weights_M = np.empty(len(logits))
    weights_M[order] = _minimise(judge, len(logits))
    return weights_M


def _make_judge(
    logits_MKN: Rows, order_M: Integers, labels_N: Integers, space: MeanSpace
) -> WeightJudge:
    if space == "logits":
        return functools.partial(_judge_logits, logits_MKN, order_M, labels_N)
    of_labels_MN = np.empty((len(order_M), len(labels_N)))
    for row_N, member in zip(of_labels_MN, order_M, strict=True):
        row_N[:] = _of_labels(as_float64(logits_MKN[member]), labels_N)
    return functools.partial(_judge_probabilities, of_labels_MN)


def _digest(logits_KN: Rows) -> bytes:
    return hashlib.sha256(logits_KN.data).digest()


def _minimise(judge: WeightJudge, n_members: int) -> Floats:
    weights_M = np.full(n_members, 1 / n_members)
    loss, slopes_M = judge(weights_M)
    step, passes = 1.0, 1
    while (gap := float((weights_M * slopes_M).sum() - slopes_M.min())) > GAP_NATS:
        if passes == MAX_PASSES:
            raise ArithmeticError(
                f"after {passes} passes the weights of {n_members} members may be {gap:.1e} nats "
                f"above the best, expected {GAP_NATS:.0e}: divide the logits by their members' "
                "temperatures first, or leave out members with much larger logits than the others"
            )
        trial_M = weights_M * np.exp(-step * (slopes_M - slopes_M.min()))
        trial_M /= trial_M.sum()
        trial_loss, trial_slopes_M = judge(trial_M)
        passes += 1
        model = loss + (slopes_M * (trial_M - weights_M)).sum()
        if trial_loss <= model + _divergence(trial_M, weights_M) / step:
            weights_M, loss, slopes_M = trial_M, trial_loss, trial_slopes_M
            step *= 1.5
        else:
            step /= 2
    line = "weighed members=%d passes=%d log_loss=%.6f gap=%.1e"
    logger.info(line, n_members, passes, loss, gap)
    return weights_M


def _divergence(weights_M: Floats, of_M: Floats) -> float:
    """Return the Kullback-Leibler divergence in nats."""
    inside = weights_M > 0
    return float((weights_M[inside] * np.log(weights_M[inside] / of_M[inside])).sum())


@compiled()
def _judge_logits(
    logits_MKN: Rows, order_M: Integers, labels_N: Integers, weights_M: Floats
) -> tuple[float, Floats]:
    """Return the mean log loss of the weighted mean logits and its slope in each weight.

    The order of weights and slopes is that of `order_M`. The slope of a clip's loss is the member's
    logits times the excess of the probabilities over the labels.
    """
    n_members, n_classes, n = logits_MKN.shape
    slopes_M = np.zeros(n_members)
    loss = 0.0
    for start in range(0, n, _CLIPS_PER_BLOCK):
        n_inside = min(_CLIPS_PER_BLOCK, n - start)
        excess_KB = np.zeros((n_classes, n_inside))
        for m in range(n_members):
            if weights_M[m] == 0:
                continue
            for k in range(n_classes):
                row_B, sum_B = logits_MKN[order_M[m], k, start : start + n_inside], excess_KB[k]
                for b in range(n_inside):
                    sum_B[b] += weights_M[m] * as_double(row_B[b])
        label_B = np.empty(n_inside)
        for b in range(n_inside):
            label_B[b] = excess_KB[labels_N[start + b], b]
        largest_B, total_B = apply_softmax(excess_KB, 1.0)
        for b in range(n_inside):
            loss += largest_B[b] - label_B[b] + math.log(total_B[b])
            excess_KB[labels_N[start + b], b] -= 1
        for m in range(n_members):
            for k in range(n_classes):
                row_B = logits_MKN[order_M[m], k, start : start + n_inside]
                slopes_M[m] += _product(excess_KB[k], row_B)
    return loss / n, slopes_M / n


# The compiler may choose the order of the sum, or it would add one number at a time.
@compiled(fastmath={"reassoc", "contract"})
def _product(first_B: Floats, second_B: Rows) -> float:
    total = 0.0
    for b in range(len(second_B)):
        total += first_B[b] * as_double(second_B[b])
    return total


@compiled()
def _of_labels(logits_KN: Floats, labels_N: Integers) -> Floats:
    """Return a member's probability of each clip's label, [N]."""
    n_classes, n = logits_KN.shape
    result_N = np.empty(n)
    for start in range(0, n, _CLIPS_PER_BLOCK):
        member_KB = np.empty((n_classes, min(_CLIPS_PER_BLOCK, n - start)))
        load_block(logits_KN, start, 1.0, member_KB)
        apply_softmax(member_KB, 1.0)
        for b in range(member_KB.shape[1]):
            probability = member_KB[labels_N[start + b], b]
            result_N[start + b] = max(probability, SMALLEST_PROBABILITY)
    return result_N


@compiled()
def _judge_probabilities(of_labels_MN: Floats, weights_M: Floats) -> tuple[float, Floats]:
    """Return what `_judge_logits` does, for the weighted mean of the probabilities."""
    n_members, n = of_labels_MN.shape
    slopes_M = np.zeros(n_members)
    loss = 0.0
    for start in range(0, n, _CLIPS_PER_BLOCK):
        mean_B = np.zeros(min(_CLIPS_PER_BLOCK, n - start))
        for m in range(n_members):
            row_B = of_labels_MN[m, start : start + len(mean_B)]
            for b in range(len(mean_B)):
                mean_B[b] += weights_M[m] * row_B[b]
        for b in range(len(mean_B)):
            loss -= math.log(mean_B[b])
            mean_B[b] = 1 / mean_B[b]
        for m in range(n_members):
            slopes_M[m] -= _product(mean_B, of_labels_MN[m, start : start + len(mean_B)])
    return loss / n, slopes_M / n
