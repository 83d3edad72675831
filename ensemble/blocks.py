"""The layout of logits for kernels (M members, N clips, K classes, B clips in a block).

Clips are side by side, as in the store, and are processed a block at a time: a loop over b becomes
a few vector instructions, and the numbers of a block stay in the caches next to the core.
"""

from typing import get_args

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.arithmetic import (
    FACTORS,
    LANES,
    as_double,
    exp,
)
from ensemble.options import MeanSpace
from ensemble.vectors import SINGLES_AT_ONCE
from metrics.scores import Floats, Integers

CLIPS_PER_BLOCK = LANES * FACTORS
"""A block of ten classes in float64 is 40 KiB."""

SMALLEST_PROBABILITY = 1e-300
"""The smallest probability that is used, so that logarithms stay finite."""

Rows = NDArray[np.floating] | NDArray[np.int16]


def lay_out_by_class(logits_MNK: NDArray[np.floating]) -> Rows:
    """Return the logits as [M, K, N]; they are copied only if their layout in memory is another.

    float16 is returned as its bits in int16, as numba has no float16. The result is always
    read-only: numba would compile every kernel once more for arrays that are not.
    """
    logits_MKN = np.ascontiguousarray(logits_MNK.transpose(0, 2, 1)).view()
    logits_MKN.setflags(write=False)
    return logits_MKN.view(np.int16) if logits_MKN.dtype == np.float16 else logits_MKN


def fill_vector(logits_MKN: Rows) -> Rows:
    """Return logits of at least as many clips as a vector has numbers; zeros are added to fewer."""
    n_members, n_classes, n = logits_MKN.shape
    if n >= SINGLES_AT_ONCE:
        return logits_MKN
    filled_MKN: Rows = np.zeros((n_members, n_classes, SINGLES_AT_ONCE), logits_MKN.dtype)
    filled_MKN[:, :, :n] = logits_MKN
    filled_MKN.setflags(write=False)
    return filled_MKN


def as_float64(numbers: Rows) -> Floats:
    """Return a float64 copy of what `lay_out_by_class` returns, without loss.

    Kernels that see few members, or each of them once, take this copy: they are then compiled for
    one type of number instead of three.
    """
    floats = numbers.view(np.float16) if numbers.dtype == np.int16 else numbers
    return floats.astype(np.float64, order="C")


def check_logits(logits_MNK: ArrayLike) -> NDArray[np.floating]:
    """Check the shape and type of logits, but not their values, and return them as this machine's floats.

    Raises:
        ValueError: they are not floats of shape (members, clips, classes).
    """
    logits = np.asarray(logits_MNK)
    if logits.ndim != 3 or 0 in logits.shape or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"logits of shape {logits.shape} and type {logits.dtype}, expected floats of shape "
            "(members, clips, classes), at least one of each"
        )
    # Kernels would read bytes in another order as other numbers, and know no longer floats.
    kind = np.float64 if logits.itemsize > 8 else logits.dtype.newbyteorder("=")
    return logits.astype(kind, copy=False)


def check_labels(labels_N: ArrayLike, n: int, n_classes: int) -> Integers:
    """Check labels of n clips and return them as int64.

    Raises:
        ValueError: their number is not n, or one of them is not a class.
    """
    labels = np.asarray(labels_N)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels of shape {labels.shape} and type {labels.dtype}, expected {n} integers: "
            "one for each clip"
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"labels within {labels.min()}...{labels.max()}, expected 0...{n_classes - 1}"
        )
    return labels.astype(np.int64)


def check_space(space: MeanSpace) -> MeanSpace:
    """Check that there is such a space and return it.

    Raises:
        ValueError: there is no such space.
    """
    if space not in get_args(MeanSpace):
        raise ValueError(f"space {space!r}, expected 'logits' or 'probabilities'")
    return space


def check_finite(logits_MNK: NDArray[np.floating]) -> None:
    """Check that there are no NaNs and no infinities.

    Raises:
        ValueError: there are some; the message names their members.
    """
    wrong = [m for m, logits_NK in enumerate(logits_MNK) if not np.isfinite(logits_NK).all()]
    if wrong:
        raise ValueError(f"logits of members {wrong} are not all finite: leave these members out")


@numba.njit(cache=True, inline="always")
def load_block(logits_KN: Rows, start: int, scale: float, block_KB: Floats) -> None:
    """Fill a block with the clips from `start` on, multiplied by a scale."""
    for k in range(len(block_KB)):
        row_B = logits_KN[k, start : start + block_KB.shape[1]]
        for b in range(len(row_B)):
            block_KB[k, b] = scale * as_double(row_B[b])


@numba.njit(cache=True, inline="always")
def raise_e(logits_KB: Floats, scale: float) -> tuple[Floats, Floats]:
    """Replace logits by the exponentials of the logits minus the largest of the clip, times a scale.

    Returns:
        The largest logit of each clip; the sum of its exponentials.
    """
    n_classes, n_inside = logits_KB.shape
    largest_B = logits_KB[0].copy()
    for k in range(1, n_classes):
        for b in range(n_inside):
            largest_B[b] = max(largest_B[b], logits_KB[k, b])
    total_B = np.zeros(n_inside)
    for k in range(n_classes):
        for b in range(n_inside):
            logits_KB[k, b] = exp(scale * (logits_KB[k, b] - largest_B[b]))
            total_B[b] += logits_KB[k, b]
    return largest_B, total_B


@numba.njit(cache=True)
def apply_softmax(logits_KB: Floats, scale: float) -> tuple[Floats, Floats]:
    """Replace logits by the softmax over the first axis of the logits times a scale; returns as `raise_e`."""
    n_classes, n_inside = logits_KB.shape
    largest_B, total_B = raise_e(logits_KB, scale)
    share_B = 1 / total_B
    for k in range(n_classes):
        for b in range(n_inside):
            logits_KB[k, b] *= share_B[b]
    return largest_B, total_B
