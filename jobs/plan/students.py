"""The student runs that a command asks for and their teachers, checked before any work."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated

from audio.clips import Corpus
from audio.corpora import CorpusName
from audio.errors import CorpusError
from jobs.plan.features import plan_embeddings
from jobs.plan.options import (
    LearningOptions,
    PoolWords,
    Views,
)
from jobs.plan.pools import PlannedPool, check_pool_teachers, plan_pool
from jobs.plan.ram import find_ram
from jobs.plan.stages import (
    PlannedStudent,
    check_pruning,
    make_task,
    plan_first_corpus,
    plan_pruning,
    plan_student,
)
from jobs.schedule.task import Task, make_names_unique
from jobs.worker.teacher_logits import find_teaching_members
from jobs.worker.train import Distill
from jobs.worker.where import Where, read_corpus
from logit_store import LogitStore, MissingObject
from students import (
    RECIPES,
    StudentRecipe,
    UnfitPool,
    UnfitSoftLabels,
    check_teachers,
    drop_teachers,
)
from students.checks import refuse_pool
from students.complexity import MAX_BYTES, MAX_MACS, Precision
from students.out_of_fold import CROSS_FITTED_SHARE, trust_labels
from students.search_space import make_found_recipe
from students.stages import StartKind
from students.ways import AS_NAMED, apply_way, check_way, find_taught_word
from terminal.console import UserError, console
from terminal.values import Check, Line, Name, Reference, Root, Seeds, Size, expect, obey
from training.pool_use import PoolUse

COMPARED_SEEDS = (0, 1, 2, 3, 4)
"""This many seeds tell a gain from chance."""
SEARCH = "search:"


def _find_fault_of_recipe(name: str) -> str | None:
    if name in RECIPES:
        return None
    near = get_close_matches(name, RECIPES, n=3, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(RECIPES)}"
    return f"no student recipe {name}; {hint}"


def _find_fault_of_recipe_or_search(name: str) -> str | None:
    return None if name.startswith(SEARCH) else _find_fault_of_recipe(name)


@functools.lru_cache(maxsize=4)
def _read_first_corpus(name: CorpusName, root: str | None, store: LogitStore) -> Corpus:
    # Each recipe of a plan needs it, and a folder of a million files is slow to list.
    try:
        return read_corpus(name, root, store)
    except CorpusError as error:
        raise UserError(f"--first-corpus {name}: {error}; see --first-root") from error


PoolShare = Annotated[float, expect("a share above 0 and below 1", lambda value: 0 < value < 1)]
StudentRecipeName = Annotated[Line, Check(_find_fault_of_recipe)]


@dataclass(frozen=True, kw_only=True)
class StudentsOptions(LearningOptions):
    """Options of the command."""

    recipes: tuple[Annotated[Line, Check(_find_fault_of_recipe_or_search)], ...] = ("isotropic",)
    """Names in students/recipes.py: isotropic, isotropic_ascdomain (as published),
    dcase24_baseline, cp_mobile_2023, demo_isotropic and so on; search:NAME is the best that
    jobs/search.py found under that name."""
    ways: tuple[Annotated[Line, obey(check_way)], ...] = (AS_NAMED,)
    """How each recipe is trained: as_named, or changes of it, words of students/ways.py joined by +,
    as in dist+mixup=0.4, alone+rsc, views=4+soup."""
    seeds: Seeds = ()
    """One run per seed; 0, or with --compare 0 to 4, if not given."""
    views: Views = 1
    """Number of views whose logits are stored, so that the student can teach from views."""
    compare: bool = False
    """Train each recipe alone, taught by the best single teacher, by the ensemble, by the ensemble
    against the device discriminator, and from its views; print each one's accuracy on test and
    its gain over the first. With --pool, taught ones have the pool, beside one without."""
    ensemble: Reference | None = None
    """Ensemble that teaches: NAME@HASH, or NAME for the newest of that name; not needed if all
    ensembles of a split have the same name."""
    teacher: Name | None = None
    """Member that teaches instead, a teacher or another student, with or without its
    fingerprint; best is the ensemble of each split."""
    no_teacher: bool = False
    """Train on the labels alone: the baseline."""
    pool: PoolWords = ()
    """Learn from clips without labels too, by their soft labels: rest (the training clips that the
    split leaves out, whose labels are not read), unlabelled (clips of the corpus without a label), or
    CORPUS:ROOT (another corpus, which its teachers have predicted: jobs/teachers.py --pool)."""
    pool_share: PoolShare | None = None
    """Share of each batch that comes from the pool; if not given, its natural share: all clips are
    shuffled together."""
    first_pool: PoolWords = ()
    """Learn from the soft labels of these pools alone first, words as for --pool; then from the corpus,
    and from --pool if it is given."""
    first_corpus: CorpusName | None = None
    """Learn another corpus by its labels first: all of it, with a classifier of its own; then --corpus."""
    first_root: Root | None = None
    """Folder or s3://BUCKET/PREFIX of that corpus."""
    per_device: bool = False
    """After the training, fine-tune a copy of the student for each recording device of the fit clips, with
    the student as its teacher (DCASE 2025). The member NAME_per_device predicts each clip with the network
    of its device, and clips of other devices with the student itself."""
    prune_to: Size | None = None
    """After the training, take channels out of the student until its parameters take at most this many
    bytes at --precision: an eighth of them at a time at most, with soft labels between. Only the pruned
    student has to be within --max-macs, --max-bytes and --max-ram."""
    precision: Precision = "int8"
    """Precision of the parameters when the student is used, for --max-bytes and --prune-to."""
    max_macs: Size = MAX_MACS
    """Refuse students with more multiply-accumulates a clip."""
    max_bytes: Size = MAX_BYTES
    """Refuse students whose parameters take more bytes."""
    max_ram: Size | None = None
    """Refuse students that need more bytes of RAM on a device in int8, the peak of the memory plan of
    their C program without its front-end: 256000; no limit if not given."""

    def open_first_corpus(self, store: LogitStore) -> Corpus | None:
        """Read the corpus of a first stage, if there is one."""
        if self.first_corpus is None:
            return None
        return _read_first_corpus(self.first_corpus, self.first_root, store)

    def find_seeds(self) -> tuple[int, ...]:
        """Return the seeds of the options, or the usual ones."""
        return self.seeds or (COMPARED_SEEDS if self.compare else (0,))


