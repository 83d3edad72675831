"""Options of jobs/search.py, and what its searches and its races both make of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from audio import impulse_responses
from audio.clips import Corpus
from jobs.budget import Budget
from jobs.command import UserError
from jobs.costs import BudgetOptions
from jobs.journal import Lesson
from jobs.student_runs import StudentsOptions
from logit_store import LogitStore
from logit_store.layout import check_name
from students.complexity import MAX_BYTES, MAX_MACS, Precision
from students.search_space import Space


@dataclass(frozen=True, kw_only=True)
class SearchOptions(BudgetOptions):
    """Options of the command."""

    split: int
    """Percent of the training clips to learn from; its select clips judge."""
    space: Literal["isotropic", "baseline", "recipe", "grid540"] = "isotropic"
    """What varies: architecture and recipe of the Isotropic student or of the DCASE baseline; the
    recipe alone; or the published grid of 540 Isotropic architectures."""
    recipe: str | None = None
    """Student recipe that is varied, or raced for, a name in students/recipes.py; the space's own
    if not given."""
    sampler: Literal["optuna", "random", "grid"] | None = None
    """optuna suggests after what was found (TPE); grid is all points of a space without ranges; if
    not given, optuna, and grid for grid540."""
    trials: int | None = None
    """Teach so many points; if not given 50, and of a grid all. More than before go on with a
    search that has a --name."""
    epochs: int = 10
    """Of a trial; the recipe's schedule is squeezed into them."""
    halving: bool = True
    """Stop trials that fall behind the others after 1, 3, 9... epochs (ASHA); off, all are taught to
    the end."""
    name: str | None = None
    """What the search is called; the space and a fingerprint of the options if not given."""
    ensemble: str | None = None
    """Ensemble to learn from: NAME@HASH, or NAME for the newest of that name; may be left out where
    the split has just one name."""
    teacher: str | None = None
    """Member to learn from instead, with or without its fingerprint."""
    no_teacher: bool = False
    """Learn from the labels alone."""
    race_ensembles: int | None = None
    """Vary nothing, but find out who teaches the recipe best: so many ensembles of the split, the
    best by themselves, or its best teacher. After each seed the better half goes on."""
    seeds: tuple[int, ...] | None = None
    """Of the students: one for a search, which suggestions depend on too, several for a race; 0,
    and 0 1 2 for a race, if not given."""
    precision: Precision = "int8"
    """Of the parameters when the student is used, for --max-bytes."""
    max_macs: int = MAX_MACS
    """Teach no student with more multiply-accumulates a clip."""
    max_bytes: int = MAX_BYTES
    """Teach no student whose parameters take more bytes."""
    impulse_responses: Path | None = None
    """Folder of recording devices' impulse responses (.wav) for augmentation; a synthetic set
    if not given."""
    cpus_per_run: int = 1
    """Cores of one trial; its torch uses so many threads."""
    gpus_per_run: float | None = None
    """Share of a GPU for one trial, so that many run on one; if not given, 1, and 0 where the
    cluster has no GPU."""

    def as_students(self) -> StudentsOptions:
        """The same, as far as it says who teaches and what a run needs."""
        return StudentsOptions(
            corpus=self.corpus,
            root=self.root,
            store=self.store,
            splits=(self.split,),
            ensemble=self.ensemble,
            teacher=self.teacher,
            no_teacher=self.no_teacher,
            impulse_responses=self.impulse_responses,
            cpus_per_run=self.cpus_per_run,
            gpus_per_run=self.gpus_per_run,
        )

    def student_budget(self, corpus: Corpus) -> Budget:
        """What a student may cost."""
        return Budget(corpus, self.precision, self.max_macs, self.max_bytes)

    def lesson(self, store: LogitStore, search: str, space: Space) -> Lesson:
        """What the trials of a search, or of a race, have in common."""
        return Lesson(
            where=self.where(store),
            search=search,
            space=space,
            split=self.split,
            epochs=self.epochs,
            responses=self.as_students().responses(),
            cpus=self.cpus_per_run,
        )

    def identity(self, corpus: Corpus, space: Space) -> dict[str, Any]:
        """What decides the result of a trial, but for its point, teacher and seed."""
        return {
            "space": space.name,
            "recipe": self.recipe,
            "space_identity": space.identity,
            "corpus": corpus.name,
            "clips": corpus.identity(),
            "split": self.split,
            "epochs": self.epochs,
            "responses": impulse_responses.identity(self.as_students().responses()),
        }

    def named(self, default: str) -> str:
        """What the search is called.

        Raises:
            UserError: its name cannot stand in a path.
        """
        name = self.name or default
        try:
            check_name("--name", name)
        except ValueError as error:
            raise UserError(str(error)) from error
        return name

    def full_length(self, recipe: str, taught_by: str | None) -> list[str]:
        """The command that teaches in full length what was found."""
        option = "--ensemble" if taught_by and "@" in taught_by else "--teacher"
        taught = [option, taught_by] if taught_by else ["--no-teacher"]
        how = ["--splits", str(self.split), "--recipes", recipe, *taught]
        return ["python", "jobs/students.py", *self.data(), *how]
