"""Which student runs were asked for, who teaches each, and what refuses them before they run."""

import json
from dataclasses import dataclass, replace

from audio.clips import Corpus
from jobs import units
from jobs.command import CorpusOptions, UserError
from jobs.fanout import Task
from jobs.learning import LearningOptions, check_counts, chosen, named
from logit_store import LogitKey, LogitStore, MissingObject, plain_name
from students import RECIPES, StudentRecipe, UnfitSoftLabels, alone, check_teachers
from students.complexity import MAX_BYTES, MAX_MACS, Precision
from students.distill import check_recipe, student_key
from students.search_space import found_recipe
from students.ways import AS_NAMED, taught
from training import view_keys

COMPARED_SEEDS = (0, 1, 2, 3, 4)
"""So many tell a gain from luck."""


@dataclass(frozen=True, kw_only=True)
class StudentsOptions(LearningOptions):
    """Options of the command."""

    recipes: tuple[str, ...] = ("isotropic",)
    """Names in students/recipes.py: isotropic, isotropic_ascdomain (as published),
    dcase24_baseline, cp_mobile_2023, demo_isotropic and so on; search:NAME is the best that
    jobs/search.py found under that name."""
    ways: tuple[str, ...] = (AS_NAMED,)
    """How each recipe learns: as_named, or words of students/ways.py joined by + that change it, as
    in decoupled+mixup=0.4, alone+rsc, views=4+soup."""
    seeds: tuple[int, ...] = ()
    """One run per seed; 0, or with --compare 0 to 4, if not given."""
    views: int = 1
    """Store the students' logits of so many views: what students of theirs may learn from."""
    compare: bool = False
    """Teach each recipe alone, by the best single teacher, by the ensemble, by it against the device
    discriminator, and from its views; print what each is worth on test and has over the first."""
    ensemble: str | None = None
    """Ensemble to learn from: NAME@HASH, or NAME for the newest of that name; may be left out where
    a split has just one name."""
    teacher: str | None = None
    """Member to learn from instead, a teacher or another student, with or without its
    fingerprint."""
    no_teacher: bool = False
    """Learn from the labels alone: the baseline."""
    precision: Precision = "int8"
    """Of the parameters when the student is used, for --max-bytes."""
    max_macs: int = MAX_MACS
    """Refuse students with more multiply-accumulates a clip."""
    max_bytes: int = MAX_BYTES
    """Refuse students whose parameters take more bytes."""

    def all_seeds(self) -> tuple[int, ...]:
        """The seeds that were given, or as many as the purpose needs."""
        return self.seeds or (COMPARED_SEEDS if self.compare else (0,))


def plan(
    options: StudentsOptions, corpus: Corpus, store: LogitStore, teachers: dict[int, str | None]
) -> list[Task]:
    """All runs that were asked for; `teachers` says who teaches each split, None is nobody.

    Raises:
        UserError: a way contradicts itself or the recipe, or a student is over the budget or does
            not fit who teaches it.
    """
    recipes = recipes_of(options, store)
    return [
        task
        for split, taught_by in teachers.items()
        for recipe in recipes
        for task in plan_one(options, corpus, store, recipe, split, taught_by)
    ]


def recipes_of(options: StudentsOptions, store: LogitStore) -> list[StudentRecipe]:
    """The recipes that were asked for, in all the ways that were asked for.

    Raises:
        UserError: there is no such recipe, search or way, or a way contradicts a recipe.
    """
    return [changed(_recipe(name, store), way) for name in options.recipes for way in options.ways]


def _recipe(name: str, store: LogitStore) -> StudentRecipe:
    kind, _, search = name.partition(":")
    if kind != "search" or not search:
        return named([name], RECIPES, "student")[0]
    try:
        return found_recipe(json.loads(store.read_object(f"search/v1/{search}/result.json")))
    except KeyError as error:
        raise UserError(f"--recipes {name}: its result has no {error}: it was no search") from error
    except (MissingObject, ValueError) as error:
        raise UserError(f"--recipes {name}: {error}; see python jobs/search.py --help") from error


def changed(recipe: StudentRecipe, way: str) -> StudentRecipe:
    """The recipe as it learns in a way of `students.ways`.

    Raises:
        UserError: there is no such way, or it contradicts the recipe.
    """
    try:
        return taught(recipe, way)
    except ValueError as error:
        raise UserError(f"--ways: {error}") from error