def plan_students(
    options: StudentsOptions, corpus: Corpus, store: LogitStore, teachers: dict[int, str | None]
) -> list[Task[Distill]]:
    """Return all runs that the options ask for; `teachers` names each split's teacher, or None.

    Raises:
        UserError: a way contradicts itself or the recipe, or a student is over the budget or does
            not fit its teacher.
    """
    recipes = find_student_recipes(options, store)
    return make_names_unique(
        task
        for split, taught_by in teachers.items()
        for recipe in recipes
        for task in plan_recipe(options, corpus, store, recipe, split, taught_by)
    )


def check_pool_options(options: StudentsOptions, store: LogitStore) -> None:
    """Refuse options for pools that no student would learn from.

    Raises:
        UserError: they contradict each other, or nobody teaches.
    """
    words = " ".join([*options.pool, *options.first_pool])
    if options.pool_share is not None and not options.pool:
        raise UserError(
            f"--pool-share {options.pool_share:g}: there is no pool; say which: --pool rest"
        )
    if not words:
        return
    option = "--pool" if options.pool else "--first-pool"
    recipes = find_student_recipes(options, store)
    if options.no_teacher or not (options.compare or any(each.distillation for each in recipes)):
        raise UserError(
            f"{option} {words}: clips without labels teach by the soft labels of teachers, and no student "
            "here has any: leave out the pool, or --no-teacher and the way alone"
        )


def find_student_recipes(options: StudentsOptions, store: LogitStore) -> list[StudentRecipe]:
    """Return the recipes that the options ask for, in all their ways.

    Raises:
        UserError: there is no such recipe, search or way, or a way contradicts a recipe or --no-teacher.
    """
    for way in options.ways if options.no_teacher else ():
        if taught := find_taught_word(way):
            raise UserError(
                f"--ways {way} with --no-teacher: {taught} is how soft labels teach, and nobody teaches; leave "
                "out one of the two"
            )
    return [
        parse_way(_find_recipe(name, store), way)
        for name in options.recipes
        for way in options.ways
    ]


def _find_recipe(name: str, store: LogitStore) -> StudentRecipe:
    if not name.startswith(SEARCH):
        return RECIPES[name]
    search = name.removeprefix(SEARCH)
    try:
        return make_found_recipe(store.objects.read_json(f"search/v1/{search}/result.json"))
    except KeyError as error:
        raise UserError(
            f"--recipes {name}: its result has no {error}: it was not a search"
        ) from error
    except (MissingObject, ValueError) as error:
        raise UserError(f"--recipes {name}: {error}; see python jobs/search.py --help") from error


def parse_way(recipe: StudentRecipe, way: str) -> StudentRecipe:
    """Return the recipe changed to a way of `students.ways`.

    Raises:
        UserError: there is no such way, or it contradicts the recipe.
    """
    try:
        return apply_way(recipe, way)
    except ValueError as error:
        raise UserError(f"--ways: {error}") from error


