"""Stepwise selection of an ensemble (M members, N clips, K classes)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.blocks import (
    Rows,
    check_labels,
    check_logits,
    lay_out_by_class,
)
from ensemble.objectives import (
    EveryCandidate,
    LogLossOfLogits,
    LogLossOfProbabilities,
    SelectionObjective,
)
from ensemble.options import MeanSpace, SelectionMetric
from ensemble.plan import Path, Plan, make_plan
from ensemble.search import find_best_candidate
from ensemble.several import EveryPrecision
from metrics.scores import Floats
from metrics.several import check_targets

_LARGEST_LOGIT = float(np.finfo(np.float32).max)
_LARGEST_LOG = 85.0
"""Sums of exponentials beyond e^85 leave float32, and products of eight leave float64."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Selection:
    """An ensemble: its members, their weights, and the loss after each addition."""

    members: tuple[int, ...]
    """In the order of choice, required ones first; with replacement, a member may occur
    repeatedly."""
    weights: NDArray[np.float64]
    """Share of the choices of each member, [M]; their sum is 1."""
    losses: tuple[float, ...]
    """The loss of the ensemble after each addition: log loss in nats, Brier score, 1 - macro accuracy,
    or 1 - mAP."""


def select(
    logits_MNK: ArrayLike,
    labels_N: ArrayLike,
    *,
    space: MeanSpace = "logits",
    metric: SelectionMetric = "log_loss",
    with_replacement: bool = False,
    max_members: int | None = None,
    patience: int = 0,
    required: Sequence[int] = (),
    forbidden: Sequence[int] = (),
    names: Sequence[str] | None = None,
) -> Selection:
    """Add the member that lowers the loss of the mean most, until none lowers it.

    Losses that differ by less than float64's rounding are equal. Of equal members, the one with
    the first name is added, or without names the one with the lowest index. The order of members in
    the input changes only their indices, as long as equal ones have names.

    Logits in the layout of `LogitStore.read` are used in place, in float16, float32 or float64;
    others are copied first.

    Args:
        logits_MNK: finite floats.
        labels_N: true classes, 0...K-1; for `mean_average_precision` zeros and ones of each class,
            [N, K], where logits are log odds.
        space: what is averaged. A member's probability of a label counts as at least 1e-30.
        metric: what is minimised: mean log loss, mean over clips of the squared distance between
            probabilities and the label (Brier 1950), 1 minus the mean of the accuracies of the
            occurring classes, or 1 minus the mean of their average precisions. Log loss has bounds, by
            which most candidates are never tried; of the others each is tried.
        with_replacement: whether a member may be added again and so count more
            (Caruana et al. 2004, "Ensemble selection from libraries of models", section 2.2).
        max_members: the largest number of members; None for all members, or 50 with replacement.
        patience: the number of consecutive additions that may fail to lower the loss; the result
            ends with the lowest loss, whatever was tried after it.
        required: members of every ensemble, which are added first, in this order.
        forbidden: members that are never added.
        names: names of the members, for ties and for error messages.

    Raises:
        ValueError: arguments are not as described, or values are not finite.
    """
    logits = check_logits(logits_MNK)
    plan = make_plan(
        len(logits),
        space=space,
        metric=metric,
        with_replacement=with_replacement,
        max_members=max_members,
        patience=patience,
        required=required,
        forbidden=forbidden,
        names=names,
    )
    if metric == "mean_average_precision":
        # Of the logits only the shape is checked here, as for one label a clip.
        labels = check_targets(np.zeros(logits.shape[1:]), labels_N)[1]
    else:
        labels = check_labels(labels_N, *logits.shape[1:]).astype(np.int32)
    path = _grow(make_objective(lay_out_by_class(logits), labels, plan), plan)
    return make_selection(path, len(logits))


def make_selection(path: Path, n_members: int) -> Selection:
    """Return what a path found."""
    members, losses = path.cut()
    weights = np.bincount(members, minlength=n_members) / len(members)
    weights.setflags(write=False)
    return Selection(members=tuple(members), weights=weights, losses=tuple(losses))


def _grow(objective: SelectionObjective, plan: Plan) -> Path:
    """Add members until the path ends; of equal candidates, the first is added."""
    path = Path(plan)
    for member in plan.required:
        path.require(member, objective.compute(member))
        objective.add(member)
    continue_path(objective, path)
    return path


def continue_path(objective: SelectionObjective, path: Path) -> None:
    """Add the best candidates until a path, whose members the objective has, ends."""
    while len(candidates := path.list_candidates()):
        best = find_best_candidate(objective, candidates, path.limit())
        if best is None or not path.add(*best):
            break
        objective.add(best[0])


def make_objective(
    logits_MKN: Rows,
    truth: NDArray[np.int32] | NDArray[np.bool_],
    plan: Plan,
) -> SelectionObjective:
    """Return what a selection minimises, before its first member; truth is labels [N], or flags [N, K]."""
    space, metric = plan.space, plan.metric
    of_precision = metric == "mean_average_precision"
    of_mean_logits = metric == "log_loss" and space == "logits"
    # Of several labels, no class is the label whose logits are summed.
    n_clips = logits_MKN.shape[2]
    labels_N = np.zeros(n_clips, np.int32) if of_precision else truth.astype(np.int32, copy=False)
    largest_M = find_largest(logits_MKN)
    check_members_finite(largest_M, plan.names)
    if of_precision:
        return EveryPrecision(logits_MKN, truth.astype(np.bool_), space)
    small = are_small(largest_M, logits_MKN.shape[1])
    if metric == "log_loss" and space == "probabilities":
        return LogLossOfProbabilities(logits_MKN, labels_N, largest_M, small=small)
    if of_mean_logits and small:
        return LogLossOfLogits(logits_MKN, labels_N, largest_M)
    return EveryCandidate(logits_MKN, labels_N, space=space, metric=metric)


def find_largest(logits_MKN: Rows) -> Floats:
    """Return the largest absolute logit of each member, rounded to float32, [M]; a NaN is the largest."""
    # Bits without the sign are integers that grow with the absolute number. As signed integers, positive
    # numbers are larger than negative ones; without sign it is the other way round.
    size = logits_MKN.itemsize
    without_sign = (1 << (8 * size - 1)) - 1
    found = [
        max(int(bits_KN.max()) & without_sign, int(bits_KN.view(f"u{size}").max()) & without_sign)
        for bits_KN in logits_MKN.view(f"i{size}")
    ]
    with np.errstate(over="ignore"):
        largest_M = np.array(found, f"i{size}").view(f"f{size}").astype(np.float32)
    return largest_M.astype(np.float64)


def check_members_finite(largest_M: Floats, names: Sequence[str]) -> None:
    """Refuse members whose sums would not stay finite."""
    # The comparison is written so that a NaN counts as wrong.
    wrong = np.flatnonzero(~(largest_M <= _LARGEST_LOGIT)).tolist()
    if wrong:
        raise ValueError(
            f"logits of members {', '.join(names[m] for m in wrong)} hold values that are not "
            f"finite or beyond +-{_LARGEST_LOGIT:.2g}: leave these members out"
        )


def are_small(largest_M: Floats, n_classes: int) -> bool:
    """Tell whether sums of exponentials stay in float32, and products of eight in float64."""
    return bool(largest_M.max() + math.log(n_classes) <= _LARGEST_LOG)
