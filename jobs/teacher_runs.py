"""Which teachers' runs a command asks for: from its options to tasks, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from audio.clips import Corpus, CorpusError
from audio.corpora import CorpusName
from audio.lengths import ClipLength, UnfitLength
from jobs import units
from jobs.command import UserError, Where, read_corpus
from jobs.fanout import Needs, Outcome, Task
from jobs.learning import LearningOptions, check_counts, chosen, done_of
from logit_store import LogitKey, LogitStore
from teachers import TeacherRecipe, TeacherRun, UnfitClips, recipes
from teachers.finetune import check_input, teacher_key
from training import Protocol, view_keys

FIRST_SPLIT = 100
"""Of the corpus of a first stage: all of it."""


@dataclass(frozen=True, kw_only=True)
class TeachersOptions(LearningOptions):
    """Options of the command."""

    recipes: tuple[str, ...] = ("all",)
    """Names in teachers/recipes.py, globs ('mn*_early'), timm:MODEL, or all: the 22 published.
    demo_mn demo_dymn demo_passt demo_cpr need no GPU."""
    weights: str | None = None
    """What all recipes start from: none (random weights), a file or an address; if not given,
    what each recipe says."""
    length: str | None = None
    """How clips become as long as the model takes them: native, crop:SECONDS, repeat:SECONDS or
    pad:SECONDS; if not given, what each recipe says."""
    views: int = 1
    """Store logits of so many views of each clip: view 0 is the untouched one, the others are
    changed at random, each always in the same way."""
    protocol: Protocol = "honest"
    """published: learn from the select clips too and let the test clips judge, as published; for
    comparison with publications only."""
    gpus_per_teacher: int = 1
    """Several GPUs teach one teacher together."""
    first_corpus: CorpusName = "cochlscene"
    """What recipes with a first stage (passt_sit, passt_sequential) learn first."""
    first_root: str | None = None
    """Folder or s3://BUCKET/PREFIX of that corpus."""
    first_length: str | None = None
    """As --length, of that corpus's clips."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All runs that were asked for."""

    options: TeachersOptions
    corpus: Corpus
    store: LogitStore
    first_corpus: Corpus | None
    tasks: list[Task]
    """Those of the corpus, the large splits first: they take longest."""
    first: dict[LogitKey, Task]
    """Runs of first stages, each with its key."""

    def ready(self) -> list[Task]:
        """What can be done at once."""
        return [
            *self.first.values(),
            *(task for task in self.tasks if self._first_of(task) is None),
        ]

    def follow(self, outcome: Outcome) -> list[Task]:
        """What can be done when this first stage is."""
        done = outcome.task.keys[0]
        if done not in self.first:
            return []
        return [task for task in self.tasks if self._first_of(task) == done.member]

    def everything(self) -> list[Task]:
        """First stages and what follows."""
        return [*self.first.values(), *self.tasks]

    def corpus_of(self, task: Task) -> Corpus:
        """What the task's teacher learns."""
        if self.first_corpus is not None and task.keys[0] in self.first:
            return self.first_corpus
        return self.corpus

    def to_do(self) -> list[Task]:
        """Those that are not in the store."""
        tasks = self.everything()
        states = done_of(tasks, self.store)
        return [task for task, done in zip(tasks, states, strict=True) if not done]

    def names(self) -> list[str]:
        """Of all tasks."""
        return [task.name for task in self.everything()]

    def with_needs(self, needs: dict[str, Needs]) -> "Plan":
        """The same, with the needs of some runs, by the name of their task."""
        first = {k: replace(task, needs=needs.get(task.name)) for k, task in self.first.items()}
        tasks = [replace(task, needs=needs.get(task.name)) for task in self.tasks]
        return replace(self, tasks=tasks, first=first)

    @staticmethod
    def _first_of(task: Task) -> str | None:
        return task.arguments["run"].start