def plan_recipe(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    taught_by: str | None,
) -> list[Task[Distill]]:
    """Plan the runs of one recipe on one split, one per seed.

    Raises:
        UserError: it is over the budget, or does not fit its teacher.
    """
    if options.prune_to is None:
        _check_budget(options, corpus, recipe)
    shorter = replace(recipe, training=options.limit_training(recipe.training))
    if taught_by is None and shorter.distillation is not None:
        shorter = drop_teachers(shorter)
    if shorter.distillation is None:
        taught_by, options = None, _drop_pools(options, shorter, split)
    if taught_by is not None:
        _check_teachers(options, corpus, store, shorter, split, taught_by)
        shorter = _trust_labels(corpus, store, shorter, split, taught_by)
    if options.prune_to is not None:
        # Before the memory plan of a student that cannot be pruned, which takes seconds.
        check_pruning(shorter, options.prune_to)
    natural, alone = PoolUse(share=options.pool_share), PoolUse(alone=True)
    how = options, corpus, store, shorter, split, taught_by
    ram = find_ram(recipe, corpus)
    pool = _plan_pool(*how, options.pool, natural)
    first_pool = _plan_pool(*how, options.first_pool, alone)
    first_corpus = options.open_first_corpus(store)
    embeddings = plan_embeddings(*how, (pool, first_pool))
    works = (
        Distill(
            recipe=shorter,
            where=options.make_where(store),
            split=split,
            seed=seed,
            responses=options.find_responses(),
            taught_by=taught_by,
            n_views=options.views,
            ram=ram,
            embeddings=embeddings,
        )
        for seed in options.find_seeds()
    )
    return [
        _make_task(options, corpus, work, pool, first_pool, first_corpus, store) for work in works
    ]


def _drop_pools(options: StudentsOptions, recipe: StudentRecipe, split: int) -> StudentsOptions:
    """Return the options without pools, for a student without teachers, and say so."""
    if not (options.pool or options.first_pool):
        return options
    console.print(
        f"{recipe.name} split {split} learns from labels alone, so without the pool", markup=False
    )
    return replace(options, pool=(), pool_share=None, first_pool=())


def _make_task(
    options: StudentsOptions,
    corpus: Corpus,
    work: Distill,
    pool: PlannedPool | None,
    first_pool: PlannedPool | None,
    first_corpus: Corpus | None,
    store: LogitStore,
) -> Task[Distill]:
    """Add the stages before and after a run to it, and name it and its logits."""
    before: PlannedStudent | None = None
    kind: StartKind = "pool"
    if first_corpus is not None and options.first_corpus is not None:
        where = Where.of(options.first_corpus, options.first_root, store)
        before, kind = plan_first_corpus(work, corpus, first_corpus, where), "corpus"
    elif first_pool is not None:
        recipe = replace(work.recipe, name=f"{work.recipe.name}_first")
        before = plan_student(replace(work, recipe=recipe, n_views=1), corpus, first_pool)
    if options.prune_to is not None:
        work = replace(work, n_views=1)
    planned = plan_student(work, corpus, pool, before, kind)
    if options.prune_to is not None:
        planned = plan_pruning(planned, corpus, pool, options.prune_to, options.precision)
        planned = replace(planned, work=replace(planned.work, n_views=options.views))
        _check_budget(options, corpus, planned.work.recipe)
    return make_task(planned)


def _plan_pool(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    taught_by: str | None,
    words: Sequence[str],
    use: PoolUse,
) -> PlannedPool | None:
    """Open pools that a recipe can learn from, and that its teachers have predicted."""
    if not words or taught_by is None:
        return None
    try:
        refuse_pool(recipe)
    except UnfitPool as error:
        raise UserError(f"--pool: {error}") from error
    planned = plan_pool(words, use, corpus, split)
    if planned is not None:
        check_pool_teachers(options, corpus, store, recipe, split, taught_by, planned)
    return planned


def _trust_labels(
    corpus: Corpus, store: LogitStore, recipe: StudentRecipe, split: int, taught_by: str
) -> StudentRecipe:
    """Return the recipe with more of the true labels if a teacher is cross-fitted, and say so."""
    members = find_teaching_members(store, corpus.name, split, taught_by)
    footers = store.read_footers(members)
    found = trust_labels(recipe, [footer.record for footer in footers.values()])
    if found != recipe:
        console.print(
            f"{recipe.name}, split {split}: {taught_by} is cross-fitted and not always right about "
            f"labelled clips, so {CROSS_FITTED_SHARE:.0%} of the loss is their labels'; --ways "
            "labels=0.5 chooses another share",
            markup=False,
        )
    return found


def _check_teachers(
    options: StudentsOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    taught_by: str,
) -> None:
    members = find_teaching_members(store, corpus.name, split, taught_by)
    try:
        check_teachers(recipe, corpus, split, members, store, options.find_responses())
    except UnfitSoftLabels as error:
        raise UserError(f"{taught_by}: {error}") from error


def _check_budget(options: StudentsOptions, corpus: Corpus, recipe: StudentRecipe) -> None:
    """Refuse a student over the budget before anything runs: training does not make it smaller."""
    # It builds the student, and so needs torch, which takes seconds to import.
    from students.distill import check_recipe

    try:
        check_recipe(
            recipe,
            corpus,
            precision=options.precision,
            max_macs=options.max_macs,
            max_bytes=options.max_bytes,
            max_ram=options.max_ram,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
