"""By how much a selected ensemble looks too good (M members, N clips, K classes, G groups)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.blocks import (
    check_labels,
    check_logits,
)
from ensemble.combine import mean_logits
from ensemble.options import MeanSpace
from metrics import Interval, paired_bootstrap
from metrics.scores import Integers

Choose = Callable[[Integers], ArrayLike]
"""Rows of clips -> weights_M: any function that selects or weights members on these clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimism:
    """A selection's log loss on the clips it saw, and on clips it did not see; in nats."""

    selected_on: float
    """The loss on the clips that the members were selected on, which is too good."""
    nested: float
    """The loss on the same clips, each judged by a selection that did not see its group."""
    optimism: Interval
    """`nested` minus `selected_on`; the interval is over groups."""
    n_folds: int
    """The number of selections for this estimate."""


def estimate_optimism(
    logits_MNK: ArrayLike,
    labels_N: ArrayLike,
    groups_N: ArrayLike,
    choose: Choose,
    *,
    space: MeanSpace = "logits",
    n_folds: int | None = 5,
    seed: int = 0,
) -> Optimism:
    """Estimate by nested selection by how much the log loss of a selection is too low.

    The groups are dealt into folds; for each fold `choose` selects on the other folds' clips, and
    the fold's clips are judged by that ensemble (cross-validation: Stone 1974, "Cross-validatory
    choice and assessment of statistical predictions"). Both losses are on the same clips, so their
    difference does not depend on whether these clips are harder than others. For the plain mean of
    all members, which selects nothing, it is 0.

    A selection for a fold sees fewer clips than the one on all clips, by one in n_folds, so the
    estimate is conservative. The interval shows how much it depends on the groups that are judged,
    not how much each selection would change with its clips.

    Args:
        logits_MNK: finite floats.
        labels_N: true classes, 0...K-1.
        groups_N: groups of clips that stay together: recordings, or locations if there are few
            clips.
        choose: returns weights [M] that depend on the clips of some rows alone.
        space: what `choose` weights: logits, or probabilities.
        n_folds: 2 or more; None makes each group a fold (leave one location out).
        seed: the seed of the assignment of groups to folds; equal seeds give equal results.

    Raises:
        ValueError: shapes, types, labels or weights are wrong, values are not finite, or there are
            fewer groups than folds.
    """
    logits = check_logits(logits_MNK)
    labels = check_labels(labels_N, *logits.shape[1:])
    groups = np.asarray(groups_N)
    if groups.shape != labels.shape:
        raise ValueError(
            f"groups of shape {groups.shape}, expected {labels.shape}: one for each clip"
        )
    names, group_N = np.unique(groups, return_inverse=True)
    fold_G = _deal(len(names), len(names) if n_folds is None else n_folds, seed)
    judged_NK = mean_logits(logits, choose(np.arange(len(labels))), space=space)
    nested_NK = np.empty_like(judged_NK)
    for fold in range(int(fold_G.max()) + 1):
        inside_N = fold_G[group_N] == fold
        weights_M = choose(np.flatnonzero(~inside_N))
        nested_NK[inside_N] = mean_logits(_take_clips(logits, inside_N), weights_M, space=space)
    comparison = paired_bootstrap(
        judged_NK, nested_NK, labels, group_N, metric="log_loss", seed=seed
    )
    return Optimism(
        selected_on=comparison.first.value,
        nested=comparison.second.value,
        optimism=comparison.difference,
        n_folds=int(fold_G.max()) + 1,
    )


def _deal(n_groups: int, n_folds: int, seed: int) -> Integers:
    """Assign groups to folds, [G]; the folds' numbers of groups differ by at most one."""
    if type(n_folds) is not int or not 2 <= n_folds <= n_groups:
        raise ValueError(
            f"{n_folds!r} folds of {n_groups} group(s), expected 2 or more, and no more than groups"
        )
    return np.random.default_rng(seed).permutation(np.arange(n_groups) % n_folds)


def _take_clips(
    logits_MNK: NDArray[np.floating], inside_N: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Take the logits of some clips, side by side in memory."""
    rows = np.flatnonzero(inside_N)
    return np.take(logits_MNK.transpose(0, 2, 1), rows, axis=2).transpose(0, 2, 1)
