"""Logits as kernels take them (M members, N clips, K classes, B clips in a block).

Clips side by side, as the store lays them out, and a block of them at a time: every loop over b
becomes a few vector instructions, and a block's numbers stay in the first-level cache.
"""

from typing import Literal

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.arithmetic import Floats, Integers, as_double, exp

Space = Literal["logits", "probabilities"]
"""What is averaged."""

CLIPS_PER_BLOCK = 256
"""A block of ten classes in float64 is 20 KiB."""

SMALLEST_PROBABILITY = 1e-300
"""A smaller one counts as it: its logarithm stays finite."""

Rows = NDArray[np.floating] | NDArray[np.int16]


def by_class(logits_MNK: NDArray[np.floating]) -> Rows:
    """The logits [M, K, N], a copy only if they do not lie so in memory.

    float16 comes as its bits in int16, as numba knows no float16. Read-only, always: for numba that
    is a type of its own, and every kernel would be compiled for both.
    """
    logits_MKN = np.ascontiguousarray(logits_MNK.transpose(0, 2, 1)).view()
    logits_MKN.setflags(write=False)
    return logits_MKN.view(np.int16) if logits_MKN.dtype == np.float16 else logits_MKN


def checked_logits(logits_MNK: ArrayLike) -> NDArray[np.floating]:
    """The logits, after making sure of their shape and type; not of their values.

    Raises:
        ValueError: no floats of shape (members, clips, classes).
    """
    logits = np.asarray(logits_MNK)
    if logits.ndim != 3 or 0 in logits.shape or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"logits of shape {logits.shape} and type {logits.dtype}, expected floats of shape "
            "(members, clips, classes), at least one of each"
        )
    return logits


def checked_labels(labels_N: ArrayLike, n: int, n_classes: int) -> Integers:
    """The labels, after making sure that they are those of n clips.

    Raises:
        ValueError: another number of them, or one that is no class.
    """
    labels = np.asarray(labels_N)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels of shape {labels.shape} and type {labels.dtype}, expected {n} integers: "
            "one a clip"
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"labels within {labels.min()}...{labels.max()}, expected 0...{n_classes - 1}"
        )
    return labels.astype(np.int64)


def checked_space(space: Space) -> Space:
    """The space, after making sure that there is such a one.

    Raises:
        ValueError: there is none.
    """
    if space not in ("logits", "probabilities"):
        raise ValueError(f"space {space!r}, expected 'logits' or 'probabilities'")
    return space


def check_finite(logits_MNK: NDArray[np.floating]) -> None:
    """Make sure that there is no NaN and no infinity.

    Raises:
        ValueError: names the members that have one.
    """
    wrong = [m for m, logits_NK in enumerate(logits_MNK) if not np.isfinite(logits_NK).all()]
    if wrong:
        raise ValueError(f"logits of members {wrong} are not all finite: leave these members out")


@numba.njit(cache=True, inline="always")
def load(logits_KN: Rows, start: int, scale: float, block_KB: Floats) -> None:
    """Write the clips from `start` on, as many as the block holds, times a scale into the block."""
    for k in range(len(block_KB)):
        row_B = logits_KN[k, start : start + block_KB.shape[1]]
        for b in range(len(row_B)):
            block_KB[k, b] = scale * as_double(row_B[b])


@numba.njit(cache=True)
def softmax(logits_KB: Floats, scale: float) -> tuple[Floats, Floats]:
    """Put the softmax over the first axis of the logits times a scale in their place.

    Returns:
        The largest logit of each clip; the sum of the exponentials of what the scaled logits are
        above the scaled largest one.
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
    share_B = 1 / total_B
    for k in range(n_classes):
        for b in range(n_inside):
            logits_KB[k, b] *= share_B[b]
    return largest_B, total_B
