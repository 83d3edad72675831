"""The members' logits as one set of soft labels (M members, N clips, K classes)."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32s = NDArray[np.float32]
Floats = NDArray[np.float64]

_LARGEST_LOGIT = float(np.finfo(np.float32).max)
_CLIPS_PER_BLOCK = 4096
"""A block of ten classes in float64 is 320 KiB: it stays in the second-level cache."""


def mean_logits(logits_MNK: ArrayLike, weights_M: ArrayLike) -> Float32s:
    """Weighted mean of the members' logits, float32 [N, K].

    Args:
        logits_MNK: finite floats.
        weights_M: how much each member counts; none negative, sum 1.

    Raises:
        ValueError: shapes or weights that do not fit, a value that is not finite.
    """
    return _by_block(logits_MNK, weights_M, temperature=None)


def soft_labels(logits_MNK: ArrayLike, weights_M: ArrayLike, temperature: float) -> Float32s:
    """Class probabilities of the mean logits at a temperature, float32 [N, K]; rows sum to 1.

    Hinton et al. 2015, arXiv:1503.02531, eq. 1.

    Args:
        logits_MNK: finite floats.
        weights_M: how much each member counts; none negative, sum 1.
        temperature: above 0; 1 leaves the logits as they are, more is softer.

    Raises:
        ValueError: shapes, weights or a temperature that do not fit, a value that is not finite.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature!r}, expected a finite number above 0")
    return _by_block(logits_MNK, weights_M, temperature)


def _by_block(logits_MNK: ArrayLike, weights_M: ArrayLike, temperature: float | None) -> Float32s:
    logits, weights = np.asarray(logits_MNK), np.asarray(weights_M, np.float64)
    _check(logits, weights)
    _, n, n_classes = logits.shape
    result_NK = np.empty((n, n_classes), np.float32)
    for start in range(0, n, _CLIPS_PER_BLOCK):
        block = slice(start, start + _CLIPS_PER_BLOCK)
        mean_KB = _weighted_mean(logits[:, block], weights)
        # Written so that a NaN counts as wrong.
        wrong_B = ~(np.abs(mean_KB).max(axis=0) <= _LARGEST_LOGIT)
        if wrong_B.any():
            row = start + int(wrong_B.argmax())
            raise ValueError(
                f"the mean logits of row {row} are not finite or beyond +-{_LARGEST_LOGIT:.2g}: "
                "look for the member that diverged"
            )
        result_NK[block] = (mean_KB if temperature is None else _softmax(mean_KB / temperature)).T
    return result_NK


def _weighted_mean(logits_MBK: NDArray[np.floating], weights_M: Floats) -> Floats:
    mean_KB = np.zeros((logits_MBK.shape[2], logits_MBK.shape[1]))
    # Infinities of both signs become a NaN here, which the caller finds and names.
    with np.errstate(invalid="ignore", over="ignore"):
        for m in np.flatnonzero(weights_M):
            mean_KB += weights_M[m] * logits_MBK[m].T
    return mean_KB


def _softmax(logits_KB: Floats) -> Floats:
    """Softmax over the first axis: numpy is ten times faster there than over a short last one."""
    powers_KB = np.exp(logits_KB - logits_KB.max(axis=0))
    return powers_KB / powers_KB.sum(axis=0)


def _check(logits: NDArray[np.floating], weights: Floats) -> None:
    if logits.ndim != 3 or 0 in logits.shape or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"logits of shape {logits.shape} and type {logits.dtype}, expected floats of shape "
            "(members, clips, classes), at least one of each"
        )
    if weights.shape != logits.shape[:1]:
        raise ValueError(
            f"weights of shape {weights.shape}, expected {logits.shape[:1]}: one a member"
        )
    # A sum of some hundred float32 shares is off by less than 1e-5.
    if not (weights.min() >= 0 and abs(weights.sum() - 1) <= 1e-5):
        raise ValueError(f"weights {weights.tolist()}, expected none negative and a sum of 1")
