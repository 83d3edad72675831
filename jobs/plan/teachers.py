"""The teacher runs that a command asks for: from its options to tasks, checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from audio.clips import Corpus
from audio.errors import CorpusError, UnfitLength
from audio.parts import draw_parts
from audio.pools import list_foreign_pools, refuse_leaks
from jobs.plan.options import parse_splits
from jobs.plan.probes import ProbePlan, plan_probes
from jobs.plan.several import refuse_teachers_of_several
from jobs.plan.teacher_options import TeachersOptions, parse_length
from jobs.schedule.carry_out import find_stored
from jobs.schedule.task import AnyWork, Needs, Outcome, Task, make_names_unique
from jobs.worker.probes import FitProbe
from jobs.worker.train import FineTune, TrainingWork
from jobs.worker.where import PoolAt, Where, open_pool, read_corpus
from logit_store import LogitKey, LogitStore
from redact import strip_secrets
from teachers import TeacherRecipe, TeacherRun, UnfitClips, recipes
from teachers.backbones import LeakyBackbone, OnnxInput, UnknownBackbone
from teachers.private import PrivateWeights
from teachers.probes import find_wanted_teachers
from teachers.run import check_input, list_teacher_keys, make_teacher_key
from terminal.console import UserError, progress_bar

FIRST_SPLIT = 100
"""Split of the corpus of a first stage: all of it."""


@dataclass(frozen=True, slots=True)
class TeacherPlan:
    """All runs that the options ask for."""

    options: TeachersOptions
    corpus: Corpus
    store: LogitStore
    first_corpus: Corpus | None
    pools: dict[PoolAt, Corpus]
    """Other corpora that all teachers predict."""
    tasks: list[Task[FineTune]]
    """Runs on the corpus, the large splits first, because they take longest."""
    first: dict[LogitKey, Task[FineTune]]
    """Runs of first stages, by their keys."""
    probes: ProbePlan
    """Probes, which do not train a network."""

    def find_ready(self) -> list[Task[FineTune]]:
        """Return the tasks that do not wait for a first stage."""
        return [
            *self.first.values(),
            *(task for task in self.tasks if self._find_first(task) is None),
        ]

    def follow(self, outcome: Outcome[AnyWork]) -> list[Task[FineTune]]:
        """Return the tasks that can start once this one is done."""
        keys = outcome.task.keys
        if not keys or keys[0] not in self.first:
            return []
        return [task for task in self.tasks if self._find_first(task) == keys[0].member]

    def list_tasks(self) -> list[Task[FineTune]]:
        """Return first stages and all other tasks."""
        return [*self.first.values(), *self.tasks]

    def list_members(self) -> list[Task[FineTune | FitProbe]]:
        """Return the tasks of all teachers of the corpus: fine-tuned ones, then probes."""
        return [*self.tasks, *self.probes.tasks]

    def find_corpus(self, task: Task[TrainingWork]) -> Corpus:
        """Return the corpus that a task's model is trained on."""
        if self.first_corpus is not None and not self.first.keys().isdisjoint(task.keys):
            return self.first_corpus
        return self.corpus

    def find_missing(self) -> list[Task[FineTune]]:
        """Return the tasks that are not in the store."""
        tasks = self.list_tasks()
        states = find_stored(tasks, self.store)
        return [task for task, done in zip(tasks, states, strict=True) if not done]

    def with_needs(self, needs: dict[str, Needs]) -> "TeacherPlan":
        """Return the plan with the needs of some tasks, by their names."""
        first = {
            key: replace(task, needs=needs.get(task.name, task.needs))
            for key, task in self.first.items()
        }
        tasks = [replace(task, needs=needs.get(task.name, task.needs)) for task in self.tasks]
        return replace(self, tasks=tasks, first=first)

    @staticmethod
    def _find_first(task: Task[FineTune]) -> str | None:
        return task.work.teacher.start


