"""Compares a student without a teacher to the same student taught in several ways, on test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audio.clips import Corpus
from ensemble.stored import compute_ensemble_logits
from jobs.plan.members import find_select_scores
from jobs.plan.students import (
    StudentsOptions,
    find_student_recipes,
    parse_way,
    plan_recipe,
)
from jobs.plan.taught_by import find_ensembles
from jobs.schedule.task import Task
from logit_store import LogitKey, LogitStore, strip_fingerprint
from report.as_text import read_system, show_gains, show_systems
from report.summary import System
from students import StudentRecipe, UnfitSoftLabels, check_views
from terminal.console import UserError, console

N_WAYS = 5
"""How many ways a recipe is compared in without a pool: four if the ensemble cannot teach from views."""


@dataclass(frozen=True, slots=True)
class ComparedWay:
    """One student taught in one way, once per seed."""

    name: str
    tasks: list[Task]


@dataclass(frozen=True, slots=True)
class ComparedRecipe:
    """One recipe on one split in all ways; the first is without a teacher."""

    split: int
    ensemble: str
    best: LogitKey
    ways: list[ComparedWay]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All recipes on all splits, in all ways."""

    groups: list[ComparedRecipe]

    @classmethod
    def plan(cls, options: StudentsOptions, corpus: Corpus, store: LogitStore) -> "Comparison":
        """Plan each recipe without a teacher, and taught by the best teacher, the ensemble, and more.

        It prints where the ensemble cannot teach from views.

        Raises:
            UserError: a split has no ensemble, or an option does not fit a comparison.
        """
        if options.teacher or options.no_teacher:
            raise UserError(
                "--compare goes from no teacher to an ensemble: leave out --teacher and --no-teacher"
            )
        return cls(
            [
                _plan_group(options, corpus, store, recipe, split, ensemble)
                for split, ensemble in find_ensembles(options, corpus.name, store).items()
                for recipe in find_student_recipes(options, store)
            ]
        )

    def list_tasks(self) -> list[Task]:
        """Return all runs."""
        return [task for group in self.groups for way in group.ways for task in way.tasks]

    def show(self, corpus: Corpus, store: LogitStore) -> None:
        """Print a table of all systems on test, and what each way gains over no teacher."""
        for group in self.groups:
            alone, *others = (
                read_system(store, way.name, [task.keys[0] for task in way.tasks])
                for way in group.ways
            )
            best = read_system(
                store, f"teacher {strip_fingerprint(group.best.member)}", [group.best]
            )
            logits_NK = compute_ensemble_logits(store, corpus.name, group.split, group.ensemble)
            ensemble = System("ensemble", group.split, [logits_NK])
            show_systems(corpus, [best, ensemble, alone, *others])
            show_gains(corpus, "{}", alone, others, unseen=True)


def _plan_group(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    ensemble: str,
) -> ComparedRecipe:
    best = _find_best_teacher(store, corpus.name, split, ensemble)
    base = recipe if recipe.distillation else parse_way(recipe, "distilled")
    plain = parse_way(base, "plain")
    adversarial = base if base.device_loss_weight else parse_way(base, "adversarial")
    without = replace(options, pool=(), pool_share=None, first_pool=())
    ways: list[tuple[str, StudentRecipe, str | None, StudentsOptions]] = [
        ("alone", plain, None, without)
    ]
    taught: list[tuple[str, StudentRecipe, str]] = [
        ("+ best teacher", plain, best.member),
        ("+ ensemble", plain, ensemble),
        ("+ ensemble, adversarial", adversarial, ensemble),
    ]
    from_views = _find_recipe_from_views(options, corpus, store, adversarial, split, ensemble)
    if from_views is not None:
        taught.append(("+ ensemble, adversarial, views", from_views, ensemble))
    if options.pool or options.first_pool:
        # One way without the pool shows what the pool gains.
        ways.append(("+ ensemble", plain, ensemble, without))
        taught = [(f"{name}, pool", learner, taught_by) for name, learner, taught_by in taught]
    ways += [(*way, options) for way in taught]
    compared = [
        ComparedWay(
            f"{recipe.name} {name}",
            # The same recipe has several teachers, so its name alone would not be unique.
            [
                replace(task, name=f"{task.name}, {name}")
                for task in plan_recipe(chosen, corpus, store, learner, split, taught_by)
            ],
        )
        for name, learner, taught_by, chosen in ways
    ]
    return ComparedRecipe(split, ensemble, best, compared)


def _find_best_teacher(store: LogitStore, corpus: str, split: int, ensemble: str) -> LogitKey:
    """Return the candidate of an ensemble with the lowest log loss on `select`."""
    candidates = store.ensembles.read(corpus, split, ensemble)["candidates"]
    keys = [LogitKey(corpus, split, candidate["member"]) for candidate in candidates]
    footers = store.read_footers(keys)
    return min(keys, key=lambda key: find_select_scores(key, footers[key]).log_loss)


def _find_recipe_from_views(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    ensemble: str,
) -> StudentRecipe | None:
    """Return the recipe that learns from all views that the ensemble's members have in common.

    It prints the reason and returns None if that is only view 0, or if the views differ from those
    that the student would see.
    """
    members = list(store.ensembles.read_weights(corpus.name, split, ensemble))
    n_views = count_common_views(store, members)
    if n_views < 2:
        console.print(
            f"split {split}: no student learns from views, because {ensemble} has members with view 0 only: "
            "python jobs/teachers.py --views 8 makes more",
            markup=False,
        )
        return None
    learner = parse_way(recipe, f"views={n_views}")
    try:
        check_views(learner, members, store, options.find_responses())
    except UnfitSoftLabels as error:
        console.print(f"split {split}: no student learns from views: {error}", markup=False)
        return None
    return learner


def count_common_views(store: LogitStore, members: Sequence[LogitKey]) -> int:
    """Count the views, from 0 without a gap, that all these members have in the store."""
    first = members[0]
    stored = set(store.keys(first.corpus, first.split, view=None))
    n_views = 0
    while all(replace(member, view=n_views) in stored for member in members):
        n_views += 1
    return n_views
