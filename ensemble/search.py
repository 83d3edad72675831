"""One step of a selection: the best candidate, without trying most of them."""

import numpy as np
from numpy.typing import NDArray

from ensemble.objectives import Objective

_ROUNDING = 1e-12
"""Losses that differ by less, relative to the larger of loss and 1, are equal: what float64 leaves
of a sum over some hundred thousand clips."""
_BATCH = 8
"""Candidates that are tried between two looks at the bounds; they share a read of the sum."""

Integers = NDArray[np.int64]


def is_lower(loss: float, other: float) -> bool:
    """Whether a loss is lower than another by more than rounding."""
    return loss < other - _slack(other)


def best_candidate(
    objective: Objective, candidates: Integers, limit: float
) -> tuple[int, float] | None:
    """The candidate with the lowest loss, and the loss; of equal ones the first.

    Args:
        objective: what is made small.
        candidates: in the order that decides between equals.
        limit: if all candidates lie above this loss, some or all may go untried.

    Returns:
        None if no candidate reaches the limit.
    """
    finalists = _finalists(objective, candidates, limit)
    if not len(finalists):
        return None
    losses = np.array([objective.exact(int(member)) for member in finalists])
    lowest = float(losses.min())
    best = int((losses <= lowest + _slack(lowest)).argmax())
    return int(finalists[best]), float(losses[best])


def _finalists(objective: Objective, candidates: Integers, limit: float) -> Integers:
    """The candidates that may be the best, in their order."""
    losses = np.full(len(candidates), np.inf)
    # What the best candidate reaches at least.
    ceiling = limit
    bounds = objective.bounds()[candidates]
    waiting = objective.expected()[candidates].argsort(kind="stable")
    waiting = _promising(waiting, bounds, ceiling)
    # The first one tried is often the best, and then the bounds are compared with the right loss.
    n_next, is_sharp = 1, False
    while len(waiting):
        tried, waiting = waiting[:n_next], waiting[n_next:]
        losses[tried] = objective.approximate(candidates[tried], ceiling + _slack(ceiling))
        ceiling = min(ceiling, float(losses[tried].min()) + objective.error)
        waiting = _promising(waiting, bounds, ceiling)
        if len(waiting) and not is_sharp:
            objective.sharpen(candidates[waiting])
            bounds = objective.bounds()[candidates]
            waiting = _promising(waiting[bounds[waiting].argsort(kind="stable")], bounds, ceiling)
            is_sharp, n_next = True, _BATCH
    return candidates[losses - objective.error <= ceiling + _slack(ceiling)]


def _promising(waiting: Integers, bounds: NDArray[np.float64], ceiling: float) -> Integers:
    """Those of the waiting whose bound does not lie above the ceiling."""
    return waiting[bounds[waiting] <= ceiling + _slack(ceiling)]


def _slack(loss: float) -> float:
    return _ROUNDING * max(1.0, abs(loss)) if np.isfinite(loss) else 0.0
