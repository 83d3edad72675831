"""Teach students from an ensemble's soft labels, or alone: recipes x ways x splits x seeds."""

if not __package__:
    import _root  # noqa: F401

from jobs.cluster import cluster
from jobs.command import console, prepare, run
from jobs.comparison import Comparison
from jobs.estimates import spending_of
from jobs.learning import carry_out, show_members
from jobs.plans import show_plan
from jobs.student_runs import StudentsOptions, find_teachers, plan, recipes_of


def main(options: StudentsOptions) -> int:
    """Teach students from an ensemble's soft labels, or alone: recipes x ways x splits x seeds."""
    store = options.open_store()
    corpus = options.open_corpus(store)
    compared = Comparison.plan(options, corpus, store) if options.compare else None
    if compared is None:
        tasks = plan(options, corpus, store, find_teachers(options, corpus.name, store))
    else:
        tasks = compared.tasks()
    if options.dry_run:
        show_plan(tasks, store, lambda task: corpus, options)
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
    console.print(f"next: python -m logit_store ls --store {store.address}", markup=False)
    return 0 if went_well else 1


if __name__ == "__main__":
    run(main, StudentsOptions)
