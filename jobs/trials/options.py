"""Options of jobs/search.py, and what searches and races both derive from them."""

from dataclasses import dataclass
from typing import Any, Literal

from audio import impulse_responses
from audio.clips import Corpus
from jobs.plan.options import AttemptOptions, BudgetOptions, Cores, GpuShare, Split
from jobs.plan.students import StudentRecipeName, StudentsOptions
from jobs.trials.journal import TrialSettings
from jobs.trials.limits import StudentLimits
from logit_store import LogitStore
from students.complexity import MAX_BYTES, MAX_MACS, Precision
from students.search_space import SearchSpace
from terminal.values import Count, Folder, Name, NewName, Reference, Seeds, Size


@dataclass(frozen=True, kw_only=True)
class SearchOptions(BudgetOptions, AttemptOptions):
    """Options of the command."""

    split: Split
    """Percent of the training clips to train on; its select clips judge."""
    space: Literal["isotropic", "baseline", "recipe", "grid540"] = "isotropic"
    """What varies: architecture and recipe of the Isotropic student or of the DCASE baseline; the
    recipe alone; or the published grid of 540 Isotropic architectures."""
    recipe: StudentRecipeName | None = None
    """Student recipe that is varied, or taught in a race, a name in students/recipes.py; the space's
    own if not given."""
    sampler: Literal["optuna", "random", "grid"] | None = None
    """optuna learns from earlier trials (TPE); grid is all points of a space without ranges; if not
    given, optuna, and grid for grid540."""
    trials: Count | None = None
    """Number of points to train; if not given 50, and all of a grid. With a --name and a larger
    number than before, the search continues."""
    epochs: Count = 10
    """Epochs of a trial; the recipe's schedule is shortened to them."""
    halving: bool = True
    """Stop trials that are worse than others after 1, 3, 9... epochs (ASHA); off, all are trained to
    the end."""
    name: NewName | None = None
    """Name of the search; the space and a fingerprint of the options if not given."""
    ensemble: Reference | None = None
    """Ensemble that teaches: NAME@HASH, or NAME for the newest of that name; not needed if all
    ensembles of the split have the same name."""
    teacher: Name | None = None
    """Member that teaches instead, with or without its fingerprint; best is the split's ensemble."""
    no_teacher: bool = False
    """Train on the labels alone."""
    race_ensembles: Count | None = None
    """Vary nothing, but find the best teacher of the recipe: this many ensembles of the split, those
    with the lowest log loss, or its best teacher. After each seed the better half continues."""
    seeds: Seeds | None = None
    """Seeds of the students: one for a search, on which suggestions depend too, several for a race;
    0, and 0 1 2 for a race, if not given."""
    precision: Precision = "int8"
    """Precision of the parameters when the student is used, for --max-bytes."""
    max_macs: Size = MAX_MACS
    """Train no student with more multiply-accumulates a clip."""
    max_bytes: Size = MAX_BYTES
    """Train no student whose parameters take more bytes."""
    max_ram: Size | None = None
    """Train no student that needs more bytes of RAM on a device in int8, the peak of the memory plan of
    its C program without the front-end: 256000. A plan takes seconds for each architecture, once; no
    limit if not given."""
    impulse_responses: Folder | None = None
    """Folder of recording devices' impulse responses (.wav) for augmentation; a synthetic set
    if not given."""
    cpus_per_run: Cores = 1
    """Cores of one trial, and threads of its torch."""
    gpus_per_run: GpuShare | None = None
    """Share of a GPU for one trial, so that many run on one; if not given, 1, and 0 where the
    cluster has no GPU."""

    def as_students(self) -> StudentsOptions:
        """Return those of the options that name the teacher and the needs of a run."""
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

    def make_student_limits(self, corpus: Corpus) -> StudentLimits:
        """Return the limits on the cost of a student."""
        return StudentLimits(corpus, self.precision, self.max_macs, self.max_bytes, self.max_ram)

    def make_trial_settings(
        self, store: LogitStore, search: str, space: SearchSpace
    ) -> TrialSettings:
        """Return what the trials of a search or a race have in common."""
        return TrialSettings(
            where=self.make_where(store),
            search=search,
            space=space,
            split=self.split,
            epochs=self.epochs,
            responses=self.as_students().find_responses(),
            cpus=self.cpus_per_run,
        )

    def identify_search(self, corpus: Corpus, space: SearchSpace) -> dict[str, Any]:
        """Return what decides the result of a trial, except for its point, teacher and seed."""
        return {
            "space": space.name,
            "recipe": self.recipe,
            "space_identity": space.identity,
            "corpus": corpus.name,
            "clips": corpus.compute_identity(),
            "split": self.split,
            "epochs": self.epochs,
            "responses": impulse_responses.identify_responses(self.as_students().find_responses()),
        }

    def make_full_length_command(self, recipe: str, taught_by: str | None) -> list[str]:
        """Return the command that trains the result in full length."""
        option = "--ensemble" if taught_by and "@" in taught_by else "--teacher"
        taught = [option, taught_by] if taught_by else ["--no-teacher"]
        how = ["--splits", str(self.split), "--recipes", recipe, *taught]
        return ["python", "jobs/students.py", *self.list_data_options(), *how]
