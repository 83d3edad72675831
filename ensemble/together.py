"""Selections in many bags of clips at once (M members, N clips, K classes, B bags, C candidates).

Bags share most of their clips, and choose much the same members. So bags that have chosen the same ones
are one group, whose mean is computed once for all clips; a bag's loss is a sum over its clips. A tangent
(`ensemble.tangents`) is one of each clip's loss, so it bounds the losses of all bags, wherever its mean was.
A group parts where its bags choose different members, and groups meet where they have the same ones: all groups
add their nth member before one adds another. Losses that decide are computed as `LogLossOfLogits` computes them
on a bag's clips alone, to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble import bag_kernels, kernels
from ensemble.arithmetic import LOG2_E
from ensemble.blocks import Rows, fill_vector
from ensemble.plan import Path, Plan
from ensemble.search import slack
from ensemble.vectors import SINGLES_AT_ONCE
from metrics.scores import Floats, Integers

_EPSILON = 2.0**-24
"""Largest relative error of a rounding to float32."""
_LOG_ROUNDINGS = 8
"""Of numpy's logarithm in float32, which is within four units in the last place."""
_BATCH = 8
"""Candidates that are tried before bounds are compared again."""
_MOST_TANGENTS = 32
"""The last ones; each is the work of trying all candidates, and a few numbers for each bag and member."""
_WORTH_A_TANGENT = 32
"""With fewer candidates, trying them is as fast as bounding them."""
_ALONE_UP_TO = 4
"""A bag that is alone with so few members will stay so: on its own clips it is faster from here on."""


@dataclass(slots=True, eq=False)
class Group:
    """Bags that have chosen the same members."""

    members: list[int]
    bags: Integers
    sum_: Floats
    """Sum of the members' logits, [K * N]; without the last one until the group is entered."""


def select_together(
    logits_MKN: Rows, labels_N: Integers, inside_BN: NDArray[np.bool_], largest: float, plan: Plan
) -> tuple[list[Path], list[int]]:
    """Select by the log loss of mean logits in each bag.

    Args:
        logits_MKN: as for `LogLossOfLogits`.
        labels_N: true classes.
        inside_BN: the clips of each bag, at least one.
        largest: the largest absolute logit.
        plan: options, which hold for each bag.

    Returns:
        The path of each bag, and the bags whose paths are still to be continued, each alone.
    """
    n_more = max(0, SINGLES_AT_ONCE - logits_MKN.shape[2])
    logits_MKN, labels_N = fill_vector(logits_MKN), np.pad(labels_N, (0, n_more))
    inside_BN = np.pad(inside_BN, ((0, 0), (0, n_more)))
    shared = _SharedLosses(logits_MKN, labels_N, inside_BN, largest)
    paths = [Path(plan) for _ in inside_BN]
    groups = [Group([], np.arange(len(paths)), np.zeros(logits_MKN[0].size))]
    alone: list[int] = []
    while groups:
        parts: dict[tuple[int, ...], Group] = {}
        for i, group in enumerate(groups):
            others = any(other.sum_ is group.sum_ for other in groups[i + 1 :])
            shared.enter(group, in_place=not others)
            for bag, best in zip(group.bags, _find_best(shared, group, paths, plan), strict=True):
                if best is None:
                    continue
                members = [*group.members, best]
                name = shared.name_sum(members)
                if name not in parts and _goes_alone(group, plan):
                    alone.append(int(bag))
                    continue
                part = parts.setdefault(name, Group(members, group.bags[:0], group.sum_))
                part.bags = np.append(part.bags, bag)
        taken = {id(part.sum_) for part in parts.values()}
        shared.spare += [group.sum_ for group in groups if id(group.sum_) not in taken]
        groups = list(parts.values())
    return paths, alone


def _goes_alone(group: Group, plan: Plan) -> bool:
    """Tell whether a group is of one bag with few members: it will stay so."""
    # One member more than the group has: those that are required are added here.
    n_more = len(group.members) + 1 - len(plan.required)
    return len(group.bags) == 1 and 0 <= n_more <= _ALONE_UP_TO


