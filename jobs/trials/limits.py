"""Limits on the cost of a search's students, checked before any of them is trained."""

from audio.clips import Corpus
from jobs.trials.journal import Trial
from logit_store import fingerprint
from students import StudentRecipe
from students.complexity import Complexity, OverBudget, Precision, check_budget, check_ram
from students.errors import NoPlan
from students.search_space import Value


class StudentLimits:
    """Makes trials within the limits; each architecture is measured once.

    Args:
        corpus: the corpus whose clips the students take.
        precision: precision of the parameters when a student is used.
        max_macs: most multiply-accumulates for a clip.
        max_bytes: most bytes of the parameters.
        max_ram: most bytes of RAM on a device in int8; None is no limit, and no student's is planned.
    """

    def __init__(
        self,
        corpus: Corpus,
        precision: Precision,
        max_macs: int,
        max_bytes: int,
        max_ram: int | None = None,
    ) -> None:
        self._corpus, self._precision = corpus, precision
        self._max_macs, self._max_bytes, self._max_ram = max_macs, max_bytes, max_ram
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
            # Last, because it takes seconds.
            trial.ram = self._check_ram(recipe)
        except (OverBudget, NoPlan) as error:
            trial.state, trial.error = "over_budget", str(error)
        return trial

    def _check_ram(self, recipe: StudentRecipe) -> int | None:
        """Return the bytes of RAM of a recipe's student if there is a limit, and refuse more."""
        if self._max_ram is None:
            return None
        from students.ram import measure_recipe_ram

        ram = measure_recipe_ram(recipe, self._corpus)
        check_ram(ram, student=recipe.name, max_ram=self._max_ram)
        return ram

    def _measure(self, recipe: StudentRecipe) -> Complexity:
        architecture = fingerprint((recipe.model, recipe.arguments, recipe.front_end))
        if architecture not in self._costs:
            # It builds the student, and so needs torch, which takes seconds to import.
            from students.distill import measure_recipe

            self._costs[architecture] = measure_recipe(recipe, self._corpus)
        return self._costs[architecture]
