"""The members' logits as one set of soft labels (M members, N clips, K classes, B of a block)."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from disk.numba_cache import compiled
from ensemble.arithmetic import Singles
from ensemble.blocks import (
    CLIPS_PER_BLOCK,
    SMALLEST_PROBABILITY,
    Rows,
    apply_softmax,
    as_double,
    as_float64,
    check_logits,
    check_space,
    lay_out_by_class,
    load_block,
    raise_e,
)
from ensemble.options import MeanSpace
from ensemble.several import from_choices, sigmoid, to_choices
from metrics.scores import Floats, Integers

Flags = NDArray[np.bool_]

_CLIPS_AT_ONCE = 2 * CLIPS_PER_BLOCK
_LARGEST_LOGIT = float(np.finfo(np.float32).max)


def mean_logits(
    logits_MNK: ArrayLike,
    weights_M: ArrayLike,
    *,
    temperatures_M: ArrayLike | None = None,
    space: MeanSpace = "logits",
    several: bool = False,
) -> Singles:
    """Return the weighted mean of the members, float32 [N, K].

    Args:
        logits_MNK: finite floats. Not copied, and fastest, in the layout of `LogitStore.read` and
            in float16 or float32.
        weights_M: how much each member counts; none is negative, their sum is 1. A member of weight
            0 is not read.
        temperatures_M: what each member's logits are divided by first; None for no division.
        space: the mean of the logits, or the logarithm of the mean of the members' probabilities.
        several: whether a clip may have several labels: then logits are log odds of each class, and so
            is the mean of probabilities.

    Raises:
        ValueError: shapes, weights or temperatures are wrong, or a value is not finite.
    """
    if several and space == "probabilities":
        choices_MC2, n_classes = to_choices(logits_MNK), np.shape(logits_MNK)[2]
        mean_C2 = _combine(choices_MC2, weights_M, temperatures_M, space, temperature=None)
        return from_choices(mean_C2[None], n_classes)[0]
    return _combine(logits_MNK, weights_M, temperatures_M, space, temperature=None)


def soft_labels(
    logits_MNK: ArrayLike,
    weights_M: ArrayLike,
    temperature: float,
    *,
    temperatures_M: ArrayLike | None = None,
    space: MeanSpace = "logits",
    several: bool = False,
) -> Singles:
    """Return the class probabilities of `mean_logits` at a temperature, float32 [N, K].

    For use outside of training: a student's training softens logits itself
    (`students.losses.soften`).

    Hinton et al. 2015, arXiv:1503.02531, eq. 1.

    Args:
        logits_MNK: as for `mean_logits`.
        weights_M: as for `mean_logits`.
        temperature: above 0; 1 leaves the mean as it is, a higher one makes it softer.
        temperatures_M: as for `mean_logits`.
        space: as for `mean_logits`.
        several: whether a clip may have several labels: then each class has a probability of its own, the
            sigmoid and not the softmax.

    Raises:
        ValueError: shapes, weights or temperatures are wrong, or a value is not finite.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature!r}, expected a finite number above 0")
    if several:
        mean_NK = mean_logits(
            logits_MNK, weights_M, temperatures_M=temperatures_M, space=space, several=True
        )
        return sigmoid(mean_NK, temperature)
    return _combine(logits_MNK, weights_M, temperatures_M, space, float(temperature))


def _combine(
    logits_MNK: ArrayLike,
    weights_M: ArrayLike,
    temperatures_M: ArrayLike | None,
    space: MeanSpace,
    temperature: float | None,
) -> Singles:
    logits = check_logits(logits_MNK)
    weights = _check_weights(weights_M, len(logits))
    temperatures = _check_temperatures(temperatures_M, len(logits))
    of_probabilities = check_space(space) == "probabilities"
    result_NK = np.empty(logits.shape[1:], np.float32)
    row = _fill(
        lay_out_by_class(logits),
        weights,
        1 / temperatures,
        of_probabilities,
        temperature,
        result_NK,
    )
    if row >= 0:
        # The comparison is written so that a NaN counts as wrong.
        wrong_MK = ~(np.abs(logits[:, row]) <= _LARGEST_LOGIT * temperatures[:, None])
        members = np.flatnonzero(wrong_MK.any(axis=1) & (weights > 0)).tolist()
        raise ValueError(
            f"the logits of row {row} of members {members} are not finite or beyond "
            f"+-{_LARGEST_LOGIT:.2g}: leave out the members that diverged"
        )
    return result_NK


def _check_weights(weights_M: ArrayLike, n_members: int) -> Floats:
    # Copied, as numba would compile kernels once more for a read-only array.
    weights = np.array(weights_M, np.float64)
    if weights.shape != (n_members,):
        raise ValueError(
            f"weights of shape {weights.shape}, expected {(n_members,)}: one for each member"
        )
    # A sum of some hundred float32 shares is off by less than 1e-5.
    if not (weights.min() >= 0 and abs(weights.sum() - 1) <= 1e-5):
        raise ValueError(f"weights {weights.tolist()}, expected none negative and a sum of 1")
    return weights


def _check_temperatures(temperatures_M: ArrayLike | None, n_members: int) -> Floats:
    if temperatures_M is None:
        return np.ones(n_members)
    temperatures = np.asarray(temperatures_M, np.float64)
    if temperatures.shape != (n_members,):
        raise ValueError(
            f"temperatures of shape {temperatures.shape}, expected {(n_members,)}: one for each "
            "member"
        )
    if not (np.isfinite(temperatures).all() and temperatures.min() > 0):
        raise ValueError(f"temperatures {temperatures.tolist()}, expected finite numbers above 0")
    return temperatures


