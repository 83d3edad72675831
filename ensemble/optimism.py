"""How much too good a selected ensemble looks (M members, N clips, K classes, G groups)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.blocks import Integers, Space, checked_labels, checked_logits
from ensemble.combine import mean_logits
from metrics import Interval, paired_bootstrap

Choose = Callable[[Integers], ArrayLike]
"""Rows of clips -> weights_M: whatever selects or weighs members on these clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimism:
    """A selection's log loss as it shows, and as clips that it did not see judge it; in nats."""

    selected_on: float
    """On the clips that the members were selected on: too good."""
    nested: float
    """Of the same clips, each judged by a selection that did not see its group."""
    optimism: Interval
    """Nested less selected on; the interval is over groups."""
    n_folds: int
    """Selections that were made for it."""


def optimism(
    logits_MNK: ArrayLike,
    labels_N: ArrayLike,
    groups_N: ArrayLike,
    choose: Choose,
    *,
    space: Space = "logits",
    n_folds: int | None = 5,
    seed: int = 0,
) -> Optimism:
    """Estimate by nested selection what the log loss of a selection is short of.

    The groups are dealt into folds; for each fold `choose` selects on the other folds' clips, and
    the fold's clips are judged by that ensemble (cross-validation: Stone 1974, "Cross-validatory
    choice and assessment of statistical predictions"). Both losses are of the same clips, so that
    what these clips are harder or easier than others takes no part in the difference: that of the
    plain mean of all members, which selects nothing, is 0.

    A selection for a fold sees fewer clips than the one on all, by one in n_folds: the estimate is
    on the careful side. The interval tells how much it depends on the groups that are judged, not
    how much each selection would change with its clips.

    Args:
        logits_MNK: finite floats.
        labels_N: true classes, 0...K-1.
        groups_N: what stays together: recordings, or locations where there are few clips.
        choose: gives weights [M] that are found on the clips of some rows alone.
        space: what `choose` weighs: logits, or probabilities.
        n_folds: 2 or more; None makes each group a fold (leave one location out).
        seed: deals the groups; the same seed gives the same figures.

    Raises:
        ValueError: shapes, types, labels or weights that do not fit, values that are not finite,
            or fewer groups than folds.
    """
    logits = checked_logits(logits_MNK)
    labels = checked_labels(labels_N, *logits.shape[1:])
    groups = np.asarray(groups_N)
    if groups.shape != labels.shape:
        raise ValueError(f"groups of shape {groups.shape}, expected {labels.shape}: one a clip")
    names, group_N = np.unique(groups, return_inverse=True)
    fold_G = _dealt(len(names), len(names) if n_folds is None else n_folds, seed)
    judged_NK = mean_logits(logits, choose(np.arange(len(labels))), space=space)
    nested_NK = np.empty_like(judged_NK)
    for fold in range(int(fold_G.max()) + 1):
        inside_N = fold_G[group_N] == fold
        weights_M = choose(np.flatnonzero(~inside_N))
        nested_NK[inside_N] = mean_logits(_clips(logits, inside_N), weights_M, space=space)
    comparison = paired_bootstrap(
        judged_NK, nested_NK, labels, group_N, figure="log_loss", seed=seed
    )
    return Optimism(
        selected_on=comparison.first.value,
        nested=comparison.second.value,
        optimism=comparison.difference,
        n_folds=int(fold_G.max()) + 1,
    )


def _dealt(n_groups: int, n_folds: int, seed: int) -> Integers:
    """The fold of each group, [G]; folds differ by one group at most."""
    if type(n_folds) is not int or not 2 <= n_folds <= n_groups:
        raise ValueError(
            f"{n_folds!r} folds of {n_groups} group(s), expected 2 or more, and no more than groups"
        )
    return np.random.default_rng(seed).permutation(np.arange(n_groups) % n_folds)


def _clips(logits_MNK: NDArray[np.floating], inside_N: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Some clips' logits, side by side in memory."""
    rows = np.flatnonzero(inside_N)
    return np.take(logits_MNK.transpose(0, 2, 1), rows, axis=2).transpose(0, 2, 1)
