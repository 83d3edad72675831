"""Stepwise selection of an ensemble (M members, N clips, K classes)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.kernels import losses, tiles

DEFAULT_STEPS = 50
"""How many members are added with replacement unless it is said; as often measured."""

_LARGEST_LOGIT = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Selection:
    """An ensemble: who is in it, how much each counts, and what each addition was worth."""

    members: tuple[int, ...]
    """In the order of choice; with replacement one may stand several times."""
    weights: NDArray[np.float64]
    """[M], how often each was chosen over all choices; sums to 1."""
    losses: tuple[float, ...]
    """Log loss of the mean logits after each addition, in nats, falling."""


def select(
    logits_MNK: ArrayLike,
    labels_N: ArrayLike,
    *,
    with_replacement: bool = False,
    max_members: int | None = None,
) -> Selection:
    """Add the member that lowers the log loss of the mean logits most, until none does.

    Of equal members the one with the lowest index is taken. The order of members in the input
    changes nothing but their indices.

    Args:
        logits_MNK: finite floats.
        labels_N: true classes, 0...K-1.
        with_replacement: a member may be added again and so count more
            (Caruana et al. 2004, "Ensemble selection from libraries of models", section 2.2).
        max_members: most additions; None is all members, or 50 with replacement.

    Raises:
        ValueError: shapes, types, labels or max_members that do not fit, values not finite.
    """
    logits = _checked_logits(logits_MNK)
    labels = _checked_labels(labels_N, logits)
    n_members, n = logits.shape[:2]
    n_steps = _checked_steps(max_members, n_members, with_replacement)
    tiles_MPKB, labels_PB = tiles(logits, labels)
    sum_PKB = np.zeros(tiles_MPKB.shape[1:])
    candidates = np.arange(n_members)
    members: list[int] = []
    path: list[float] = []
    while len(members) < n_steps and len(candidates):
        candidate_losses = losses(tiles_MPKB, sum_PKB, len(members), labels_PB, candidates)
        best = int(candidate_losses.argmin())
        loss = float(candidate_losses[best]) / n
        if path and loss >= path[-1]:
            break
        member = int(candidates[best])
        members.append(member)
        path.append(loss)
        sum_PKB += tiles_MPKB[member]
        if not with_replacement:
            candidates = np.delete(candidates, best)
    weights = np.bincount(members, minlength=n_members) / len(members)
    weights.setflags(write=False)
    return Selection(members=tuple(members), weights=weights, losses=tuple(path))


def _checked_logits(logits_MNK: ArrayLike) -> NDArray[np.floating]:
    logits = np.asarray(logits_MNK)
    if logits.ndim != 3 or 0 in logits.shape or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"logits of shape {logits.shape} and type {logits.dtype}, expected floats of shape "
            "(members, clips, classes), at least one of each"
        )
    if logits.dtype == np.float16:
        logits = logits.astype(np.float32)
    # Sums of members must stay finite. Written so that a NaN counts as wrong.
    wrong_M = ~(np.abs(logits).max(axis=(1, 2)) <= _LARGEST_LOGIT)
    if wrong_M.any():
        raise ValueError(
            f"logits of members {np.flatnonzero(wrong_M).tolist()} hold values that are not "
            f"finite or beyond +-{_LARGEST_LOGIT:.2g}: leave these members out"
        )
    return logits


def _checked_labels(labels_N: ArrayLike, logits_MNK: NDArray[np.floating]) -> NDArray[np.integer]:
    labels = np.asarray(labels_N)
    _, n, n_classes = logits_MNK.shape
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels of shape {labels.shape} and type {labels.dtype}, expected {n} integers: "
            "one a clip"
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"labels within {labels.min()}...{labels.max()}, expected 0...{n_classes - 1}"
        )
    return labels


def _checked_steps(max_members: int | None, n_members: int, with_replacement: bool) -> int:
    if max_members is None:
        return DEFAULT_STEPS if with_replacement else n_members
    if type(max_members) is not int or max_members < 1:
        raise ValueError(f"max_members {max_members!r}, expected 1, 2, 3... or None")
    return max_members
