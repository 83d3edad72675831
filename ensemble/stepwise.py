"""Stepwise selection of an ensemble (M members, N clips, K classes)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.blocks import (
    Rows,
    check_labels,
    check_logits,
    check_space,
    lay_out_by_class,
)
from ensemble.kernels import Labels, Workspace, survey
from ensemble.objectives import (
    EveryCandidate,
    LogLossOfLogits,
    LogLossOfProbabilities,
    SelectionObjective,
)
from ensemble.options import MeanSpace, SelectionMetric
from ensemble.search import find_best_candidate, is_lower
from ensemble.several import EveryPrecision
from metrics.scores import Floats
from metrics.several import check_targets

DEFAULT_STEPS = 50
"""The default number of additions with replacement, which is what is usually measured."""

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
    n_members = len(logits)
    check_space(space)
    _check_metric(metric)
    if metric == "mean_average_precision":
        # Of the logits only the shape is checked here, as for one label a clip.
        labels = check_targets(np.zeros(logits.shape[1:]), labels_N)[1]
    else:
        labels = check_labels(labels_N, *logits.shape[1:]).astype(np.int32)
    _check_count("patience", patience, 0)
    names = _check_names(names, n_members)
    first = _check_members("required", required, n_members)
    if len(set(first)) < len(first) and not with_replacement:
        raise ValueError(f"required members {first} hold one twice, which takes replacement")
    never = _check_members("forbidden", forbidden, n_members)
    if set(first) & set(never):
        raise ValueError(f"members {sorted(set(first) & set(never))} are required and forbidden")
    if len(set(never)) == n_members:
        raise ValueError(f"all {n_members} members are forbidden")
    n_steps = _check_steps(max_members, n_members, len(first), with_replacement)
    objective = _make_objective(lay_out_by_class(logits), labels, names, space, metric)
    candidates = np.setdiff1d(np.arange(n_members), never)
    members, path = _grow(
        objective,
        _sort_by_name(names, candidates),
        first,
        with_replacement=with_replacement,
        n_steps=n_steps,
        patience=patience,
    )
    weights = np.bincount(members, minlength=n_members) / len(members)
    weights.setflags(write=False)
    return Selection(members=tuple(members), weights=weights, losses=tuple(path))


def _grow(
    objective: SelectionObjective,
    candidates: NDArray[np.int64],
    required: Sequence[int],
    *,
    with_replacement: bool,
    n_steps: int,
    patience: int,
) -> tuple[list[int], list[float]]:
    """Return members and losses up to the lowest loss; of equal candidates, the first is added."""
    members: list[int] = []
    path: list[float] = []
    for member in required:
        members.append(member)
        path.append(objective.compute(member))
        objective.add(member)
    if not with_replacement:
        candidates = candidates[~np.isin(candidates, required)]
    n_best = len(members)
    while len(members) < n_steps and len(candidates):
        # In the last try, only a lower loss is of use.
        last_try = n_best > 0 and len(members) - n_best == patience
        limit = path[n_best - 1] if last_try else np.inf
        best = find_best_candidate(objective, candidates, limit)
        if best is None:
            break
        member, loss = best
        lower = n_best == 0 or is_lower(loss, path[n_best - 1])
        if last_try and not lower:
            break
        members.append(member)
        path.append(loss)
        objective.add(member)
        if lower:
            n_best = len(members)
        if not with_replacement:
            candidates = candidates[candidates != member]
    return members[:n_best], path[:n_best]


def _make_objective(
    logits_MKN: Rows,
    truth: NDArray[np.int32] | NDArray[np.bool_],
    names: Sequence[str],
    space: MeanSpace,
    metric: SelectionMetric,
) -> SelectionObjective:
    of_precision = metric == "mean_average_precision"
    of_mean_logits = metric == "log_loss" and space == "logits"
    # Of several labels, no class is the label whose logits are summed.
    n_clips = logits_MKN.shape[2]
    labels_N = np.zeros(n_clips, np.int32) if of_precision else truth.astype(np.int32, copy=False)
    largest_M, label_sums_M, logs_M = survey_members(logits_MKN, labels_N, of_mean_logits)
    # Sums of members must stay finite. The comparison is written so that a NaN counts as wrong.
    wrong = np.flatnonzero(~(largest_M <= _LARGEST_LOGIT)).tolist()
    if wrong:
        raise ValueError(
            f"logits of members {', '.join(names[m] for m in wrong)} hold values that are not "
            f"finite or beyond +-{_LARGEST_LOGIT:.2g}: leave these members out"
        )
    if of_precision:
        return EveryPrecision(logits_MKN, truth.astype(np.bool_), space)
    small = bool(largest_M.max() + math.log(logits_MKN.shape[1]) <= _LARGEST_LOG)
    if metric == "log_loss" and space == "probabilities":
        return LogLossOfProbabilities(logits_MKN, labels_N, largest_M, small=small)
    if of_mean_logits and small:
        return LogLossOfLogits(logits_MKN, largest_M, label_sums_M, logs_M)
    return EveryCandidate(logits_MKN, labels_N, space=space, metric=metric)


def survey_members(
    logits_MKN: Rows, labels_N: Labels, with_logs: bool
) -> tuple[Floats, Floats, Floats]:
    """Return the results of `kernels.survey` of each member, the first as an absolute logit, [M] each."""
    n_members, n_classes, n = logits_MKN.shape
    logits, work = logits_MKN.reshape(-1), Workspace()
    found = [
        survey(
            logits,
            member * n_classes * n,
            n_classes,
            labels_N,
            with_logs,
            work.singles_B,
            work.doubles_B,
            work.products_L,
            work.exponents_L,
        )
        for member in range(n_members)
    ]
    largest, *others = zip(*found, strict=True)
    largest_M = np.array(largest, np.int32).view(np.float32).astype(np.float64)
    return largest_M, *np.array(others)


def _check_names(names: Sequence[str] | None, n_members: int) -> Sequence[str]:
    """Check the names; without names, return indices with leading zeros, which sort as numbers."""
    if names is None:
        width = len(str(n_members - 1))
        return [str(m).zfill(width) for m in range(n_members)]
    if len(names) != n_members:
        raise ValueError(f"{len(names)} names, expected {n_members}: one for each member")
    if len(set(names)) < n_members:
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise ValueError(f"names {twice} are given to several members each")
    return names


def _sort_by_name(names: Sequence[str], members: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array(sorted(members.tolist(), key=names.__getitem__), np.int64)


def _check_members(what: str, members: Sequence[int], n_members: int) -> list[int]:
    wrong = [m for m in members if m not in range(n_members)]
    if wrong:
        raise ValueError(f"{what} members {wrong}, expected 0...{n_members - 1}")
    return [int(m) for m in members]


def _check_steps(
    max_members: int | None, n_members: int, n_required: int, with_replacement: bool
) -> int:
    if max_members is None:
        return max(DEFAULT_STEPS, n_required) if with_replacement else n_members
    _check_count("max_members", max_members, 1)
    if max_members < n_required:
        raise ValueError(f"max_members {max_members}, but {n_required} members are required")
    return max_members


def _check_count(what: str, count: int, lowest: int) -> None:
    if type(count) is not int or count < lowest:
        raise ValueError(f"{what} {count!r}, expected {lowest}, {lowest + 1}, {lowest + 2}...")


def _check_metric(metric: SelectionMetric) -> None:
    if metric not in get_args(SelectionMetric):
        raise ValueError(
            f"metric {metric!r}, expected one of {', '.join(get_args(SelectionMetric))}"
        )
