"""The inner loop of selection (M members, P tiles, K classes, B clips in a tile).

Tiles of 32 clips with the clips innermost: every loop over b becomes a few vector instructions,
and a tile's numbers stay in the first-level cache.
"""

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic as _untyped_intrinsic
from numpy.typing import NDArray

CLIPS_PER_TILE = 32
ROWS_PER_LOG = 8
"""Sums of exponentials that are multiplied before one logarithm; each is at most K."""

_PADDING_LOGIT = 1e4
_LOG2_E = math.log2(math.e)
# ln 2 in two parts: the first has so few digits that its products with small integers are exact.
_LN_2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LN_2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_ROUND_TO_INTEGER = 1.5 * 2.0**52
"""Added to a double, leaves its nearest integer in the lowest bits."""
_SMALLEST_EXPONENT = -708.0
"""Below it the exponential is no longer a normal double; next to a sum of at least 1 it is 0."""

Floats = NDArray[np.float64]

intrinsic: Any = _untyped_intrinsic
"""numba calls what it decorates with other arguments than it is written with."""


def tiles(
    logits_MNK: NDArray[np.floating], labels_N: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Lay logits out for `losses`.

    Clips that fill up the last tile have a label that is certain: their loss is exactly 0 in any
    mean, so that the loops need no case for them.

    Returns:
        logits_MPKB of the same type, labels_PB.
    """
    n_members, n, n_classes = logits_MNK.shape
    n_tiles, n_whole = -(-n // CLIPS_PER_TILE), n // CLIPS_PER_TILE
    n_inside = n_whole * CLIPS_PER_TILE
    shape = (n_members, n_tiles, n_classes, CLIPS_PER_TILE)
    tiles_MPKB = np.zeros(shape, logits_MNK.dtype)
    by_tile = logits_MNK[:, :n_inside].reshape(n_members, n_whole, CLIPS_PER_TILE, n_classes)
    tiles_MPKB[:, :n_whole] = by_tile.transpose(0, 1, 3, 2)
    if n > n_inside:
        tiles_MPKB[:, -1, 0] = _PADDING_LOGIT
        tiles_MPKB[:, -1, :, : n - n_inside] = logits_MNK[:, n_inside:].transpose(0, 2, 1)
    labels_PB = np.zeros((n_tiles, CLIPS_PER_TILE), np.int64)
    labels_PB.reshape(-1)[:n] = labels_N
    return tiles_MPKB, labels_PB


@intrinsic
def _double_of_bits(typing_context: Any, bits: Any) -> Any:
    """The double that has these 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return numba.float64(numba.int64), generate


@intrinsic
def _bits_of_double(typing_context: Any, value: Any) -> Any:
    """The 64 bits of a double."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return numba.int64(numba.float64), generate


@numba.njit(cache=True, inline="always")
def _exp(x: float) -> float:
    """e^x for x <= 0, to about one unit in the last place.

    Own arithmetic, because the C library's takes one number at a time: with x = n ln 2 + r and
    |r| <= ln 2 / 2, it is 2^n times a Taylor polynomial of degree 13, whose remainder is 4e-18.
    """
    x = max(x, _SMALLEST_EXPONENT)
    shifted = x * _LOG2_E + _ROUND_TO_INTEGER
    n = shifted - _ROUND_TO_INTEGER
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * _double_of_bits((_bits_of_double(shifted) + 1023) << 52)


@numba.njit(cache=True)
def losses(
    tiles_MPKB: NDArray[np.floating],
    sum_PKB: Floats,
    n_chosen: int,
    labels_PB: NDArray[np.int64],
    candidates: NDArray[np.int64],
) -> Floats:
    """Log loss, summed over clips, of the mean of the chosen members and each candidate.

    Args:
        tiles_MPKB: logits, from `tiles`.
        sum_PKB: sum of the chosen members' logits.
        n_chosen: how many they are.
        labels_PB: true classes, from `tiles`.
        candidates: members to try, one at a time.

    Returns:
        In nats, in the order of candidates. A candidate's figure does not depend on the others.
    """
    result = np.empty(len(candidates))
    for i in range(len(candidates)):
        tiles_PKB = tiles_MPKB[candidates[i]]
        total = 0.0
        for p in range(len(tiles_PKB)):
            total += _tile_loss(tiles_PKB[p], sum_PKB[p], n_chosen + 1, labels_PB[p])
        result[i] = total
    return result


@numba.njit(cache=True)
def _tile_loss(
    logits_KB: NDArray[np.floating], sum_KB: Floats, n_members: int, labels_B: NDArray[np.int64]
) -> float:
    """Summed over the tile: log of the sum of exponentials, less the label's logit.

    The largest logit is taken off before anything is divided, so that no logit is too large. It is
    divided and not multiplied by a reciprocal: means that are equal have equal bits, whichever
    number of members they come from, and ties are ties.
    """
    n_classes = len(logits_KB)
    sums_KB = np.empty((n_classes, CLIPS_PER_TILE))
    largest_B = np.full(CLIPS_PER_TILE, -np.inf)
    for k in range(n_classes):
        for b in range(CLIPS_PER_TILE):
            sums_KB[k, b] = sum_KB[k, b] + logits_KB[k, b]
            largest_B[b] = max(largest_B[b], sums_KB[k, b])
    total_B = np.zeros(CLIPS_PER_TILE)
    for k in range(n_classes):
        for b in range(CLIPS_PER_TILE):
            total_B[b] += _exp((sums_KB[k, b] - largest_B[b]) / n_members)
    loss = 0.0
    for start in range(0, CLIPS_PER_TILE, ROWS_PER_LOG):
        product = 1.0
        for b in range(start, start + ROWS_PER_LOG):
            product *= total_B[b]
            loss += (largest_B[b] - sums_KB[labels_B[b], b]) / n_members
        loss += math.log(product)
    return loss
