"""What teachers give a student: taught in more and more ways, judged on the same test clips."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audio.clips import Corpus
from jobs.command import UserError, console
from jobs.fanout import Task
from jobs.learning import select_figures
from jobs.results import show_gains, show_systems, stored
from jobs.student_runs import StudentsOptions, changed, find_ensembles, plan_one, recipes_of
from jobs.units import ensemble_logits
from logit_store import LogitKey, LogitStore, plain_name
from report import System
from students import StudentRecipe, UnfitSoftLabels, check_views


@dataclass(frozen=True, slots=True)
class _Compared:
    """One student in one way, once per seed."""

    name: str
    tasks: list[Task]


@dataclass(frozen=True, slots=True)
class _Group:
    """One recipe on one split in all ways; the first is the student alone."""

    split: int
    ensemble: str
    best: LogitKey
    ways: list[_Compared]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All recipes on all splits, in all ways."""

    groups: list[_Group]

    @classmethod
    def plan(cls, options: StudentsOptions, corpus: Corpus, store: LogitStore) -> "Comparison":
        """The runs of a student alone, and by the best teacher, the ensemble, and more.

        Says so where the ensemble cannot teach from views.

        Raises:
            UserError: a split has no ensemble, or options that do not go with a comparison.
        """
        if options.teacher or options.no_teacher:
            raise UserError(
                "--compare goes from no teacher to an ensemble: leave --teacher, --no-teacher out"
            )
        return cls(
            [
                _group(options, corpus, store, recipe, split, ensemble)
                for split, ensemble in find_ensembles(options, corpus.name, store).items()
                for recipe in recipes_of(options, store)
            ]
        )

    def tasks(self) -> list[Task]:
        """All runs."""
        return [task for group in self.groups for way in group.ways for task in way.tasks]

    def show(self, corpus: Corpus, store: LogitStore) -> None:
        """The table of all systems on test, and what each way has over the student alone."""
        for group in self.groups:
            alone, *others = (
                stored(store, way.name, [task.keys[0] for task in way.tasks]) for way in group.ways
            )
            best = stored(store, f"teacher {plain_name(group.best.member)}", [group.best])
            logits_NK = ensemble_logits(store, corpus.name, group.split, group.ensemble)
            ensemble = System("ensemble", group.split, [logits_NK])
            show_systems(corpus, [best, ensemble, alone, *others])
            show_gains(corpus, "{}", alone, others, unseen=True)


def _group(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    ensemble: str,
) -> _Group:
    best = _best_teacher(store, corpus.name, split, ensemble)
    base = recipe if recipe.distillation else changed(recipe, "distilled")
    plain = changed(base, "plain")
    adversarial = base if base.device_loss_weight else changed(base, "adversarial")
    ways: list[tuple[str, StudentRecipe, str | None]] = [
        ("alone", plain, None),
        ("+ best teacher", plain, best.member),
        ("+ ensemble", plain, ensemble),
        ("+ ensemble, adversarial", adversarial, ensemble),
    ]
    from_views = _from_views(options, corpus, store, adversarial, split, ensemble)
    if from_views is not None:
        ways.append(("+ ensemble, adversarial, views", from_views, ensemble))
    compared = [
        _Compared(
            f"{recipe.name} {name}",
            # The same recipe learns from several: its name alone would be that of several runs.
            [
                replace(task, name=f"{task.name}, {name}")
                for task in plan_one(options, corpus, store, learner, split, taught_by)
            ],
        )
        for name, learner, taught_by in ways
    ]
    return _Group(split, ensemble, best, compared)


def _best_teacher(store: LogitStore, corpus: str, split: int, ensemble: str) -> LogitKey:
    """The candidate of an ensemble that has the lowest log loss on `select`."""
    candidates = store.read_ensemble(corpus, split, ensemble)["candidates"]
    keys = [LogitKey(corpus, split, candidate["member"]) for candidate in candidates]
    footers = store.footers(keys)
    return min(keys, key=lambda key: select_figures(key, footers[key]).log_loss)


def _from_views(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    ensemble: str,
) -> StudentRecipe | None:
    """The recipe as it learns from all views that the ensemble's members have in common.

    None if that is only the first, or if they heard other clips than it would; says so.
    """
    members = list(store.pinned(corpus.name, split, ensemble))
    n_views = common_views(store, members)
    if n_views < 2:
        console.print(
            f"split {split}: no student learns from views, {ensemble} has members with view 0 only: "
            "python jobs/teachers.py --views 8 makes more",
            markup=False,
        )
        return None
    learner = changed(recipe, f"views={n_views}")
    try:
        check_views(learner, members, store, options.responses())
    except UnfitSoftLabels as error:
        console.print(f"split {split}: no student learns from views: {error}", markup=False)
        return None
    return learner


def common_views(store: LogitStore, members: Sequence[LogitKey]) -> int:
    """How many views, counted from 0 without a gap, all these members have in the store."""
    first = members[0]
    there = set(store.keys(first.corpus, first.split, view=None))
    n_views = 0
    while all(replace(member, view=n_views) in there for member in members):
        n_views += 1
    return n_views
