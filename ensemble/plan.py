"""What one selection is asked for, and how far it is (M members)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from ensemble.blocks import check_space
from ensemble.options import MeanSpace, SelectionMetric
from ensemble.search import is_lower
from metrics.scores import Integers

DEFAULT_STEPS = 50
"""The default number of additions with replacement, which is what is usually measured."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """The options of `select`, checked."""

    space: MeanSpace
    metric: SelectionMetric
    with_replacement: bool
    n_steps: int
    patience: int
    required: tuple[int, ...]
    candidates: Integers
    """Members that are not forbidden, in the order of their names."""
    names: Sequence[str]


class Path:
    """The members that one selection has added, and the loss after each."""

    def __init__(self, plan: Plan) -> None:
        """Start without members."""
        self._plan, self._n_best = plan, 0
        self._is_free_C = np.ones(len(plan.candidates), np.bool_)
        self.members: list[int] = []
        self.losses: list[float] = []

    def list_candidates(self) -> Integers:
        """Return the members that may be added next; none if there are enough."""
        candidates = self._plan.candidates
        if len(self.members) >= self._plan.n_steps:
            return candidates[:0]
        if self._plan.with_replacement:
            return candidates
        return candidates[self._is_free_C]

    def limit(self) -> float:
        """Return the loss above which a candidate is of no use: in the last try, only a lower one is."""
        return self.losses[self._n_best - 1] if self._is_last_try() else np.inf

    def require(self, member: int, loss: float) -> None:
        """Add a member, whatever its loss."""
        self._append(member, loss)
        self._n_best = len(self.members)

    def add(self, member: int, loss: float) -> bool:
        """Add the best candidate, unless the path ends here; return whether it was added."""
        lower = self._n_best == 0 or is_lower(loss, self.losses[self._n_best - 1])
        if self._is_last_try() and not lower:
            return False
        self._append(member, loss)
        if lower:
            self._n_best = len(self.members)
        return True

    def cut(self) -> tuple[list[int], list[float]]:
        """Return members and losses up to the lowest loss."""
        return self.members[: self._n_best], self.losses[: self._n_best]

    def _append(self, member: int, loss: float) -> None:
        self.members.append(member)
        self.losses.append(loss)
        self._is_free_C[self._plan.candidates == member] = False

    def _is_last_try(self) -> bool:
        return self._n_best > 0 and len(self.members) - self._n_best == self._plan.patience


def make_plan(
    n_members: int,
    *,
    space: MeanSpace = "logits",
    metric: SelectionMetric = "log_loss",
    with_replacement: bool = False,
    max_members: int | None = None,
    patience: int = 0,
    required: Sequence[int] = (),
    forbidden: Sequence[int] = (),
    names: Sequence[str] | None = None,
) -> Plan:
    """Check the options of `select`, which describes them.

    Raises:
        ValueError: they are not as described.
    """
    check_space(space)
    _check_metric(metric)
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
    return Plan(
        space=space,
        metric=metric,
        with_replacement=with_replacement,
        n_steps=_check_steps(max_members, n_members, len(first), with_replacement),
        patience=patience,
        required=tuple(first),
        candidates=_sort_by_name(names, set(range(n_members)) - set(never)),
        names=names,
    )


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


def _sort_by_name(names: Sequence[str], members: Iterable[int]) -> Integers:
    return np.array(sorted(members, key=names.__getitem__), np.int64)


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
