"""Selection on many random halves of the recordings (M members, N clips, K classes)."""

import functools
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from disk.numba_cache import compiled
from ensemble.arithmetic import Singles
from ensemble.blocks import (
    Rows,
    check_labels,
    check_logits,
    lay_out_by_class,
)
from ensemble.combine import mean_logits
from ensemble.options import SelectionOptions
from ensemble.plan import Plan, make_plan
from ensemble.stepwise import (
    Selection,
    are_small,
    continue_path,
    find_largest,
    make_objective,
    make_selection,
    select,
)
from ensemble.together import select_together
from metrics import brier, macro_accuracy
from metrics.scores import Floats, Integers

_CLIPS_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BaggedSelection(Selection):
    """The mean of several selections, which depends less on the choice of clips.

    Its members are those that any bag chose, once each, in the order of falling weights. Its
    weights are the mean of the bags' weights. Its losses are those of the weighted mean of the
    first one, two, three... members on all clips, rounded to float32.
    """

    bags: tuple[Selection, ...]
    """The selection of each bag, with losses on its own clips."""


def select_in_bags(
    logits_MNK: ArrayLike,
    labels_N: ArrayLike,
    groups_N: ArrayLike,
    *,
    n_bags: int = 20,
    share: float = 0.5,
    seed: int = 0,
    **options: Unpack[SelectionOptions],
) -> BaggedSelection:
    """Select on random shares of the recordings and average the weights (Caruana et al. 2004, 2.3).

    The paper leaves out members; here recordings are left out, as clips of a recording are alike.
    By log loss of mean logits, all bags are selected at once, which takes the memory of a member in float64
    for each time that bags part. Otherwise they follow one another; each takes its share of the logits.

    Args:
        logits_MNK: as for `select`.
        labels_N: as for `select`.
        groups_N: the recording of each clip: strings or numbers.
        n_bags: the number of selections.
        share: the share of the recordings in a bag, above 0 and up to 1; at least one is in a bag.
        seed: the seed of the choice of recordings.
        options: as for `select`.

    Raises:
        ValueError: as for `select`, or groups, n_bags or share are not as described.
    """
    if options.get("metric") == "mean_average_precision":
        raise ValueError("metric mean_average_precision: not done in bags, which may lack a class")
    logits, labels = check_logits(logits_MNK), np.asarray(labels_N)
    _, group_N = np.unique(_check_groups(groups_N, logits.shape[1]), return_inverse=True)
    if type(n_bags) is not int or n_bags < 1:
        raise ValueError(f"n_bags {n_bags!r}, expected 1, 2, 3...")
    if not 0 < share <= 1:
        raise ValueError(f"share {share!r}, expected above 0 and up to 1")
    if labels.shape != group_N.shape:
        raise ValueError(
            f"labels of shape {labels.shape}, expected {group_N.shape}: one for each clip"
        )
    plan = make_plan(len(logits), **options)
    logits_MKN, labels = lay_out_by_class(logits), check_labels(labels, *logits.shape[1:])
    randomness, n_groups = np.random.default_rng(seed), int(group_N.max()) + 1
    n_inside = max(1, round(share * n_groups))
    inside_BG = np.zeros((n_bags, n_groups), np.bool_)
    for inside_G in inside_BG:
        inside_G[randomness.choice(n_groups, n_inside, replace=False)] = True
    inside_BN = inside_BG[:, group_N]
    bags = _select_in_each(logits_MKN, labels, inside_BN, plan, options)
    weights_M = np.mean([bag.weights for bag in bags], axis=0)
    weights_M.setflags(write=False)
    heaviest = np.argsort(-weights_M, kind="stable")[: np.count_nonzero(weights_M)]
    return BaggedSelection(
        members=tuple(heaviest.tolist()),
        weights=weights_M,
        losses=tuple(
            _measure_loss(logits, labels, weights_M, heaviest[: n + 1], options)
            for n in range(len(heaviest))
        ),
        bags=tuple(bags),
    )