def plan_teachers(options: TeachersOptions, corpus: Corpus, store: LogitStore) -> TeacherPlan:
    """Return all runs that the options ask for, checked as far as possible before they run.

    Raises:
        UserError: an option makes no sense.
        CorpusError: the corpus does not have a split, or a pool has clips that judge in it.
        UnfitLength, UnfitClips: a recipe's model does not take the corpus's clips.
    """
    wanted, splits = _find_recipes(options), parse_splits(options.splits)
    refuse_teachers_of_several(corpus, options.cross_fit, find_wanted_teachers(options.recipes))
    pools = _open_pools(options, corpus, splits)
    private = _find_private_weights(options)
    firsts = [recipe.first_stage for recipe in wanted if recipe.first_stage]
    first_corpus = _read_first_corpus(options, store, firsts) if firsts else None
    probes = _plan_probes(options, corpus, store, splits, pools)
    planned = TeacherPlan(options, corpus, store, first_corpus, pools, [], {}, probes)
    _check_corpus(corpus, wanted, splits)
    _check_shares(options, wanted)
    _check_parts(options, corpus, splits)
    for split in sorted(splits, reverse=True):
        for recipe in wanted:
            for seed in options.seeds:
                start = _plan_first(planned, recipe, seed)
                teacher = TeacherRun(
                    recipe=recipe,
                    split=split,
                    seed=seed,
                    protocol=options.protocol,
                    start=start,
                    cross_fit=options.cross_fit,
                    private_weights=None if recipe.first_stage else private,
                )
                planned.tasks.append(
                    _make_task(planned, teacher, corpus, options.make_where(store), pools)
                )
    return replace(planned, tasks=make_names_unique(planned.tasks))


def _plan_probes(
    options: TeachersOptions,
    corpus: Corpus,
    store: LogitStore,
    splits: Sequence[int],
    pools: Mapping[PoolAt, Corpus],
) -> ProbePlan:
    try:
        return plan_probes(
            options,
            find_wanted_teachers(options.recipes).probes,
            splits,
            corpus,
            store,
            n_views=options.views,
            n_learnt_views=options.probe_views,
            protocol=options.protocol,
            cross_fit=options.cross_fit,
            onnx=OnnxInput(sample_rate=options.onnx_rate, front_end=options.onnx_front_end),
            pools=pools,
        )
    except (UnknownBackbone, LeakyBackbone) as error:
        raise UserError(f"--recipes: {error}") from error


def _plan_first(planned: TeacherPlan, recipe: TeacherRecipe, seed: int) -> str | None:
    """Plan a recipe's first stage, once for all splits; return the member that it makes."""
    if recipe.first_stage is None or planned.first_corpus is None:
        return None
    options = planned.options
    teacher = TeacherRun(recipe=recipe.first_stage, split=FIRST_SPLIT, seed=seed)
    where = Where.of(options.first_corpus, options.first_root, planned.store)
    task = _make_task(planned, teacher, planned.first_corpus, where, {})
    planned.first[task.keys[0]] = task
    return task.keys[0].member


def _open_pools(
    options: TeachersOptions, corpus: Corpus, splits: Sequence[int]
) -> dict[PoolAt, Corpus]:
    """Open the pools, and make sure that none of their clips and recordings judges in a split."""
    opened = {at: open_pool(at, corpus.clip_duration_s) for at in map(PoolAt.of, options.pool)}
    pools = list_foreign_pools(opened.values())
    for split in splits:
        refuse_leaks(corpus, split, pools)
    return opened


