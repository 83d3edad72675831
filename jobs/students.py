"""Teach students from an ensemble's soft labels, or alone: recipes x splits x seeds as Ray tasks."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass, replace

from audio.clips import Corpus
from jobs import units
from jobs.cluster import cluster
from jobs.command import UserError, console, prepare, run
from jobs.fanout import Task
from jobs.learning import (
    LearningOptions,
    carry_out,
    chosen,
    named,
    show_members,
    show_plan,
)
from logit_store import LogitStore
from students import RECIPES, StudentRecipe, alone
from students.distill import student_key


@dataclass(frozen=True, kw_only=True)
class StudentsOptions(LearningOptions):
    """Options of the command."""

    recipes: tuple[str, ...] = ("isotropic",)
    """Names in students/recipes.py: isotropic, isotropic_ascdomain (as published),
    demo_isotropic."""
    ensemble: str | None = None
    """Ensemble to learn from: NAME@HASH, or NAME for the newest of that name; may be left out where
    a split has just one name."""
    no_teacher: bool = False
    """Learn from the labels alone: the baseline."""


def plan(
    options: StudentsOptions, corpus: Corpus, store: LogitStore, teachers: dict[int, str | None]
) -> list[Task]:
    """All runs that were asked for; `teachers` names each split's ensemble, None is alone."""
    recipes: list[StudentRecipe] = named(options.recipes, RECIPES, "student")
    tasks = []
    for split, ensemble in teachers.items():
        for recipe in recipes:
            shorter = replace(recipe, training=options.shortened(recipe.training))
            taught = shorter if ensemble else alone(shorter)
            for seed in options.seeds:
                key = student_key(taught, corpus, split, seed, options.responses(), ensemble)
                arguments = {
                    "where": options.where(store),
                    "recipe": taught,
                    "split": split,
                    "seed": seed,
                    "responses": options.responses(),
                    "ensemble_name": ensemble,
                }
                name = f"{taught.name} split {split} seed {seed}"
                tasks.append(Task(name, units.learn, arguments, (key,)))
    return tasks


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


def main(options: StudentsOptions) -> int:
    """Teach students from an ensemble's soft labels, or alone, and store their logits."""
    splits = chosen(options.splits)
    store = options.open_store()
    corpus = options.open_corpus(store)
    teachers: dict[int, str | None] = dict.fromkeys(splits)
    if not options.no_teacher:
        teachers |= find_ensembles(options, corpus.name, store)
    tasks = plan(options, corpus, store, teachers)
    if options.dry_run:
        show_plan(tasks, store)
        return 0
    prepare(corpus, store, {RECIPES[name].front_end.sample_rate for name in options.recipes})
    with cluster():
        went_well = carry_out(tasks, store, options.needs())
    show_members(tasks, store)
    console.print(f"next: python -m logit_store ls --store {store.address}")
    return 0 if went_well else 1


if __name__ == "__main__":
    run(main, StudentsOptions)
