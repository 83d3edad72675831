"""Fine-tune teachers: recipes x splits x seeds, each a Ray task, logits into the store."""

if not __package__:
    import _root  # noqa: F401

from functools import partial

from jobs.command import REPORT, run
from jobs.plan.dry_run import show_plan
from jobs.plan.estimates import plan_spending
from jobs.plan.members import show_members
from jobs.plan.probe_estimates import expect_probes
from jobs.plan.probes import ProbeSteps
from jobs.plan.provision import (
    check_weights_files,
    limit_in_flight,
    measure_needs,
    prepare_teachers,
)
from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import TeacherPlan, plan_teachers
from jobs.schedule.carry_out import carry_out, print_if_all_stored
from jobs.schedule.cluster import connect
from terminal.console import UserError, console, repeat_command, say_next


def main(options: TeachersOptions) -> int:
    """Fine-tune teachers: recipes x splits x seeds, each a Ray task, logits into the store.

    What is in the store is not done again, so that after any interruption the same command continues.

    Example:
        python jobs/teachers.py --recipes demo_mn demo_cpr --splits 25 100
    """
    store = options.open_store()
    planned = plan_teachers(options, options.open_corpus(store), store)
    _refuse_idle_options(planned)
    if options.protocol == "published":
        console.print(
            "[red]published protocol: the test clips judge; only to compare with publications[/red]"
        )
    if options.dry_run:
        check_weights_files(planned.find_missing())
        show_plan(planned.list_tasks(), store, planned.find_corpus, options, planned.probes)
        say_next(repeat_command(less="--dry-run"))
        return 0
    went_well = carry_out_plan(planned)
    show_members([*planned.first.values(), *planned.list_members()], store)
    if not went_well:
        say_next(repeat_command())
        return 1
    protocol = [] if options.protocol == "honest" else ["--protocol", options.protocol]
    say_next(
        ["python", "jobs/ensemble.py", *options.list_data_options(), *protocol],
        [*REPORT, *options.list_data_options()],
    )
    return 0


def _refuse_idle_options(planned: TeacherPlan) -> None:
    """Refuse options of fine-tuning where nothing is fine-tuned.

    Raises:
        UserError: there is one.
    """
    options = planned.options
    given = {
        "--weights": options.weights,
        "--length": options.length,
        "--epochs": options.epochs,
        "--max-steps": options.max_steps,
    }
    idle = [name for name, value in given.items() if value is not None]
    if idle and not planned.tasks:
        raise UserError(
            f"{' '.join(idle)}: nothing here is fine-tuned, and a probe is fitted to the end, on what its "
            "networks say of whole clips: leave it out"
        )


def carry_out_plan(planned: TeacherPlan) -> bool:
    """Carry out the tasks that are not in the store; return whether all succeeded."""
    if print_if_all_stored([*planned.first.values(), *planned.list_members()], planned.store):
        return True
    planned.options.check_fit_here()
    to_do = planned.find_missing()
    prepare_teachers(planned, to_do)
    with connect() as workers:
        timeout_s = planned.options.find_timeout_s(workers)
        needs = planned.options.find_needs(workers)
        planned, steps = measure_needs(planned, to_do, workers, needs)
        spending = plan_spending(
            planned.options,
            planned.list_tasks(),
            planned.store,
            planned.find_corpus,
            workers,
            needs,
            steps,
            partial(expect_probes, planned.probes, planned.store, needs),
        )
        probing = ProbeSteps(
            planned.probes, planned.store, needs, workers.find_largest_memory_bytes()
        )
        return carry_out(
            [*probing.find_ready(), *planned.find_ready()],
            planned.store,
            workers,
            needs,
            then=lambda outcome: [*planned.follow(outcome), *probing.follow(outcome)],
            in_flight=limit_in_flight(planned.options, workers),
            spending=spending,
            timeout_s=timeout_s,
        )


if __name__ == "__main__":
    run(main, TeachersOptions)