def _make_task(
    planned: TeacherPlan,
    teacher: TeacherRun,
    corpus: Corpus,
    where: Where,
    pools: Mapping[PoolAt, Corpus],
) -> Task[FineTune]:
    options = planned.options
    n_gpus = options.gpus_per_teacher
    work = FineTune(
        teacher=teacher,
        where=where,
        responses=options.find_responses(),
        n_views=options.views,
        pools=tuple(pools),
        n_pool_clips=sum(map(len, pools.values())),
        n_gpus=n_gpus,
    )
    key = make_teacher_key(teacher, corpus, options.find_responses())
    names = [pool.name for pool in pools.values()]
    task = Task(teacher.name, work, list_teacher_keys(key, options.views, names))
    if n_gpus == 1:
        return task
    # The task itself only waits for the trainer that it starts, which reserves the GPUs.
    return replace(task, needs=Needs(cpus=0), occupies=Needs(cpus=n_gpus, gpus=n_gpus))


def _find_recipes(options: TeachersOptions) -> list[TeacherRecipe]:
    """Return the recipes with the changes of the options."""
    found = find_wanted_teachers(options.recipes).recipes
    return [_apply_options(recipe, options) for recipe in found]


def _find_private_weights(options: TeachersOptions) -> PrivateWeights | None:
    """Fetch --weights if their address holds secrets: then their hash names the results."""
    if options.weights is None or strip_secrets(options.weights) == options.weights:
        return None
    with progress_bar() as bar:
        shown = bar.add_task("weights", total=None)
        try:
            return PrivateWeights.of(
                options.weights,
                lambda done, total: bar.update(shown, completed=done, total=total),
            )
        except ValueError as error:
            raise UserError(f"--weights: {error}") from error


def _apply_options(recipe: TeacherRecipe, options: TeachersOptions) -> TeacherRecipe:
    changed = replace(recipe, training=options.limit_training(recipe.training))
    if options.weights is not None and recipe.first_stage is None:
        changed = replace(changed, weights=strip_secrets(options.weights))
    if options.length is not None:
        changed = replace(changed, length=parse_length(options.length))
    if recipe.first_stage is not None:
        first = replace(options, length=options.first_length)
        changed = replace(changed, first_stage=_apply_options(recipe.first_stage, first))
    return recipes.keep_as_published(changed) if options.protocol == "published" else changed


def _check_shares(options: TeachersOptions, wanted: Sequence[TeacherRecipe]) -> None:
    for recipe in wanted:
        if options.gpus_per_teacher > recipe.training.batch_size:
            raise UserError(
                f"--gpus-per-teacher {options.gpus_per_teacher}: {recipe.name} trains on "
                f"{recipe.training.batch_size} clips at a time, expected at least one a GPU"
            )


def _check_parts(options: TeachersOptions, corpus: Corpus, splits: Sequence[int]) -> None:
    """Make sure that there are recordings for all parts.

    Raises:
        UserError: there are not, or the protocol is the published one.
    """
    if options.cross_fit is None:
        return
    if options.protocol != "honest":
        raise UserError(
            f"--cross-fit {options.cross_fit}: leaves out parts of fit, and with --protocol "
            f"{options.protocol} teachers learn from select too: leave one of the two out"
        )
    for split in splits:
        try:
            draw_parts(corpus, split, options.cross_fit)
        except CorpusError as error:
            raise UserError(f"--cross-fit {options.cross_fit}: {error}") from error


def _read_first_corpus(
    options: TeachersOptions, store: LogitStore, firsts: Sequence[TeacherRecipe]
) -> Corpus:
    try:
        corpus = read_corpus(options.first_corpus, options.first_root, store)
        _check_corpus(corpus, firsts, (FIRST_SPLIT,))
    except (CorpusError, UnfitLength, UnfitClips) as error:
        names = ", ".join(sorted({recipe.name for recipe in firsts}))
        raise UserError(
            f"{names} cannot be trained on corpus {options.first_corpus}: {error}\nSee --first-corpus, "
            "--first-root and --first-length"
        ) from error
    return corpus


def _check_corpus(corpus: Corpus, wanted: Sequence[TeacherRecipe], splits: tuple[int, ...]) -> None:
    for split in splits:
        for fold in ("fit", "select"):
            corpus.rows(split, fold)
    for recipe in wanted:
        check_input(recipe, corpus)
