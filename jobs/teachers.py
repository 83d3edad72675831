"""Fine-tune teachers: recipes x splits x seeds, each a Ray task, logits into the store."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass, replace
from typing import Literal

from audio.clips import Corpus
from jobs import units
from jobs.cluster import cluster
from jobs.command import console, prepare, run
from jobs.fanout import Task
from jobs.learning import (
    LearningOptions,
    carry_out,
    check_splits,
    named,
    show_members,
    show_plan,
)
from logit_store import LogitStore
from teachers import RECIPES
from teachers.finetune import teacher_key
from teachers.recipes import PUBLISHED


@dataclass(frozen=True, kw_only=True)
class TeachersOptions(LearningOptions):
    """Options of the command."""

    recipes: tuple[str, ...] = PUBLISHED
    """Names in teachers/recipes.py; demo_mn demo_dymn demo_passt demo_cpr need no GPU."""
    weights: Literal["published", "none"] = "published"
    """none: start recipes that begin with AudioSet weights from random ones instead."""


def plan(options: TeachersOptions, corpus: Corpus, store: LogitStore) -> list[Task]:
    """All runs that were asked for, the large splits first: they take longest."""
    check_splits(options.splits)
    recipes = named(options.recipes, RECIPES, "teacher")
    if options.weights == "none":
        recipes = [replace(recipe, weights=None) for recipe in recipes]
    tasks = []
    for split in sorted(options.splits, reverse=True):
        for fold in ("fit", "select"):
            corpus.rows(split, fold)
        for recipe in recipes:
            for seed in options.seeds:
                key = teacher_key(recipe, corpus, split, seed, options.responses())
                arguments = options.where(store) | {
                    "recipe": recipe,
                    "split": split,
                    "seed": seed,
                    "responses": options.responses(),
                }
                name = f"{recipe.name} split {split} seed {seed}"
                tasks.append(Task(name, units.teach, arguments, key))
    return tasks


def main(options: TeachersOptions) -> int:
    """Fine-tune teachers: recipes x splits x seeds, each a Ray task, logits into the store."""
    store = options.open_store()
    corpus = options.open_corpus(store)
    tasks = plan(options, corpus, store)
    if options.dry_run:
        show_plan(tasks, store)
        return 0
    rates = {RECIPES[name].front_end.sample_rate for name in options.recipes}
    prepare(corpus, store, rates)
    with cluster():
        went_well = carry_out(tasks, store, options.needs())
    show_members([task.key for task in tasks], store)
    console.print(
        f"next: python jobs/ensemble.py --corpus {options.corpus} --store {store.address}"
    )
    return 0 if went_well else 1


if __name__ == "__main__":
    run(main, TeachersOptions)
