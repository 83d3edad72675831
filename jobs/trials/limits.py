"""Limits on the cost of a search's students, checked before any of them is trained."""

from audio.clips import Corpus
from jobs.trials.journal import Trial
from logit_store import fingerprint
from students import StudentRecipe
from students.complexity import Complexity, OverBudget, Precision, check_budget
from students.search_space import Value


class StudentLimits:
    """Makes trials within the limits; each architecture is measured once.

    Args:
        corpus: the corpus whose clips the students take.
        precision: precision of the parameters when a student is used.
        max_macs: most multiply-accumulates for a clip.
        max_bytes: most bytes of the parameters.
    """

    def __init__(self, corpus: Corpus, precision: Precision, max_macs: int, max_bytes: int) -> None:
        self._corpus, self._precision = corpus, precision
        self._max_macs, self._max_bytes = max_macs, max_bytes
        self._costs: dict[str, Complexity] = {}

    def make_trial(
        self, recipe: StudentRecipe, point: dict[str, Value], taught_by: str | None, seed: int
    ) -> Trial:
        """Return the trial of a point, in state `over_budget` if its student is over the limits.

        Args:
            recipe: the recipe of the point.
            point: the values that vary.
            taught_by: `NAME@HASH` of an ensemble, a member, or None.
            seed: seed of everything random in the trial.

        Raises:
            ValueError: the student cannot be built, or cannot take the corpus's clips.
        """
        complexity = self._measure(recipe)
        trial = Trial(
            point=point,
            taught_by=taught_by,
            seed=seed,
            macs=complexity.macs,
            parameter_bytes=complexity.parameter_bytes(self._precision),
        )
        try:
            check_budget(
                complexity,
                student=recipe.name,
                precision=self._precision,
                max_macs=self._max_macs,
                max_bytes=self._max_bytes,
            )
        except OverBudget as error:
            trial.state, trial.error = "over_budget", str(error)
        return trial

    def _measure(self, recipe: StudentRecipe) -> Complexity:
        architecture = fingerprint((recipe.model, recipe.arguments, recipe.front_end))
        if architecture not in self._costs:
            # It builds the student, and so needs torch, which takes seconds to import.
            from students.distill import measure_recipe

            self._costs[architecture] = measure_recipe(recipe, self._corpus)
        return self._costs[architecture]
