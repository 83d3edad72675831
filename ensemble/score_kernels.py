"""Brier score and hits of a mean of members (N clips, K classes, B clips in a block).

In float64, a block of clips at a time, so that the block stays in the caches next to the core.
"""

import numpy as np

from disk.numba_cache import compiled
from ensemble.arithmetic import (
    exp,
)
from ensemble.blocks import (
    CLIPS_PER_BLOCK,
)
from ensemble.kernels import Labels
from metrics.scores import Floats, Integers


@compiled(error_model="numpy")
def probabilities(logits_KN: Floats) -> Floats:
    """Return the softmax of a member's logits [K, N]."""
    n_classes, n = logits_KN.shape
    result_KN = np.empty((n_classes, n))
    for start in range(0, n, CLIPS_PER_BLOCK):
        block_KB = result_KN[:, start : start + CLIPS_PER_BLOCK]
        for k in range(n_classes):
            row_B = logits_KN[k, start : start + CLIPS_PER_BLOCK]
            for b in range(len(row_B)):
                block_KB[k, b] = row_B[b]
        _softmax(block_KB)
    return result_KN


@compiled(error_model="numpy")
def sum_brier(
    numbers_KN: Floats, sum_KN: Floats, n_members: int, labels_N: Labels, soft: bool
) -> float:
    """Return the Brier score, summed over clips, of the mean of some members and one more.

    Args:
        numbers_KN: probabilities of the one more member if `soft`, otherwise its logits.
        sum_KN: sum of the other members' numbers.
        n_members: the number of members with the one more.
        labels_N: true classes.
        soft: whether the numbers are probabilities.
    """
    n_classes, n = numbers_KN.shape
    block_KB = np.empty((n_classes, CLIPS_PER_BLOCK))
    loss_B = np.zeros(CLIPS_PER_BLOCK)
    for start in range(0, n, CLIPS_PER_BLOCK):
        n_inside = min(CLIPS_PER_BLOCK, n - start)
        mean_KB = block_KB[:, :n_inside]
        _fill_mean(numbers_KN, sum_KN, n_members, start, mean_KB)
        if not soft:
            _softmax(mean_KB)
        for k in range(n_classes):
            for b in range(n_inside):
                difference = mean_KB[k, b] - (1.0 if labels_N[start + b] == k else 0.0)
                loss_B[b] += difference * difference
    return loss_B.sum()


@compiled(error_model="numpy")
def count_hits(numbers_KN: Floats, sum_KN: Floats, labels_N: Labels) -> Integers:
    """Count the clips of each class with the largest sum there; of equal sums, the first counts."""
    n_classes, n = numbers_KN.shape
    result_K = np.zeros(n_classes, np.int64)
    block_KB = np.empty((n_classes, CLIPS_PER_BLOCK))
    largest_B = np.empty(CLIPS_PER_BLOCK)
    class_B = np.empty(CLIPS_PER_BLOCK, np.int32)
    for start in range(0, n, CLIPS_PER_BLOCK):
        sums_KB = block_KB[:, : min(CLIPS_PER_BLOCK, n - start)]
        _fill_mean(numbers_KN, sum_KN, 1, start, sums_KB)
        largest_B[:] = -np.inf
        for k in range(n_classes):
            for b in range(sums_KB.shape[1]):
                larger = sums_KB[k, b] > largest_B[b]
                class_B[b] = k if larger else class_B[b]
                largest_B[b] = sums_KB[k, b] if larger else largest_B[b]
        for b in range(sums_KB.shape[1]):
            result_K[class_B[b]] += class_B[b] == labels_N[start + b]
    return result_K


@compiled(inline="always")
def _fill_mean(
    numbers_KN: Floats, sum_KN: Floats, n_members: int, start: int, mean_KB: Floats
) -> None:
    for k in range(len(mean_KB)):
        row_B = numbers_KN[k, start : start + mean_KB.shape[1]]
        base_B = sum_KN[k, start : start + mean_KB.shape[1]]
        for b in range(len(row_B)):
            mean_KB[k, b] = (base_B[b] + row_B[b]) / n_members


@compiled(inline="always")
def _softmax(block_KB: Floats) -> None:
    """Apply the softmax in place; subtracting the largest first keeps every exponential finite."""
    n_classes, n = block_KB.shape
    largest_B, total_B = np.full(n, -np.inf), np.zeros(n)
    for k in range(n_classes):
        for b in range(n):
            largest_B[b] = max(largest_B[b], block_KB[k, b])
    for k in range(n_classes):
        for b in range(n):
            block_KB[k, b] = exp(block_KB[k, b] - largest_B[b])
            total_B[b] += block_KB[k, b]
    for k in range(n_classes):
        for b in range(n):
            block_KB[k, b] /= total_B[b]
