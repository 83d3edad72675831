"""Scores of logits of clips that may have several labels, or none (N clips, K classes).

A logit is the log odds of a class; targets are 1 for each class that a clip has, else 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def check_targets(logits_NK: ArrayLike, targets_NK: ArrayLike) -> tuple[Floats, Flags]:
    """Check logits and targets; return them as float64 and bool.

    Raises:
        ValueError: There are no clips, shapes do not match, a target is neither 0 nor 1, or logits are
            not finite.
    """
    logits, targets = np.asarray(logits_NK, np.float64), np.asarray(targets_NK)
    if logits.ndim != 2 or 0 in logits.shape or targets.shape != logits.shape:
        raise ValueError(
            f"logits of shape {logits.shape} and targets of shape {targets.shape}, expected the same "
            "(clips, classes) with at least one clip"
        )
    wrong = np.argwhere((targets != 0) & (targets != 1))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"target {targets[row, column]} in row {row}, class {column}: expected 0 or 1"
        )
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise ValueError(f"logits of {len(broken)} clip(s) are not finite, first row {broken[0]}")
    return logits, targets.astype(np.bool_)


def log_sigmoid(logits_NK: ArrayLike) -> Floats:
    """Return the logarithms of the classes' probabilities, float64; stable for any finite logits."""
    logits = np.asarray(logits_NK, np.float64)
    return np.minimum(logits, 0) - np.log1p(np.exp(-np.abs(logits)))


def binary_losses(logits_NK: Floats, targets_NK: Flags) -> Floats:
    """Return the mean over classes of the binary cross entropies of each clip, in nats [N]."""
    return -log_sigmoid(np.where(targets_NK, logits_NK, -logits_NK)).mean(axis=1)


def measure_agreement(first_NK: ArrayLike, second_NK: ArrayLike, *, several: bool) -> float:
    """Return the share of clips that two systems assign to the same class, 0...1.

    If clips may have several labels, it is the share of decisions that are the same: one for each class
    of each clip, which has it where its logit is above 0.
    """
    first, second = np.asarray(first_NK), np.asarray(second_NK)
    if several:
        return float(((first > 0) == (second > 0)).mean())
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())


def average_precisions(logits_NK: ArrayLike, targets_NK: ArrayLike) -> Floats:
    """Return the average precision of each class, 0...1 [K]; NaN for a class that no clip has.

    It is the sum over thresholds of the precision times the gain in recall, without interpolation
    (Manning et al. 2008, "Introduction to Information Retrieval", section 8.4). Clips of equal logits
    are one threshold.

    Raises:
        ValueError: As for `check_targets`.
    """
    logits, targets = check_targets(logits_NK, targets_NK)
    ones_1N = np.ones((1, len(logits)))
    pairs = zip(logits.T, targets.T, strict=True)
    return np.array([RankedClips.of(*pair).compute_precision(ones_1N)[0] for pair in pairs])


def mean_average_precision(logits_NK: ArrayLike, targets_NK: ArrayLike) -> float:
    """Return the mAP: the mean of the average precisions of the classes that occur, 0...1.

    Raises:
        ValueError: As for `check_targets`, or no clip has any class.
    """
    found_K = average_precisions(logits_NK, targets_NK)
    if np.isnan(found_K).all():
        raise ValueError(
            f"none of {len(found_K)} classes has a clip: there is no precision to average"
        )
    return float(np.nanmean(found_K))


class RankedClips:
    """Clips in the order of one class's falling logits, for any weights of clips."""

    def __init__(
        self, order_N: NDArray[np.int64], targets_N: Flags, ends: NDArray[np.int64]
    ) -> None:
        self._order_N, self._targets_N, self._ends = order_N, targets_N, ends

    @classmethod
    def of(cls, logits_N: Floats, targets_N: Flags) -> "RankedClips":
        """Rank clips; `ends` are the last places of equal logits."""
        order_N = np.argsort(-logits_N, kind="stable")
        ranked_N = logits_N[order_N]
        ends = np.append(np.flatnonzero(ranked_N[1:] != ranked_N[:-1]), len(ranked_N) - 1)
        return cls(order_N, targets_N[order_N], ends)

    def compute_precision(self, weights_RN: Floats) -> Floats:
        """Return the average precision [R] for each row of weights; NaN if no weighted clip has the class.

        A clip of weight 2 counts as two.
        """
        ranked_RN = weights_RN[:, self._order_N]
        shown_RE = ranked_RN.cumsum(axis=1)[:, self._ends]
        found_RE = (ranked_RN * self._targets_N).cumsum(axis=1)[:, self._ends]
        gains_RE = np.diff(found_RE, axis=1, prepend=0)
        with np.errstate(invalid="ignore"):
            precision_RE = np.where(shown_RE > 0, found_RE / shown_RE, 0)
            return (gains_RE * precision_RE).sum(axis=1) / found_RE[:, -1]


class PrecisionsOfGroups:
    """The mAP of seeds under any draw of groups of clips (A seeds, R draws, G groups)."""

    def __init__(
        self, logits_ANK: Sequence[ArrayLike], targets_NK: ArrayLike, group_N: NDArray[np.int64]
    ) -> None:
        """Rank the clips of each seed and class.

        Raises:
            ValueError: As for `mean_average_precision`.
        """
        if not np.any(targets_NK):
            mean_average_precision(logits_ANK[0], targets_NK)
        checked = [check_targets(each_NK, targets_NK) for each_NK in logits_ANK]
        self._ranked_AK = [
            [RankedClips.of(*pair) for pair in zip(logits.T, targets.T, strict=True)]
            for logits, targets in checked
        ]
        self._group_N = group_N
        self.n_seeds = len(self._ranked_AK)

    def compute(self, weights_RG: Floats) -> Floats:
        """Return the mAP [R, A] of each draw and seed; group g occurs weights[r, g] times.

        Classes without a clip in a draw do not count in it; without any class it is 0.
        """
        weights_RN = weights_RG[:, self._group_N]
        means_AR = []
        for ranked_K in self._ranked_AK:
            precision_KR = np.array([each.compute_precision(weights_RN) for each in ranked_K])
            occurs_KR = ~np.isnan(precision_KR)
            total_R = np.where(occurs_KR, precision_KR, 0).sum(axis=0)
            means_AR.append(total_R / np.maximum(1, occurs_KR.sum(axis=0)))
        return np.stack(means_AR, axis=1)

    def compute_values(self) -> Floats:
        """Return the mAP [A] of the clips themselves for each seed."""
        return self.compute(np.ones((1, int(self._group_N.max()) + 1)))[0]
