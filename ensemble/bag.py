"""Selection on many random halves of the recordings (M members, N clips, K classes)."""

from dataclasses import dataclass
from typing import Unpack

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.arithmetic import Integers
from ensemble.blocks import Rows, by_class, checked_logits
from ensemble.combine import mean_logits
from ensemble.select import Options, Selection, select
from metrics import brier, log_loss, macro_accuracy


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bagged(Selection):
    """The mean of several selections: less of it is luck with the clips it was selected on.

    Its members are whoever any bag chose, once each, the heaviest first; its weights the mean of
    the bags'; its losses those of the weighted mean of the heaviest one, two, three... on all clips,
    rounded to float32.
    """

    bags: tuple[Selection, ...]
    """What each bag chose; its losses are those on its own clips."""


def bagged(
    logits_MNK: ArrayLike,
    labels_N: ArrayLike,
    groups_N: ArrayLike,
    *,
    n_bags: int = 20,
    share: float = 0.5,
    seed: int = 0,
    **options: Unpack[Options],
) -> Bagged:
    """Select on random shares of the recordings, and weigh by the mean (Caruana et al. 2004, 2.3).

    There members are left out; here recordings are, as clips of one recording are alike. A bag
    takes the memory of its share of the logits, one bag at a time.

    Args:
        logits_MNK: as for `select`.
        labels_N: as for `select`.
        groups_N: the recording of each clip: strings or numbers.
        n_bags: how many selections.
        share: of the recordings in a bag, above 0 and up to 1; at least one recording is.
        seed: of the choice of recordings.
        options: as for `select`.

    Raises:
        ValueError: as `select`; groups, n_bags or a share that do not fit.
    """
    logits, labels = checked_logits(logits_MNK), np.asarray(labels_N)
    _, group_N = np.unique(_checked_groups(groups_N, logits.shape[1]), return_inverse=True)
    if type(n_bags) is not int or n_bags < 1:
        raise ValueError(f"n_bags {n_bags!r}, expected 1, 2, 3...")
    if not 0 < share <= 1:
        raise ValueError(f"share {share!r}, expected above 0 and up to 1")
    if labels.shape != group_N.shape:
        raise ValueError(f"labels of shape {labels.shape}, expected {group_N.shape}: one a clip")
    logits_MKN, is_half = by_class(logits), logits.dtype == np.float16
    randomness, n_groups = np.random.default_rng(seed), int(group_N.max()) + 1
    bags: list[Selection] = []
    for _ in range(n_bags):
        n_inside = max(1, round(share * n_groups))
        inside = randomness.choice(n_groups, n_inside, replace=False)
        rows = np.flatnonzero(np.isin(group_N, inside))
        some_MKN = _clips(logits_MKN, rows)
        some_MNK = (some_MKN.view(np.float16) if is_half else some_MKN).transpose(0, 2, 1)
        bags.append(select(some_MNK, labels[rows], **options))
    weights_M = np.mean([bag.weights for bag in bags], axis=0)
    weights_M.setflags(write=False)
    heaviest = np.argsort(-weights_M, kind="stable")[: np.count_nonzero(weights_M)]
    return Bagged(
        members=tuple(heaviest.tolist()),
        weights=weights_M,
        losses=tuple(
            _loss(logits, labels, weights_M, heaviest[: n + 1], options)
            for n in range(len(heaviest))
        ),
        bags=tuple(bags),
    )


@numba.njit(cache=True)
def _clips(logits_MKN: Rows, rows: Integers) -> Rows:
    """The logits of some clips; numpy takes several times as long over a last axis."""
    n_members, n_classes, _ = logits_MKN.shape
    some_MKN = np.empty((n_members, n_classes, len(rows)), logits_MKN.dtype)
    for m in range(n_members):
        for k in range(n_classes):
            for i in range(len(rows)):
                some_MKN[m, k, i] = logits_MKN[m, k, rows[i]]
    return some_MKN


def _loss(
    logits_MNK: NDArray[np.floating],
    labels_N: NDArray[np.integer],
    weights_M: NDArray[np.float64],
    members: Integers,
    options: Options,
) -> float:
    """Of the weighted mean of some members."""
    some_M = np.zeros_like(weights_M)
    some_M[members] = weights_M[members] / weights_M[members].sum()
    mean_NK = mean_logits(logits_MNK, some_M, space=options.get("space", "logits"))
    match options.get("metric", "log_loss"):
        case "log_loss":
            return log_loss(mean_NK, labels_N)
        case "brier":
            return brier(mean_NK, labels_N)
        case "macro_accuracy":
            return 1 - macro_accuracy(mean_NK, labels_N)


def _checked_groups(groups_N: ArrayLike, n: int) -> NDArray[np.generic]:
    groups = np.asarray(groups_N)
    if groups.shape != (n,):
        raise ValueError(f"groups of shape {groups.shape}, expected {(n,)}: a recording a clip")
    return groups