def plan_one(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    taught_by: str | None,
) -> list[Task]:
    """The runs of one recipe on one split, one per seed.

    Raises:
        UserError: it is over the budget, or does not fit who teaches it.
    """
    check_counts(views=options.views)
    _check_budget(options, corpus, recipe)
    shorter = replace(recipe, training=options.shortened(recipe.training))
    if taught_by is None and shorter.distillation is not None:
        shorter = alone(shorter)
    if shorter.distillation is None:
        taught_by = None
    if taught_by is not None:
        _check_teachers(options, corpus, store, shorter, split, taught_by)
    tasks = []
    for seed in options.all_seeds():
        arguments = {
            "where": options.where(store),
            "recipe": shorter,
            "split": split,
            "seed": seed,
            "responses": options.responses(),
            "taught_by": taught_by,
            "n_views": options.views,
        }
        key = _key(options, shorter, corpus, split, seed, taught_by)
        name = f"{shorter.name} split {split} seed {seed}"
        tasks.append(Task(name, units.learn, arguments, view_keys(key, options.views)))
    return tasks


def _key(
    options: StudentsOptions,
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    taught_by: str | None,
) -> LogitKey:
    try:
        return student_key(recipe, corpus, split, seed, options.responses(), taught_by)
    except ValueError as error:
        raise UserError(str(error)) from error


def _check_teachers(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    taught_by: str,
) -> None:
    members = units.teachers_of(store, corpus.name, split, taught_by)
    try:
        check_teachers(recipe, corpus, split, members, store, options.responses())
    except UnfitSoftLabels as error:
        raise UserError(f"{taught_by}: {error}") from error


def _check_budget(options: StudentsOptions, corpus: Corpus, recipe: StudentRecipe) -> None:
    """Before anything runs: hours of learning do not make a student smaller."""
    try:
        check_recipe(
            recipe,
            corpus,
            precision=options.precision,
            max_macs=options.max_macs,
            max_bytes=options.max_bytes,
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def export_command(options: CorpusOptions, member: str) -> list[str]:
    """What makes a file of a student that `python -m students.classify` runs."""
    how = ["--form", "onnx-int8", "--with-front-end", "--to", f"{plain_name(member)}.onnx"]
    return ["python", "-m", "students.export", member, *options.data(), *how]


def find_teachers(
    options: StudentsOptions, corpus: str, store: LogitStore
) -> dict[int, str | None]:
    """Who teaches each split: `NAME@HASH` of an ensemble, a member's name, or None for nobody.

    Raises:
        UserError: there is no such teacher, one must be chosen, or several ways were.
    """
    given = [bool(options.ensemble), bool(options.teacher), options.no_teacher]
    if sum(given) > 1:
        raise UserError("--ensemble, --teacher and --no-teacher exclude each other: give one")
    if options.no_teacher:
        return dict.fromkeys(chosen(options.splits))
    if options.teacher is None:
        return dict(find_ensembles(options, corpus, store))
    return {
        split: _member(store, corpus, split, options.teacher) for split in chosen(options.splits)
    }


def _member(store: LogitStore, corpus: str, split: int, name: str) -> str:
    """The member of a split that is called so, with or without its fingerprint."""
    there = [key.member for key in store.keys(corpus, split)]
    found = [member for member in there if name in (member, plain_name(member))]
    if len(found) != 1:
        listed = ", ".join(found or there) or "none"
        raise UserError(
            f"--teacher {name}: split {split} has {len(found)} members called so, expected one "
            f"(there: {listed})"
        )
    return found[0]


def find_ensembles(options: StudentsOptions, corpus: str, store: LogitStore) -> dict[int, str]:
    """The NAME@HASH of each split's ensemble: the named one, or the only one.

    Raises:
        UserError: there is none, or one must be chosen.
    """
    found = {}
    for split in chosen(options.splits):
        there = store.ensembles(corpus, split)
        names = sorted({reference.partition("@")[0] for reference in there})
        wanted = options.ensemble or (names[0] if len(names) == 1 else None)
        if wanted is None or wanted not in (*names, *there):
            which = f"named {options.ensemble}" if options.ensemble else "that is the only one"
            raise UserError(
                f"split {split} has no ensemble {which} (there: {', '.join(there) or 'none'}): "
                "run python jobs/ensemble.py, name one with --ensemble, or use --no-teacher"
            )
        found[split] = store.find_ensemble(corpus, split, wanted)
    return found
