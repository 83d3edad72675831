"""Search for a student's architecture and recipe, or for the ensemble that teaches it best."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from rich.table import Table

from audio.clips import Corpus
from jobs.command import run
from jobs.log.watcher import Watcher
from jobs.plan.several import refuse_several
from jobs.plan.taught_by import find_teachers
from jobs.schedule.cluster import connect
from jobs.schedule.job_log import JobLog
from jobs.trials.estimates import plan_trial_spending, show_trials
from jobs.trials.journal import ENDED, Journal, Trial, TrialState, describe_point
from jobs.trials.options import SearchOptions
from jobs.trials.proposals import Grid, Proposals, Sampler, generate_trials
from jobs.trials.race import race
from jobs.worker.where import prepare
from logit_store import LogitStore, fingerprint
from students.keys import make_student_key
from students.search_space import Range, SearchSpace, Value, find_space
from terminal.console import UserError, console, progress_bar, repeat_command, say_next
from terminal.tables import build_table

DEFAULT_TRIALS = 50
TRIALS_SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPlan:
    """A search with checked options."""

    name: str
    identity: dict[str, Any]
    """Everything that decides which trials it has, and their results."""
    space: SearchSpace
    sampler: Sampler
    seed: int
    taught_by: str | None
    n_trials: int | None
    """Number of trials to train in all; None is all points of a grid."""
    make_trial: Callable[[dict[str, Value]], Trial]
    """Makes the trial of a point."""

    def list_trials(self) -> list[Trial]:
        """Return the trials of all points, or if the space has ranges, of all other combinations."""
        with progress_bar() as bar:
            points = bar.track(self.space.list_points(), description="costs of students")
            return [self.make_trial(point) for point in points]


def plan_search(options: SearchOptions, corpus: Corpus, store: LogitStore) -> SearchPlan:
    """Plan the search that the options ask for.

    Raises:
        UserError: an option makes no sense; the message says why.
    """
    if options.seeds is not None and len(options.seeds) != 1:
        raise UserError(f"--seeds {options.seeds}: a search takes one, a race several")
    (seed,) = options.seeds or (0,)
    space, taught_by = _find_space_and_teacher(options, corpus, store)
    sampler = options.sampler or ("grid" if space.is_finite else "optuna")
    if sampler == "grid" and not space.is_finite:
        raise UserError(f"--sampler grid: space {space.name} has ranges, and cannot be listed")
    identity = options.identify_search(corpus, space) | {
        "taught_by": taught_by,
        "seed": seed,
        "sampler": sampler,
        "halving": options.halving,
        "precision": options.precision,
        "max_macs": options.max_macs,
        "max_bytes": options.max_bytes,
    }
    # What is not asked for is not in the name: searches of before this limit keep theirs.
    if options.max_ram is not None:
        identity["max_ram"] = options.max_ram
    limits = options.make_student_limits(corpus)

    def make_trial(point: dict[str, Value]) -> Trial:
        return limits.make_trial(space.make_recipe(point), point, taught_by, seed)

    try:
        make_trial(space.list_points()[0])
    except ValueError as error:
        raise UserError(str(error)) from error
    return SearchPlan(
        name=options.name or f"{space.name}-{fingerprint(identity)}",
        identity=identity,
        space=space,
        sampler=sampler,
        seed=seed,
        taught_by=taught_by,
        n_trials=options.trials or (None if sampler == "grid" else DEFAULT_TRIALS),
        make_trial=make_trial,
    )


def _find_space_and_teacher(
    options: SearchOptions, corpus: Corpus, store: LogitStore
) -> tuple[SearchSpace, str | None]:
    students = options.as_students()
    try:
        space = find_space(options.space, options.recipe)
        taught_by = None
        if space.base.distillation or options.ensemble or options.teacher:
            taught_by = find_teachers(students, corpus.name, store)[options.split]
        if taught_by is None:
            space = space.drop_teachers()
        make_student_key(space.base, corpus, options.split, 0, students.find_responses(), taught_by)
    except ValueError as error:
        raise UserError(str(error)) from error
    return space, taught_by


def main(options: SearchOptions) -> int:
    """Search for a student's architecture and recipe, or for the ensemble that teaches it best.

    Example:
        python jobs/search.py --split 25 --no-teacher --trials 5 --epochs 2
    """
    store = options.open_store()
    corpus = options.open_corpus(store)
    why = (
        "a search is judged by the accuracy of one label a clip: train the recipes that you compare"
    )
    refuse_several(corpus, "search", why)
    if options.race_ensembles is not None:
        return race(options, corpus, store, options.race_ensembles)
    planned = plan_search(options, corpus, store)
    if options.dry_run:
        n_trials = show_space(plan_without_ram(planned, options, corpus, store))
        show_trials(n_trials, planned.space.base, corpus, store, options)
        say_next(repeat_command(less="--dry-run"))
        return 0
    Watcher(store).refuse_second(planned.name)
    journal = Journal(store, planned.name, planned.identity)
    proposals, n_wanted = make_proposals(planned, journal)
    n_left, was_enough = n_wanted - len(journal.find_trials(*ENDED)), True
    if n_left < n_wanted:
        console.print(f"{n_wanted - n_left} of {n_wanted} trials are done already")
    if n_left > 0:
        options.as_students().check_fit_here()
        prepare(corpus, store, {planned.space.base.front_end.sample_rate})
        trials = generate_trials(journal, proposals, planned.make_trial, n_wanted)
        was_enough = _carry_out_search(
            options, corpus, store, planned, journal, trials, n_left, proposals.learn_from
        )
    show_found(store, planned, journal)
    n_ended = len(journal.find_trials(*ENDED))
    if n_ended < n_wanted and was_enough and not journal.find_trials("failed"):
        console.print(
            f"no other point that is small enough was found: there are {n_ended} trials in all"
        )
    if any(trial.is_judged for trial in journal.trials.values()):
        say_next(options.make_full_length_command(f"search:{planned.name}", planned.taught_by))
    return 0 if n_ended >= n_wanted else 1


def _carry_out_search(
    options: SearchOptions,
    corpus: Corpus,
    store: LogitStore,
    planned: SearchPlan,
    journal: Journal,
    trials: Iterator[Trial],
    n_trials: int,
    on_end: Callable[[Trial], None],
) -> bool:
    """Carry out trials on workers; return whether the budget was enough for all."""
    # Tune takes seconds to import, and a plan does not need it.
    from jobs.trials.tune import carry_out_trials

    base = planned.space.base
    with connect(needs_ray=True) as workers, JobLog(store, search=planned.name) as log:
        needs = options.as_students().find_needs(workers)
        return carry_out_trials(
            trials,
            n_trials,
            options.make_trial_settings(store, journal.name, planned.space),
            journal,
            needs,
            log,
            halving=options.halving,
            timeout_s=options.find_timeout_s(workers),
            spending=plan_trial_spending(base, corpus, store, options, workers, needs),
            on_end=on_end,
        )


def make_proposals(planned: SearchPlan, journal: Journal) -> tuple[Proposals, int]:
    """Return what suggests the points, and the number of trials to train in all.

    Raises:
        UserError: all points of a grid are over the budget.
    """
    if planned.sampler != "grid":
        # Optuna takes a second to import, and a grid does not need it.
        from jobs.trials.sampled import Sampled

        ended = journal.find_trials(*ENDED, "over_budget")
        sampled = Sampled(planned.space, planned.sampler, planned.seed, ended)
        return sampled, planned.n_trials or DEFAULT_TRIALS
    listed = planned.list_trials()
    over = [trial for trial in listed if trial.state == "over_budget"]
    n_affordable = len(listed) - len(over)
    if not n_affordable:
        raise UserError(f"all {len(listed)} points are over the budget: {over[0].error}")
    journal.add(*(trial for trial in over if trial.id not in journal.trials))
    return Grid(planned.space), min(planned.n_trials or n_affordable, n_affordable)


def plan_without_ram(
    planned: SearchPlan, options: SearchOptions, corpus: Corpus, store: LogitStore
) -> SearchPlan:
    """Return the plan of a search whose points are counted without their RAM, and say so."""
    if options.max_ram is None:
        return planned
    console.print(
        f"--max-ram {options.max_ram:,}: the points below are not planned for it, because that takes seconds for "
        "each; the search plans each point before it trains it",
        markup=False,
    )
    free = plan_search(replace(options, max_ram=None), corpus, store)
    return replace(free, name=planned.name)


def show_space(planned: SearchPlan) -> int:
    """Print what varies, and how many points are within the budget; return the number of trials."""
    rows = [
        [name, str(each) if isinstance(each, Range) else " ".join(map(str, each))]
        for name, each in planned.space.dimensions.items()
    ]
    console.print(f"search {planned.name}: variants of {planned.space.base.name}", markup=False)
    console.print(build_table(["dimension", "values"], rows))
    listed = planned.list_trials()
    n, n_over = len(listed), sum(trial.state == "over_budget" for trial in listed)
    what = "points" if planned.space.is_finite else "architectures"
    n_trials = planned.n_trials or n - n_over
    console.print(
        f"{n} {what}: {n - n_over} within the budget, {n_over} over it; to train: {n_trials} "
        f"({planned.sampler})"
    )
    return n_trials


def show_found(store: LogitStore, planned: SearchPlan, journal: Journal) -> None:
    """Print the best points, and the number of trials in each state."""
    best = [trial for trial in journal.rank() if trial.is_judged]
    console.print(f"search {planned.name}, on the select clips, the best first:", markup=False)
    console.print(build_leaderboard(best[:TRIALS_SHOWN]))
    for trial in best[:TRIALS_SHOWN]:
        console.print(f"{trial.id}: {describe_point(trial.point)}")
    counts = {state: len(journal.find_trials(state)) for state in get_args(TrialState)}
    states = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts.items() if n)
    console.print(f"trials: {states}; all are in {store.objects.locate(journal.document)}")


def build_leaderboard(trials: Sequence[Trial]) -> Table:
    """Return a table of trials and their results."""
    header = ["trial", "state", "epochs", "log loss", "acc. %", "MMACs", "bytes", "RAM"]
    return build_table(header, [_make_row(trial) for trial in trials])


def _make_row(trial: Trial) -> list[str]:
    return [
        trial.id,
        trial.state,
        str(len(trial.losses)),
        f"{trial.loss:.3f}",
        f"{100 * trial.accuracies[-1]:.1f}",
        f"{trial.macs / 1e6:.2f}",
        f"{trial.parameter_bytes:,}",
        "-" if trial.ram is None else f"{trial.ram:,}",
    ]


if __name__ == "__main__":
    run(main, SearchOptions)
