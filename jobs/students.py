"""Train students, taught by an ensemble or alone: recipes x ways x splits x seeds."""

if not __package__:
    import _root  # noqa: F401

from jobs.command import REPORT, run
from jobs.plan.comparison import Comparison
from jobs.plan.dry_run import show_plan
from jobs.plan.members import find_best_member, show_device_gains, show_members
from jobs.plan.next_steps import make_export_command
from jobs.plan.stage_options import check_stage_options, plan_device_runs
from jobs.plan.stages import FirstRuns
from jobs.plan.students import (
    StudentsOptions,
    check_pool_options,
    find_student_recipes,
    plan_students,
)
from jobs.plan.taught_by import find_teachers
from jobs.plan.training_runs import carry_out_runs
from terminal.console import repeat_command, say_next


def main(options: StudentsOptions) -> int:
    """Train students, taught by an ensemble or alone: recipes x ways x splits x seeds.

    A student over the budget of the DCASE challenge is refused before anything runs.

    Example:
        python jobs/students.py --recipes tiny_isotropic --splits 25 --seeds 0 1 2
    """
    store = options.open_store()
    corpus = options.open_corpus(store)
    check_pool_options(options, store)
    check_stage_options(options)
    compared = Comparison.plan(options, corpus, store) if options.compare else None
    if compared is None:
        students = plan_students(options, corpus, store, find_teachers(options, corpus.name, store))
        tasks = plan_device_runs(options, students, corpus) if options.per_device else students
    else:
        tasks = compared.list_tasks()
    first = FirstRuns.of(tasks, corpus, options.open_first_corpus(store))
    if options.dry_run:
        show_plan([*first.tasks, *tasks], store, first.find_corpus, options)
        say_next(repeat_command(less="--dry-run"))
        return 0
    rates = {recipe.front_end.sample_rate for recipe in find_student_recipes(options, store)}
    went_well = carry_out_runs(options, tasks, corpus, store, rates, first)
    show_members(tasks, store)
    show_device_gains(tasks, corpus, store)
    if compared is not None and went_well:
        compared.show(corpus, store)
    if not went_well:
        say_next(repeat_command())
        return 1
    say_next(
        make_export_command(options, find_best_member(tasks, store)),
        [*REPORT, *options.list_data_options()],
    )
    return 0


if __name__ == "__main__":
    run(main, StudentsOptions)
