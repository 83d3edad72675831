"""What the students of a search may cost, looked at before any of them learns."""

from audio.clips import Corpus
from jobs.journal import Trial
from logit_store import fingerprint
from students import StudentRecipe
from students.complexity import Complexity, OverBudget, Precision, check_budget
from students.distill import cost
from students.search_space import Value


class Budget:
    """Measures each architecture once, however many points share it.

    Args:
        corpus: whose clips the students take.
        precision: of the parameters when a student is used.
        max_macs: multiply-accumulates of a clip.
        max_bytes: of the parameters.
    """

    def __init__(self, corpus: Corpus, precision: Precision, max_macs: int, max_bytes: int) -> None:
        self._corpus, self._precision = corpus, precision
        self._max_macs, self._max_bytes = max_macs, max_bytes
        self._costs: dict[str, Complexity] = {}

    def trial(
        self, recipe: StudentRecipe, point: dict[str, Value], taught_by: str | None, seed: int
    ) -> Trial:
        """The trial of a point, `over_budget` if its student is.

        Args:
            recipe: the point's.
            point: what is varied.
            taught_by: `NAME@HASH` of an ensemble, a member, or None.
            seed: of everything random in the trial.

        Raises:
            ValueError: a student that cannot be built, or cannot take the corpus's clips.
        """
        complexity = self._cost(recipe)
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

    def _cost(self, recipe: StudentRecipe) -> Complexity:
        architecture = fingerprint((recipe.model, recipe.arguments, recipe.front_end))
        if architecture not in self._costs:
            self._costs[architecture] = cost(recipe, self._corpus)
        return self._costs[architecture]