def _find_best(
    shared: "_SharedLosses", group: Group, paths: Sequence[Path], plan: Plan
) -> list[int | None]:
    """Add the next member to the path of each bag of a group; return it, or None where a path ends."""
    if len(group.members) < len(plan.required):
        member = plan.required[len(group.members)]
        for bag, loss in zip(group.bags, shared.compute(group, member, group.bags), strict=True):
            paths[bag].require(member, float(loss))
        return [member] * len(group.bags)
    candidates = paths[group.bags[0]].list_candidates()
    limit_B = np.array([paths[bag].limit() for bag in group.bags])
    finalist_BC = _find_finalists(shared, group, candidates, limit_B)
    loss_BC = np.full(finalist_BC.shape, np.inf)
    for i in np.flatnonzero(finalist_BC.any(axis=0)):
        judges = finalist_BC[:, i]
        loss_BC[judges, i] = shared.compute(group, int(candidates[i]), group.bags[judges])
    found: list[int | None] = []
    for bag, loss_C in zip(group.bags, loss_BC, strict=True):
        lowest = float(loss_C.min(initial=np.inf))
        best = int((loss_C <= lowest + slack(lowest)).argmax()) if np.isfinite(lowest) else -1
        added = best >= 0 and paths[bag].add(int(candidates[best]), float(loss_C[best]))
        found.append(int(candidates[best]) if added else None)
    return found


def _find_finalists(
    shared: "_SharedLosses", group: Group, candidates: Integers, limit_B: Floats
) -> NDArray[np.bool_]:
    """Return which candidates may be the best of each bag, [B, C]; see `search`, which is for one bag."""
    loss_BC = np.full((len(group.bags), len(candidates)), np.inf)
    ceiling_B, bound_BC = limit_B, shared.bound(group, candidates)
    waiting = shared.expect(candidates).argsort(kind="stable")
    n_next, is_sharp = 2, False
    while True:
        limits_B = ceiling_B + slack(ceiling_B)
        waiting = waiting[(bound_BC[:, waiting] <= limits_B[:, None]).any(axis=0)]
        if not len(waiting):
            return loss_BC - shared.error <= limits_B[:, None]
        if np.isfinite(loss_BC).any() and not is_sharp:
            is_sharp, n_next = True, _BATCH
            if group.members and len(waiting) >= _WORTH_A_TANGENT:
                shared.sharpen(group, candidates[waiting])
                bound_BC = shared.bound(group, candidates)
                excess_C = (bound_BC[:, waiting] - ceiling_B[:, None]).min(axis=0)
                waiting = waiting[excess_C.argsort(kind="stable")]
                continue
        tried, waiting = waiting[:n_next], waiting[n_next:]
        loss_BC[:, tried] = shared.approximate(group, candidates[tried])
        ceiling_B = np.minimum(ceiling_B, loss_BC[:, tried].min(axis=1) + shared.error)


