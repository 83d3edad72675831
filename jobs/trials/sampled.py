"""The points that a sampler of Optuna suggests."""

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from jobs.trials.journal import Trial
from jobs.trials.proposals import Sampler
from logit_store import fingerprint
from students.search_space import Dimension, Range, SearchSpace, Value

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Sampled:
    """Suggestions of a tree-structured Parzen estimator, or of chance (see `Proposals`).

    Args:
        space: where to search.
        sampler: "optuna" is the estimator.
        seed: of the suggestions.
        ended: trials of the same search that have ended already.
    """

    def __init__(
        self, space: SearchSpace, sampler: Sampler, seed: int, ended: Sequence[Trial]
    ) -> None:
        self._distributions = {k: _make_distribution(v) for k, v in space.dimensions.items()}
        # A search that is continued must not draw again what it drew first.
        drawn = int(np.random.SeedSequence([seed, len(ended)]).generate_state(1)[0])
        samplers = optuna.samplers
        self._study = optuna.create_study(
            sampler=samplers.TPESampler(seed=drawn)
            if sampler == "optuna"
            else samplers.RandomSampler(seed=drawn)
        )
        self._asked: dict[str, optuna.Trial] = {}
        for trial in ended:
            self.learn_from(trial)

    def suggest(self) -> dict[str, Value] | None:
        """Return a point, perhaps one that was suggested before."""
        asked = self._study.ask(self._distributions)
        if self._asked.setdefault(fingerprint(asked.params), asked) is not asked:
            self._study.tell(asked, state=OptunaState.FAIL)
        return asked.params

    def learn_from(self, trial: Trial) -> None:
        """Take the result of a point into account, whether it was suggested here or not."""
        state, value = _find_optuna_state(trial)
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


def _make_distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Range):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return CategoricalDistribution(dimension)


def _find_optuna_state(trial: Trial) -> tuple[OptunaState, float | None]:
    """Return Optuna's state and value of a trial.

    To Optuna, a pruned trial without a value is worse than any other, and no failure.
    """
    if trial.state == "done":
        return OptunaState.COMPLETE, trial.loss
    if trial.state == "failed":
        return OptunaState.FAIL, None
    return OptunaState.PRUNED, None