def _fill(
    logits_MKN: Rows,
    weights_M: Floats,
    scales_M: Floats,
    of_probabilities: bool,
    temperature: float | None,
    result_NK: Singles,
) -> int:
    """Write the mean, or its softmax at a temperature; return the first row that is not finite.

    Returns -1 if all rows are finite. Written in Python, as a compiled loop would contain another
    copy of each kernel for each type of logits, and runs no faster.
    """
    _, n_classes, n = logits_MKN.shape
    shares_M = weights_M * scales_M
    members_U = np.flatnonzero(shares_M)
    shares_U = shares_M[members_U]
    for start in range(0, n, _CLIPS_AT_ONCE):
        mean_KB = np.zeros((n_classes, min(_CLIPS_AT_ONCE, n - start)))
        if of_probabilities:
            _add_probabilities(logits_MKN, start, weights_M, scales_M, mean_KB)
            lost_KB = mean_KB < SMALLEST_PROBABILITY
            _take_logarithms(mean_KB)
            if lost_KB.any():
                block_MKB = logits_MKN[:, :, start : start + _CLIPS_AT_ONCE]
                _recover(block_MKB, weights_M, scales_M, lost_KB, mean_KB)
        else:
            _add_logits(logits_MKN, start, members_U, shares_U, mean_KB)
        if _count_wrong(mean_KB):
            # The comparison is written so that a NaN counts as wrong.
            wrong_KB = ~(np.abs(mean_KB) <= _LARGEST_LOGIT)
            return start + int(wrong_KB.any(axis=0).argmax())
        result_BK = result_NK[start : start + _CLIPS_AT_ONCE]
        if temperature is None:
            result_BK[...] = mean_KB.T
        else:
            _soften(mean_KB, 1 / temperature, result_BK)
    return -1


@compiled()
def _add_logits(
    logits_MKN: Rows, start: int, members_U: Integers, shares_U: Floats, mean_KB: Floats
) -> None:
    n_classes, n_inside = mean_KB.shape
    n_members, end = len(members_U), start + n_inside
    for k in range(n_classes):
        mean_B = mean_KB[k]
        # Two members at a time, because each time the mean is read and written.
        for u in range(0, n_members - 1, 2):
            row_B, share = logits_MKN[members_U[u], k, start:end], shares_U[u]
            next_B, next_share = logits_MKN[members_U[u + 1], k, start:end], shares_U[u + 1]
            for b in range(n_inside):
                one = mean_B[b] + share * as_double(row_B[b])
                mean_B[b] = one + next_share * as_double(next_B[b])
        if n_members % 2:
            row_B, share = logits_MKN[members_U[-1], k, start:end], shares_U[-1]
            for b in range(n_inside):
                mean_B[b] += share * as_double(row_B[b])


@compiled()
def _soften(mean_KB: Floats, scale: float, result_BK: Singles) -> None:
    """Write the softmax of logits times a scale, as `apply_softmax` computes it; the logits are lost."""
    n_classes, n_inside = mean_KB.shape
    share_B = raise_e(mean_KB, scale)[1]
    for b in range(n_inside):
        share_B[b] = 1 / share_B[b]
    for k in range(n_classes):
        for b in range(n_inside):
            result_BK[b, k] = mean_KB[k, b] * share_B[b]


@compiled()
def _add_probabilities(
    logits_MKN: Rows, start: int, weights_M: Floats, scales_M: Floats, mean_KB: Floats
) -> None:
    n_classes, n_inside = mean_KB.shape
    member_KB = np.empty((n_classes, n_inside))
    for m in range(len(logits_MKN)):
        if weights_M[m] == 0:
            continue
        load_block(logits_MKN[m], start, scales_M[m], member_KB)
        # -inf would become a probability of 0; times 0, it is a NaN, as every value that is not
        # finite.
        _add_times(mean_KB, member_KB, 0.0)
        apply_softmax(member_KB, 1.0)
        _add_times(mean_KB, member_KB, weights_M[m])


@compiled()
def _add_times(mean_KB: Floats, member_KB: Floats, factor: float) -> None:
    for k in range(len(mean_KB)):
        for b in range(mean_KB.shape[1]):
            mean_KB[k, b] += factor * member_KB[k, b]


@compiled()
def _take_logarithms(mean_KB: Floats) -> None:
    for k in range(len(mean_KB)):
        for b in range(mean_KB.shape[1]):
            # With the arguments in this order, a NaN stays a NaN.
            mean_KB[k, b] = math.log(max(mean_KB[k, b], SMALLEST_PROBABILITY))


def _recover(
    logits_MKB: Rows, weights_M: Floats, scales_M: Floats, lost_KB: Flags, mean_KB: Floats
) -> None:
    """Replace logarithms of what is too small for a probability by those of sums of logarithms."""
    clips, members = np.flatnonzero(lost_KB.any(axis=0)), np.flatnonzero(weights_M)
    scaled_MKB = as_float64(logits_MKB[members][:, :, clips]) * scales_M[members, None, None]
    # What is not finite is found in the mean later, and refused.
    with np.errstate(invalid="ignore"):
        logs_MKB = scaled_MKB - np.logaddexp.reduce(scaled_MKB, axis=1, keepdims=True)
        sums_KB = np.logaddexp.reduce(logs_MKB + np.log(weights_M[members, None, None]), axis=0)
    mean_KB[:, clips] = np.where(lost_KB[:, clips], sums_KB, mean_KB[:, clips])


@compiled()
def _count_wrong(mean_KB: Floats) -> int:
    n_wrong = 0
    for k in range(len(mean_KB)):
        for b in range(mean_KB.shape[1]):
            # A NaN counts as wrong.
            n_wrong += not abs(mean_KB[k, b]) <= _LARGEST_LOGIT
    return n_wrong