class _SharedLosses:
    """Log losses of mean logits in all bags."""

    def __init__(
        self,
        logits_MKN: Rows,
        labels_N: Integers,
        inside_BN: NDArray[np.bool_],
        largest: float,
    ) -> None:
        """Start without members; arguments are those of `select_together`."""
        self._logits_MKN, self._logits = logits_MKN, logits_MKN.reshape(-1)
        n_members, self._n_classes, self._n = logits_MKN.shape
        self._places_M = np.arange(n_members) * logits_MKN[0].size
        self._labels_at_N = labels_N * self._n + np.arange(self._n)
        # Clips side by side that are in the same bags, as those of a recording are, are summed up first.
        parts = (inside_BN[:, 1:] != inside_BN[:, :-1]).any(axis=0)
        firsts_R = np.concatenate([[0], np.flatnonzero(parts) + 1])
        self._ends_R = np.append(firsts_R[1:], self._n)
        self._inside_BR = inside_BN[:, firsts_R].astype(np.float64)
        self._run_CR = np.empty((_BATCH, len(firsts_R)))
        self._number_CN = np.empty((_BATCH, self._n), np.float32)
        self._numbers = self._number_CN.reshape(-1)
        self._rows_B = [np.flatnonzero(inside_N) for inside_N in inside_BN]
        self._n_B = inside_BN.sum(axis=1)
        # As in `LogLossOfLogits`, with roundings of labels and of the logarithm, which is of that size.
        self.error = _EPSILON * (
            6 * largest
            + self._n_classes
            + 4
            + _LOG_ROUNDINGS * (largest + float(np.log(self._n_classes)))
        )
        self._size = largest
        self._base, self._soft = np.empty((2, logits_MKN[0].size), np.float32)
        self._zeros = np.zeros(logits_MKN[0].size, logits_MKN.dtype)
        self._total_N, self._agreement_N = np.empty((2, self._n))
        self._taken_N = np.empty(kernels.fill_block(self._n))
        self.spare: list[Floats] = []
        """Sums that no group needs any longer: new memory takes longer than what is written into it."""
        self._precise: dict[int, Floats] = {}
        self._last_M = np.zeros(n_members)
        # Of each tangent T: loss >= constant + mean of the chosen members' products, for each bag. The newest
        # takes the place of the oldest.
        self._n_tangents = 0
        self._constant_TB = np.empty((_MOST_TANGENTS, len(inside_BN)))
        self._product_TBM = np.empty((_MOST_TANGENTS, len(inside_BN), n_members))
        self._label_sum_BM = np.empty((len(inside_BN), n_members))
        for member in range(n_members):
            self._number_CN[0] = self._of_labels(member)
            self._label_sum_BM[:, member] = self._sum_by_bag(1)[:, 0]

    def enter(self, group: Group, *, in_place: bool) -> None:
        """Add a group's last member to its sum, or to a copy, and prepare for its candidates."""
        logits, place = self._zeros, 0
        if group.members:
            logits, place = self._logits, self._places_M[group.members[-1]]
        before = group.sum_
        if not in_place:
            group.sum_ = self.spare.pop() if self.spare else np.empty_like(before)
        kernels.add_member(logits, place, before, self._scale(group), group.sum_, self._base)

    def name_sum(self, members: Sequence[int]) -> tuple[int, ...]:
        """Return what two sums have in common that are equal to the last bit."""
        # Sums of float16 are exact in float64, in any order.
        return tuple(sorted(members) if self._logits.dtype == np.int16 else members)

    def expect(self, candidates: Integers) -> Floats:
        """Return losses of the last tries, [C]; candidates with lower ones are tried sooner."""
        return self._last_M[candidates]

    def bound(self, group: Group, candidates: Integers) -> Floats:
        """Return lower bounds of the losses, [B, C]; -inf where nothing is known."""
        known = slice(min(self._n_tangents, _MOST_TANGENTS))
        product_TBM = self._product_TBM[known, group.bags]
        height_TB = product_TBM[:, :, group.members].sum(axis=2)
        bound_TBC = product_TBM[:, :, candidates]
        bound_TBC += height_TB[:, :, None]
        bound_TBC /= len(group.members) + 1
        bound_TBC += self._constant_TB[known, group.bags, None]
        return np.maximum.reduce(bound_TBC, axis=0, initial=-np.inf)

    def approximate(self, group: Group, candidates: Integers) -> Floats:
        """Return the losses up to `error`, [B, C]."""
        scale, places_C = self._scale(group), self._places_M[candidates]
        bag_kernels.totals(
            self._logits, places_C, self._base, self._n_classes, np.float32(scale), self._numbers
        )
        total_CN = self._number_CN[: len(candidates)]
        np.log(total_CN, out=total_CN)
        log_BC = self._sum_by_bag(len(candidates))[group.bags]
        labels_BM = self._label_sum_BM[group.bags]
        label_BC = labels_BM[:, group.members].sum(axis=1)[:, None] + labels_BM[:, candidates]
        loss_BC = (log_BC - label_BC * (scale * np.log(2))) / self._n_B[group.bags, None]
        self._last_M[candidates] = loss_BC.mean(axis=0)
        return loss_BC

    def sharpen(self, group: Group, candidates: Integers) -> None:
        """Add a tangent at the mean of a group's members, for these candidates and the members."""
        n_members, n_B = len(group.members), self._n_B[:, None]
        # No other member is added: the sum has the group's last one already.
        self._fill_softmax(self._zeros, 0, group.sum_, n_members)
        self._number_CN[0], self._number_CN[1] = np.log(self._total_N), self._agreement_N
        log_B, agreement_B = self._sum_by_bag(2).T
        label_B = self._label_sum_BM[:, group.members].sum(axis=1)
        height_B = (agreement_B - label_B) / self._n_B
        loss_B = (log_B - label_B / n_members) / self._n_B
        known = np.union1d(candidates, group.members)
        newest, self._n_tangents = self._n_tangents % _MOST_TANGENTS, self._n_tangents + 1
        # Nothing is known of the other members.
        product_BM = self._product_TBM[newest]
        product_BM[:] = -np.inf
        doubt = (self._n_classes + 4) * _EPSILON * self._size
        for start in range(0, len(known), _BATCH):
            some = known[start : start + _BATCH]
            bag_kernels.agreements(
                self._logits, self._places_M[some], self._soft, self._n_classes, self._numbers
            )
            sum_BC = self._sum_by_bag(len(some))
            product_BM[:, some] = (sum_BC - self._label_sum_BM[:, some]) / n_B - doubt
        # As in `LogLossOfLogits`, with the rounding of logarithms and agreements.
        tilt = 8 * _EPSILON * self._size
        self._constant_TB[newest] = loss_B - height_B / n_members - tilt

    def compute(self, group: Group, member: int, bags: Integers) -> Floats:
        """Return the losses with one more member in some bags of a group, [B], to the last bit."""
        n_members = len(group.members) + 1
        self._fill_softmax(self._logits, self._places_M[member], group.sum_, n_members)
        # Added in the order of choice.
        label_sum_B = np.zeros(len(self._rows_B))
        for each in (*group.members, member):
            label_sum_B += self._sum_labels(each)
        return np.array(
            [self._compute_in_bag(bag, n_members, float(label_sum_B[bag])) for bag in bags]
        )

    def _compute_in_bag(self, bag: int, n_members: int, label_sum: float) -> float:
        rows = self._rows_B[bag]
        log_J = np.empty(kernels.count_chunks(len(rows)))
        taken = self._taken_N[: kernels.fill_block(len(rows))]
        np.take(self._total_N, rows, out=taken[: len(rows)], mode="clip")
        taken[len(rows) :] = 1
        kernels.logs_by_chunk(taken, log_J)
        return (float(log_J.sum()) - label_sum / n_members) / len(rows)

    def _sum_labels(self, member: int) -> Floats:
        """Return the sum of the labels' logits in each bag, in the order of `kernels.sum_taken`."""
        if self._logits.dtype == np.int16:
            # Sums of float16 are exact in float64, in any order.
            return self._label_sum_BM[:, member]
        if member not in self._precise:
            logits_1C = self._logits_MKN[member].reshape(1, -1)
            sums = [kernels.sum_taken(logits_1C, self._labels_at_N[rows]) for rows in self._rows_B]
            self._precise[member] = np.concatenate(sums)
        return self._precise[member]

    def _fill_softmax(self, logits: Rows, place: int, sum_: Floats, n_members: int) -> None:
        kernels.softmax(
            logits,
            place,
            sum_,
            self._n_classes,
            LOG2_E / n_members,
            self._soft,
            self._total_N,
            self._agreement_N,
        )

    def _of_labels(self, member: int) -> Floats:
        """Return the logits of the labels, [N]."""
        numbers = self._logits_MKN[member].reshape(-1)[self._labels_at_N]
        floats = numbers.view(np.float16) if numbers.dtype == np.int16 else numbers
        return floats.astype(np.float64)

    def _sum_by_bag(self, n_rows: int) -> Floats:
        """Return the sums over the clips of each bag of the first rows of `_number_CN`, [B, C]."""
        run_CR = self._run_CR[:n_rows]
        bag_kernels.sum_runs(self._number_CN, self._ends_R, run_CR)
        return self._inside_BR @ run_CR.T

    def _scale(self, group: Group) -> float:
        """Return the scale of the next candidates' exponents, rounded to float32."""
        return float(np.float32(LOG2_E / (len(group.members) + 1)))
