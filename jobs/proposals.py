"""Which points a search tries: suggested by a sampler of Optuna, or all of a grid."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from jobs.journal import ENDED, Journal, Trial
from logit_store import fingerprint
from students.search_space import Dimension, Range, Space, Value

Sampler = Literal["optuna", "random", "grid"]
MAX_MISSES = 1000
"""Points in a row that are over the budget or known; after these a space is taken to hold no other."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Proposals(Protocol):
    """Says what to try next, and learns from what became of it."""

    def next(self) -> dict[str, Value] | None:
        """A point; None: there is no other."""

    def tell(self, trial: Trial) -> None:
        """What became of a point."""


class Grid:
    """All points of a finite space, once."""

    def __init__(self, space: Space) -> None:
        self._points = iter(space.listed())

    def next(self) -> dict[str, Value] | None:
        """A point; None: all were given."""
        return next(self._points, None)

    def tell(self, trial: Trial) -> None:
        """Nothing to learn: all points are tried."""


class Sampled:
    """What a sampler of Optuna suggests: a tree-structured Parzen estimator, or chance.

    Args:
        space: where to look.
        sampler: "optuna" for the estimator.
        seed: of the suggestions.
        told: what was found before.
    """

    def __init__(self, space: Space, sampler: Sampler, seed: int, told: Sequence[Trial]) -> None:
        self._distributions = {k: _distribution(v) for k, v in space.dimensions.items()}
        # A search that goes on must not draw again what it drew first.
        drawn = int(np.random.SeedSequence([seed, len(told)]).generate_state(1)[0])
        samplers = optuna.samplers
        self._study = optuna.create_study(
            sampler=samplers.TPESampler(seed=drawn)
            if sampler == "optuna"
            else samplers.RandomSampler(seed=drawn)
        )
        self._asked: dict[str, optuna.Trial] = {}
        for trial in told:
            self.tell(trial)

    def next(self) -> dict[str, Value] | None:
        """A point, perhaps one that was given before."""
        asked = self._study.ask(self._distributions)
        if self._asked.setdefault(fingerprint(asked.params), asked) is not asked:
            self._study.tell(asked, state=TrialState.FAIL)
        return asked.params

    def tell(self, trial: Trial) -> None:
        """What became of a point, asked for or not."""
        state, value = _ended_as(trial)
        losses = dict(enumerate(trial.losses, start=1)) if trial.is_judged else {}
        asked = self._asked.pop(fingerprint(trial.point), None)
        if asked is not None:
            for epoch, loss in losses.items():
                asked.report(loss, epoch)
            self._study.tell(asked, value, state)
            return
        self._study.add_trial(
            create_trial(
                state=state,
                value=value,
                params=trial.point,
                distributions=self._distributions,
                intermediate_values=losses,
            )
        )


def candidates(
    journal: Journal,
    proposals: Proposals,
    trial_of: Callable[[dict[str, Value]], Trial],
    n_taught: int | None,
) -> Iterator[Trial]:
    """The trials that a search still has to carry out, those that were begun first.

    A point over the budget is told to the proposals and taken down, and does not count.

    Args:
        journal: what was carried out.
        proposals: what else to try.
        trial_of: from a point to its trial, which may be over the budget.
        n_taught: so many trials are taught in all; None is as many as there are proposals.
    """
    begun = journal.in_state("running", "failed")
    n_known = len(begun) + len(journal.in_state(*ENDED))
    yield from begun
    rest = itertools.count() if n_taught is None else range(n_taught - n_known)
    for _ in rest:
        trial = _next_affordable(journal, proposals, trial_of)
        if trial is None:
            return
        yield trial


def _next_affordable(
    journal: Journal,
    proposals: Proposals,
    trial_of: Callable[[dict[str, Value]], Trial],
) -> Trial | None:
    for _ in range(MAX_MISSES):
        point = proposals.next()
        if point is None:
            return None
        trial = trial_of(point)
        known = journal.trials.get(trial.id)
        if known is not None:
            if known.state != "running":
                proposals.tell(known)
        elif trial.state == "over_budget":
            journal.note(trial)
            proposals.tell(trial)
        else:
            return trial
    return None


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Range):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return CategoricalDistribution(dimension)


def _ended_as(trial: Trial) -> tuple[TrialState, float | None]:
    """To Optuna, a pruned trial without a value is worse than any other, and no crash."""
    if trial.state == "done":
        return TrialState.COMPLETE, trial.loss
    if trial.state == "failed":
        return TrialState.FAIL, None
    return TrialState.PRUNED, None
