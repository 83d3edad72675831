"""Which points a search tries, and the trials that it still has to carry out."""

import itertools
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from jobs.trials.journal import ENDED, Journal, Trial
from students.search_space import SearchSpace, Value

Sampler = Literal["optuna", "random", "grid"]
MAX_MISSES = 1000
"""Points in a row that are over the budget or known: after these a space is taken to hold no other."""


class Proposals(Protocol):
    """Suggests points, and learns from their trials."""

    def suggest(self) -> dict[str, Value] | None:
        """Return a point; None if there is no other."""

    def learn_from(self, trial: Trial) -> None:
        """Take the result of a point into account."""


class Grid:
    """All points of a finite space, once (see `Proposals`)."""

    def __init__(self, space: SearchSpace) -> None:
        self._points = iter(space.list_points())

    def suggest(self) -> dict[str, Value] | None:
        """Return a point; None if all were returned."""
        return next(self._points, None)

    def learn_from(self, trial: Trial) -> None:
        """Do nothing: all points are tried, whatever became of others."""


def generate_trials(
    journal: Journal,
    proposals: Proposals,
    make_trial: Callable[[dict[str, Value]], Trial],
    n_trained: int | None,
) -> Iterator[Trial]:
    """Yield the trials that a search still has to carry out, those that were begun first.

    A point over the budget is noted in the journal, and does not count.

    Args:
        journal: the trials that were carried out.
        proposals: suggests the other points.
        make_trial: makes the trial of a point, which may be over the budget.
        n_trained: number of trials to train in all; None is as many as there are suggestions.
    """
    begun = journal.find_trials("running", "failed")
    n_known = len(begun) + len(journal.find_trials(*ENDED))
    yield from begun
    rest = itertools.count() if n_trained is None else range(n_trained - n_known)
    for _ in rest:
        trial = _find_affordable(journal, proposals, make_trial)
        if trial is None:
            return
        yield trial


def _find_affordable(
    journal: Journal,
    proposals: Proposals,
    make_trial: Callable[[dict[str, Value]], Trial],
) -> Trial | None:
    for _ in range(MAX_MISSES):
        point = proposals.suggest()
        if point is None:
            return None
        trial = make_trial(point)
        known = journal.trials.get(trial.id)
        if known is not None:
            if known.state != "running":
                proposals.learn_from(known)
        elif trial.state == "over_budget":
            journal.note(trial)
            proposals.learn_from(trial)
        else:
            return trial
    return None
