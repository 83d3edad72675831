"""One step of a selection: find the best candidate without trying most of them."""

import math
from typing import overload

import numpy as np

from ensemble.objectives import SelectionObjective
from metrics.scores import Floats, Integers

_ROUNDING = 1e-12
"""Losses that differ by less, relative to the larger of loss and 1, are equal: this is the
precision of a float64 sum over some hundred thousand clips."""
_BATCH = 8
"""Most candidates that are tried before bounds are compared again; they share one read of the sum."""


@overload
def slack(loss: float) -> float: ...
@overload
def slack(loss: Floats) -> Floats: ...
def slack(loss: float | Floats) -> float | Floats:
    """Return by how much a loss may be above another one that is equal but for rounding."""
    if isinstance(loss, float):
        return _ROUNDING * max(1.0, abs(loss)) if math.isfinite(loss) else 0.0
    return np.where(np.isfinite(loss), _ROUNDING * np.maximum(1.0, np.abs(loss)), 0.0)


def is_lower(loss: float, other: float) -> bool:
    """Return whether a loss is lower than another by more than rounding."""
    return loss < other - slack(other)


def find_best_candidate(
    objective: SelectionObjective, candidates: Integers, limit: float
) -> tuple[int, float] | None:
    """Find the candidate with the lowest loss; of equal ones, the first.

    Args:
        objective: what the selection minimises.
        candidates: candidates in the order that decides between equal ones.
        limit: if all candidates are above this loss, some or all of them may stay untried.

    Returns:
        The candidate and its loss; None if no candidate reaches the limit.
    """
    finalists = _find_finalists(objective, candidates, limit)
    if not len(finalists):
        return None
    losses = np.array([objective.compute(int(member)) for member in finalists])
    lowest = float(losses.min())
    best = int((losses <= lowest + slack(lowest)).argmax())
    return int(finalists[best]), float(losses[best])


def _find_finalists(objective: SelectionObjective, candidates: Integers, limit: float) -> Integers:
    """Return the candidates that may be the best, in their order."""
    losses = np.full(len(candidates), np.inf)
    # The best candidate has at most this loss.
    ceiling = limit + slack(limit)
    bounds = objective.bound()[candidates]
    waiting = objective.expect()[candidates].argsort(kind="stable")
    waiting = waiting[bounds[waiting] <= ceiling]
    # The first candidates are often the best; the bounds are then compared with the final loss.
    n_next, is_sharp = 1, False
    while len(waiting):
        tried, waiting, n_next = waiting[:n_next], waiting[n_next:], min(2 * n_next, _BATCH)
        losses[tried] = objective.approximate(candidates[tried], ceiling)
        limit = min(limit, float(losses[tried].min()) + objective.error)
        ceiling = limit + slack(limit)
        waiting = waiting[bounds[waiting] <= ceiling]
        if len(waiting) and not is_sharp:
            objective.sharpen(candidates[waiting])
            bounds = objective.bound()[candidates]
            waiting = waiting[bounds[waiting] <= ceiling]
            waiting = waiting[bounds[waiting].argsort(kind="stable")]
            is_sharp = True
    return candidates[losses - objective.error <= ceiling]
