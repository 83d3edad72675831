"""Teach students from an ensemble's soft labels, or alone: recipes x ways x splits x seeds."""

if not __package__:
    import _root  # noqa: F401

from jobs.cluster import cluster
from jobs.command import REPORT, again, prepare, run, say_next
from jobs.comparison import Comparison
from jobs.estimates import spending_of
from jobs.learning import best_member, carry_out, show_members
from jobs.plans import show_plan
from jobs.student_runs import (
    StudentsOptions,
    export_command,
    find_teachers,
    plan,
    recipes_of,
)


def main(options: StudentsOptions) -> int:
    """Teach students from an ensemble's soft labels, or alone: recipes x ways x splits x seeds.

    A student over the budget of the DCASE challenge is refused before anything runs.

    Example:
        python jobs/students.py --recipes demo_isotropic --splits 100 --seeds 0 1 2
    """
    store = options.open_store()
    corpus = options.open_corpus(store)
    compared = Comparison.plan(options, corpus, store) if options.compare else None
    if compared is None:
        tasks = plan(options, corpus, store, find_teachers(options, corpus.name, store))
    else:
        tasks = compared.tasks()
    if options.dry_run:
        show_plan(tasks, store, lambda task: corpus, options)
        say_next(again(less="--dry-run"))
        return 0
    rates = {recipe.front_end.sample_rate for recipe in recipes_of(options, store)}
    prepare(corpus, store, rates)
    with cluster():
        needs = options.needs()
        spending = spending_of(options, tasks, store, lambda task: corpus, needs)
        went_well = carry_out(tasks, store, needs, spending=spending)
    show_members(tasks, store)
    if compared is not None and went_well:
        compared.show(corpus, store)
    if not went_well:
        say_next(again())
        return 1
    say_next(export_command(options, best_member(tasks, store)), [*REPORT, *options.data()])
    return 0


if __name__ == "__main__":
    run(main, StudentsOptions)