def plan(options: TeachersOptions, corpus: Corpus, store: LogitStore) -> Plan:
    """All runs that were asked for, checked as far as can be without doing them.

    Raises:
        UserError: an option makes no sense.
        CorpusError: the corpus does not have a split.
        UnfitLength, UnfitClips: a recipe's model does not take the corpus's clips.
    """
    wanted, splits = _recipes(options), chosen(options.splits)
    check_counts(views=options.views, gpus_per_teacher=options.gpus_per_teacher)
    firsts = [recipe.first_stage for recipe in wanted if recipe.first_stage]
    first_corpus = _first_corpus(options, store, firsts) if firsts else None
    planned = Plan(options, corpus, store, first_corpus, [], {})
    _check_corpus(corpus, wanted, splits)
    _check_shares(options, wanted)
    for split in sorted(splits, reverse=True):
        for recipe in wanted:
            for seed in options.seeds:
                start = _plan_first(planned, recipe, seed)
                teacher = TeacherRun(
                    recipe=recipe, split=split, seed=seed, protocol=options.protocol, start=start
                )
                planned.tasks.append(_task(planned, teacher, corpus, options.where(store)))
    return planned


def _plan_first(planned: Plan, recipe: TeacherRecipe, seed: int) -> str | None:
    """Plan a recipe's first stage, once for all splits; the member that it becomes."""
    if recipe.first_stage is None or planned.first_corpus is None:
        return None
    options = planned.options
    teacher = TeacherRun(recipe=recipe.first_stage, split=FIRST_SPLIT, seed=seed)
    where = Where.of(options.first_corpus, options.first_root, planned.store)
    task = _task(planned, teacher, planned.first_corpus, where)
    planned.first[task.keys[0]] = task
    return task.keys[0].member


def _task(planned: Plan, teacher: TeacherRun, corpus: Corpus, where: Where) -> Task:
    options = planned.options
    key = teacher_key(teacher, corpus, options.responses())
    arguments = {
        "run": teacher,
        "where": where,
        "responses": options.responses(),
        "n_views": options.views,
        "n_gpus": options.gpus_per_teacher,
    }
    return Task(teacher.name, units.teach, arguments, view_keys(key, options.views))


def _recipes(options: TeachersOptions) -> list[TeacherRecipe]:
    """The recipes with what the options change of them."""
    try:
        found = recipes.find(options.recipes)
    except ValueError as error:
        raise UserError(str(error)) from error
    return [_changed(recipe, options) for recipe in found]


def _changed(recipe: TeacherRecipe, options: TeachersOptions) -> TeacherRecipe:
    changed = replace(recipe, training=options.shortened(recipe.training))
    if options.weights is not None and recipe.first_stage is None:
        changed = replace(changed, weights=options.weights)
    if options.length is not None:
        changed = replace(changed, length=_length(options.length))
    if recipe.first_stage is not None:
        first = replace(options, length=options.first_length)
        changed = replace(changed, first_stage=_changed(recipe.first_stage, first))
    return recipes.as_published(changed) if options.protocol == "published" else changed


def _length(text: str) -> ClipLength:
    """`native`, or `crop:7.25` and the like."""
    how, _, seconds = text.partition(":")
    try:
        return ClipLength(how=cast(Any, how), duration_s=float(seconds) if seconds else None)
    except ValueError as error:
        raise UserError(
            f"--length {text}: expected native, crop:SECONDS, repeat:SECONDS or pad:SECONDS"
        ) from error


def _check_shares(options: TeachersOptions, wanted: Sequence[TeacherRecipe]) -> None:
    for recipe in wanted:
        if options.gpus_per_teacher > recipe.training.batch_size:
            raise UserError(
                f"--gpus-per-teacher {options.gpus_per_teacher}: {recipe.name} learns "
                f"{recipe.training.batch_size} clips at a time, expected at least one a GPU"
            )


def _first_corpus(
    options: TeachersOptions, store: LogitStore, firsts: Sequence[TeacherRecipe]
) -> Corpus:
    try:
        corpus = read_corpus(options.first_corpus, options.first_root, store)
        _check_corpus(corpus, firsts, (FIRST_SPLIT,))
    except (CorpusError, UnfitLength, UnfitClips) as error:
        names = ", ".join(sorted({recipe.name for recipe in firsts}))
        raise UserError(
            f"{names} cannot learn corpus {options.first_corpus}: {error}\nSee --first-corpus, "
            "--first-root and --first-length"
        ) from error
    return corpus


def _check_corpus(corpus: Corpus, wanted: Sequence[TeacherRecipe], splits: tuple[int, ...]) -> None:
    for split in splits:
        for fold in ("fit", "select"):
            corpus.rows(split, fold)
    for recipe in wanted:
        check_input(recipe, corpus)
