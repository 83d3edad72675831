"""Stepwise selection of an ensemble (M members, N clips, K classes)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.blocks import Rows, Space, by_class, checked_labels, checked_logits, checked_space
from ensemble.kernels import survey
from ensemble.objectives import (
    EveryCandidate,
    LogLossOfLogits,
    LogLossOfProbabilities,
    Objective,
)
from ensemble.search import best_candidate, is_lower

DEFAULT_STEPS = 50
"""How many members are added with replacement unless it is said; as often measured."""

_LARGEST_LOGIT = float(np.finfo(np.float32).max)
_LARGEST_LOG = 85.0
"""Sums of exponentials beyond e^85 leave float32, and products of eight leave float64."""

Metric = Literal["log_loss", "macro_accuracy", "brier"]


class Options(TypedDict, total=False):
    """How members are selected; see `select`."""

    space: Space
    metric: Metric
    with_replacement: bool
    max_members: int | None
    patience: int
    required: Sequence[int]
    forbidden: Sequence[int]
    names: Sequence[str] | None


PRESETS: Mapping[str, Options] = MappingProxyType(
    {
        "published": Options(space="logits", metric="log_loss", with_replacement=False, patience=0),
    }
)
"""`published` is what ASCDomain's notebook does: the greedy path over mean logits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Selection:
    """An ensemble: who is in it, how much each counts, and what each addition was worth."""

    members: tuple[int, ...]
    """In the order of choice, required ones first; with replacement one may stand several times."""
    weights: NDArray[np.float64]
    """[M], how often each was chosen over all choices; sums to 1."""
    losses: tuple[float, ...]
    """Of the ensemble after each addition, as many as members: log loss in nats, Brier score, or
    1 - macro accuracy."""


def select(
    logits_MNK: ArrayLike,
    labels_N: ArrayLike,
    *,
    space: Space = "logits",
    metric: Metric = "log_loss",
    with_replacement: bool = False,
    max_members: int | None = None,
    patience: int = 0,
    required: Sequence[int] = (),
    forbidden: Sequence[int] = (),
    names: Sequence[str] | None = None,
) -> Selection:
    """Add the member that lowers the loss of the mean most, until none does.

    Losses that differ by less than float64's rounding are equal. Of equal members the one with
    the first name is taken, or with the lowest index. The order of members in the input changes
    nothing but their indices, as long as equal ones have names.

    Logits that lie in memory as `LogitStore.read` gives them are used in place, in float16,
    float32 or float64; others are copied first.

    Args:
        logits_MNK: finite floats.
        labels_N: true classes, 0...K-1.
        space: what is averaged. A member's probability of a label counts as at least 1e-30.
        metric: what is made small: mean log loss, mean over clips of the squared distance between
            probabilities and the label's (Brier 1950), or 1 less the mean of the occurring
            classes' accuracies.
        with_replacement: a member may be added again and so count more
            (Caruana et al. 2004, "Ensemble selection from libraries of models", section 2.2).
        max_members: most members; None is all members, or 50 with replacement.
        patience: how many additions in a row may fail to lower the loss; the path is given up to
            its best, whatever was tried behind it.
        required: members that are in from the start, in this order.
        forbidden: members that are never added.
        names: of the members, for ties and for error messages.

    Raises:
        ValueError: arguments that do not fit, values not finite.
    """
    logits = checked_logits(logits_MNK)
    labels = checked_labels(labels_N, *logits.shape[1:]).astype(np.int32)
    n_members = len(logits)
    checked_space(space)
    _check_metric(metric)
    _check_count("patience", patience, 0)
    names = _checked_names(names, n_members)
    first = _checked_members("required", required, n_members)
    if len(set(first)) < len(first) and not with_replacement:
        raise ValueError(f"required members {first} hold one twice, which takes replacement")
    never = _checked_members("forbidden", forbidden, n_members)
    if set(first) & set(never):
        raise ValueError(f"members {sorted(set(first) & set(never))} are required and forbidden")
    if len(set(never)) == n_members:
        raise ValueError(f"all {n_members} members are forbidden")
    n_steps = _checked_steps(max_members, n_members, len(first), with_replacement)
    objective = _objective(by_class(logits), labels, names, space, metric)
    candidates = np.setdiff1d(np.arange(n_members), never)
    members, path = _path(
        objective,
        _in_order_of(names, candidates),
        first,
        with_replacement=with_replacement,
        n_steps=n_steps,
        patience=patience,
    )
    weights = np.bincount(members, minlength=n_members) / len(members)
    weights.setflags(write=False)
    return Selection(members=tuple(members), weights=weights, losses=tuple(path))


