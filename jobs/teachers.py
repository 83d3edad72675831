"""Fine-tune teachers: recipes x splits x seeds, each a Ray task, logits into the store."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Sequence
from dataclasses import replace

from jobs.cluster import cluster, gpus_in_cluster
from jobs.command import (
    REPORT,
    UserError,
    again,
    console,
    prepare,
    progress_bar,
    run,
    say_next,
)
from jobs.estimates import memory_needs, spending_of, steps_on_cluster, works_of
from jobs.fanout import IN_FLIGHT, Needs, Task
from jobs.learning import carry_out, show_members
from jobs.plans import show_plan
from jobs.teacher_runs import Plan, TeachersOptions, plan
from logit_store import LogitStore
from teachers import TeacherRecipe, build, fetch_weights
from training.dry_step import DryStep


def main(options: TeachersOptions) -> int:
    """Fine-tune teachers: recipes x splits x seeds, each a Ray task, logits into the store.

    What is in the store already is not done again: whatever ends it, the same command goes on.

    Example:
        python jobs/teachers.py --recipes demo_mn demo_cpr --splits 25 100
    """
    store = options.open_store()
    planned = plan(options, options.open_corpus(store), store)
    if options.protocol == "published":
        console.print("[red]published protocol: the test clips judge; for comparison only[/red]")
    if options.dry_run:
        show_plan(planned.everything(), store, planned.corpus_of, options)
        say_next(again(less="--dry-run"))
        return 0
    went_well = carry_out_all(planned)
    show_members(planned.everything(), store)
    if not went_well:
        say_next(again())
        return 1
    protocol = [] if options.protocol == "honest" else ["--protocol", options.protocol]
    say_next(["python", "jobs/ensemble.py", *options.data(), *protocol], [*REPORT, *options.data()])
    return 0


def carry_out_all(planned: Plan) -> bool:
    """Do what is not in the store; whether all went well. Starts nothing if nothing is to do."""
    to_do = planned.to_do()
    if not to_do:
        n_runs = len(planned.everything())
        console.print(f"{n_runs} of {n_runs} runs are in the store already")
        return True
    prepare_all(planned, to_do)
    with cluster():
        needs = planned.options.needs()
        planned, steps = measured(planned, to_do, needs)
        spending = spending_of(
            planned.options,
            planned.everything(),
            planned.store,
            planned.corpus_of,
            needs,
            steps,
        )
        return carry_out(
            planned.ready(),
            planned.store,
            needs,
            then=planned.follow,
            in_flight=in_flight(planned.options),
            spending=spending,
        )


def prepare_all(planned: Plan, to_do: Sequence[Task]) -> None:
    """Decode what the runs learn from, and fetch and try what they start from, before any of them.

    Raises:
        BrokenAudio: some clips cannot be read.
        WeightsError: some weights are not to be had, or are not their model's.
    """
    for corpus in filter(None, (planned.corpus, planned.first_corpus)):
        rates = {
            task.arguments["run"].recipe.front_end.sample_rate
            for task in planned.everything()
            if planned.corpus_of(task) is corpus
        }
        prepare(corpus, planned.store, rates)
    runs = [task.arguments["run"] for task in to_do]
    starting = {
        (run.recipe.model, run.recipe.weights): run.recipe
        for run in runs
        if run.start is None and run.recipe.weights != "none"
    }
    for recipe in starting.values():
        _try_weights(recipe, len(planned.corpus.scenes), planned.store)


def _try_weights(recipe: TeacherRecipe, n_classes: int, store: LogitStore) -> None:
    """Fetch what a recipe starts from, with a bar, and load it once."""
    with progress_bar() as bar:
        shown = bar.add_task(f"weights of {recipe.model}", total=None)

        def show(done: int, total: int | None) -> None:
            bar.update(shown, completed=done, total=total)

        fetch_weights(recipe.model, recipe.weights, store, show)
    build(
        recipe.model,
        n_classes=n_classes,
        weights=recipe.weights,
        store=store,
        **recipe.arguments,
    )


def in_flight(options: TeachersOptions) -> int:
    """How many runs are submitted at once to the connected cluster.

    Raises:
        UserError: it has fewer GPUs than one teacher shall have.
    """
    if options.gpus_per_teacher == 1:
        return IN_FLIGHT
    there = gpus_in_cluster()
    if options.gpus_per_teacher > there:
        raise UserError(
            f"--gpus-per-teacher {options.gpus_per_teacher}: the cluster has {there:g} GPUs; "
            "start it with more (cluster/), or leave the option out"
        )
    # A run that waits for its GPUs keeps processes of its own waiting: one, not all of them.
    return int(min(IN_FLIGHT, 1 + there // options.gpus_per_teacher))


def measured(planned: Plan, to_do: Sequence[Task], needs: Needs) -> tuple[Plan, dict[str, DryStep]]:
    """The plan with what each run needs of a machine, as far as a measurement tells more.

    Returns:
        The plan, and the dry steps that were taken on GPUs, by the name of their kind.

    Raises:
        UserError: a dry step failed.
    """
    options = planned.options
    if options.gpus_per_teacher > 1:
        # Such a task only waits: the trainer that it starts reserves the GPUs.
        return planned.with_needs(dict.fromkeys(planned.names(), Needs(cpus=0))), {}
    if needs.gpus and options.gpus_per_run is not None:
        return planned, {}
    works = works_of(to_do, planned.store, planned.corpus_of)
    kinds = {name: work.kind for name, work in works.items()}
    if not needs.gpus:
        return planned.with_needs(memory_needs(kinds, needs)), {}
    steps = steps_on_cluster({kind.name: kind for kind in kinds.values()}, needs)
    shares = {name: steps[kind.name].gpu_share or needs.gpus for name, kind in kinds.items()}
    needed = {name: replace(needs, gpus=share) for name, share in shares.items()}
    return planned.with_needs(needed), steps


if __name__ == "__main__":
    run(main, TeachersOptions)