def _select_in_each(
    logits_MKN: Rows,
    labels_N: Integers,
    inside_BN: NDArray[np.bool_],
    plan: Plan,
    options: SelectionOptions,
) -> list[Selection]:
    """Select in each bag: in all at once where the log loss of mean logits, in float32, is enough."""
    n_members, n_classes, _ = logits_MKN.shape
    if plan.metric == "log_loss" and plan.space == "logits":
        largest_M = find_largest(logits_MKN)
        # A NaN, which is in no comparison, is refused in the bags that have it.
        if are_small(largest_M, n_classes):
            largest = float(largest_M.max())
            paths, alone = select_together(logits_MKN, labels_N, inside_BN, largest, plan)
            for bag in alone:
                rows = np.flatnonzero(inside_BN[bag])
                some_MKN = lay_out_by_class(_take_clips(logits_MKN, rows))
                objective = make_objective(some_MKN, labels_N[rows].astype(np.int32), plan)
                for member in paths[bag].members:
                    objective.add(member)
                continue_path(objective, paths[bag])
            return [make_selection(path, n_members) for path in paths]
    bags = []
    for inside_N in inside_BN:
        rows = np.flatnonzero(inside_N)
        bags.append(select(_take_clips(logits_MKN, rows), labels_N[rows], **options))
    return bags


def _take_clips(logits_MKN: Rows, rows: Integers) -> NDArray[np.floating]:
    """Return the logits of some clips, [M, N, K], in the layout of the store."""
    some_MKN = _copy_clips(logits_MKN, rows)
    floats_MKN: NDArray[np.floating] = some_MKN.view(f"f{some_MKN.itemsize}")
    return floats_MKN.transpose(0, 2, 1)


@compiled()
def _copy_clips(logits_MKN: Rows, rows: Integers) -> Rows:
    """Take the logits of some clips; numpy is several times slower along a last axis."""
    n_members, n_classes, _ = logits_MKN.shape
    some_MKN = np.empty((n_members, n_classes, len(rows)), logits_MKN.dtype)
    for m in range(n_members):
        for k in range(n_classes):
            for i in range(len(rows)):
                some_MKN[m, k, i] = logits_MKN[m, k, rows[i]]
    return some_MKN


def _measure_loss(
    logits_MNK: NDArray[np.floating],
    labels_N: Integers,
    weights_M: NDArray[np.float64],
    members: Integers,
    options: SelectionOptions,
) -> float:
    """Measure the loss of the weighted mean of some members."""
    some_M = np.zeros_like(weights_M)
    some_M[members] = weights_M[members] / weights_M[members].sum()
    mean_NK = mean_logits(logits_MNK, some_M, space=options.get("space", "logits"))
    match options.get("metric", "log_loss"):
        case "log_loss":
            return _mean_log_loss(mean_NK, labels_N)
        case "brier":
            return brier(mean_NK, labels_N)
        case "macro_accuracy":
            return 1 - macro_accuracy(mean_NK, labels_N)
        case "mean_average_precision":
            raise ValueError(
                "bags of the mAP: not done, as a bag may lack a class; take the log loss"
            )


def _mean_log_loss(mean_NK: Singles, labels_N: Integers) -> float:
    """Return `metrics.log_loss`, to the last bit, in a third of the time: for clips that fit into a cache.

    Numpy is slow along a short last axis, so classes come first.
    """
    losses_N = np.empty(len(labels_N))
    for start in range(0, len(labels_N), _CLIPS_AT_ONCE):
        block = slice(start, start + _CLIPS_AT_ONCE)
        labels_B = labels_N[block]
        logits_KB = mean_NK[block].T.astype(np.float64, order="C")
        logits_KB -= logits_KB.max(axis=0)
        label_B = logits_KB[labels_B, np.arange(len(labels_B))]
        np.exp(logits_KB, out=logits_KB)
        losses_N[block] = -(label_B - np.log(_sum_as_rows(logits_KB)))
    return float(losses_N.mean())


def _sum_as_rows(numbers_KB: Floats) -> Floats:
    """Return the sums over K in the order in which numpy adds up the last axis: to the last bit."""
    n, n_sums = len(numbers_KB), 8
    if not n_sums <= n <= 128:
        return np.ascontiguousarray(numbers_KB.T).sum(axis=1)
    sums = list(numbers_KB[:n_sums])
    for k in range(n_sums, n - n % n_sums):
        sums[k % n_sums] = sums[k % n_sums] + numbers_KB[k]
    while len(sums) > 1:
        sums = [first + second for first, second in zip(sums[::2], sums[1::2], strict=True)]
    return functools.reduce(np.add, numbers_KB[n - n % n_sums :], sums[0])


def _check_groups(groups_N: ArrayLike, n: int) -> NDArray[np.generic]:
    groups = np.asarray(groups_N)
    if groups.shape != (n,):
        raise ValueError(
            f"groups of shape {groups.shape}, expected {(n,)}: one recording for each clip"
        )
    return groups