def _path(
    objective: Objective,
    candidates: NDArray[np.int64],
    required: Sequence[int],
    *,
    with_replacement: bool,
    n_steps: int,
    patience: int,
) -> tuple[list[int], list[float]]:
    """Members and losses up to the best; of equal candidates the first is taken."""
    members: list[int] = []
    path: list[float] = []
    for member in required:
        members.append(member)
        path.append(objective.exact(member))
        objective.add(member)
    if not with_replacement:
        candidates = candidates[~np.isin(candidates, required)]
    n_best = len(members)
    while len(members) < n_steps and len(candidates):
        # On the last try only what lowers the loss is of use.
        last_try = n_best > 0 and len(members) - n_best == patience
        limit = path[n_best - 1] if last_try else np.inf
        found = best_candidate(objective, candidates, limit)
        if found is None:
            break
        member, loss = found
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


def _objective(
    logits_MKN: Rows,
    labels_N: NDArray[np.int32],
    names: Sequence[str],
    space: Space,
    metric: Metric,
) -> Objective:
    of_mean_logits = metric == "log_loss" and space == "logits"
    kind = np.dtype(f"f{logits_MKN.itemsize}")
    magnitudes_MKN = logits_MKN.view(f"i{logits_MKN.itemsize}")
    surveys = [
        survey(logits_KN, magnitudes_KN, labels_N, of_mean_logits)
        for logits_KN, magnitudes_KN in zip(logits_MKN, magnitudes_MKN, strict=True)
    ]
    largest, *others = zip(*surveys, strict=True)
    largest_M = np.array(largest, magnitudes_MKN.dtype).view(kind).astype(np.float64)
    sizes_M, label_sums_M, logs_M = np.array(others)
    # Sums of members must stay finite. Written so that a NaN counts as wrong.
    wrong = np.flatnonzero(~(largest_M <= _LARGEST_LOGIT)).tolist()
    if wrong:
        raise ValueError(
            f"logits of members {', '.join(names[m] for m in wrong)} hold values that are not "
            f"finite or beyond +-{_LARGEST_LOGIT:.2g}: leave these members out"
        )
    small = bool(largest_M.max() + math.log(logits_MKN.shape[1]) <= _LARGEST_LOG)
    if metric == "log_loss" and space == "probabilities":
        return LogLossOfProbabilities(logits_MKN, labels_N, sizes_M, small=small)
    if of_mean_logits and small:
        return LogLossOfLogits(logits_MKN, sizes_M, label_sums_M, logs_M)
    return EveryCandidate(logits_MKN, labels_N, space=space, metric=metric)


def _checked_names(names: Sequence[str] | None, n_members: int) -> Sequence[str]:
    """The names; members without are called by their index, padded so that names sort like it."""
    if names is None:
        width = len(str(n_members - 1))
        return [str(m).zfill(width) for m in range(n_members)]
    if len(names) != n_members:
        raise ValueError(f"{len(names)} names, expected {n_members}: one a member")
    if len(set(names)) < n_members:
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise ValueError(f"names {twice} are given to several members each")
    return names


def _in_order_of(names: Sequence[str], members: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array(sorted(members.tolist(), key=names.__getitem__), np.int64)


def _checked_members(what: str, members: Sequence[int], n_members: int) -> list[int]:
    wrong = [m for m in members if m not in range(n_members)]
    if wrong:
        raise ValueError(f"{what} members {wrong}, expected 0...{n_members - 1}")
    return [int(m) for m in members]


def _checked_steps(
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


def _check_metric(metric: Metric) -> None:
    if metric not in get_args(Metric):
        raise ValueError(f"metric {metric!r}, expected one of {', '.join(get_args(Metric))}")
