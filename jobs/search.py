"""Search for a student's architecture and recipe, or for the ensemble that teaches it best."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from rich.table import Table

from audio.clips import Corpus
from jobs.cluster import cluster
from jobs.command import UserError, again, console, prepare, progress_bar, run, say_next
from jobs.estimates import spending_of_trials
from jobs.job_log import JobLog
from jobs.journal import ENDED, Journal, State, Trial, in_words
from jobs.learning import check_counts
from jobs.plans import show_trials
from jobs.progress import Watcher
from jobs.proposals import Grid, Proposals, Sampled, Sampler, candidates
from jobs.race import race
from jobs.search_options import SearchOptions
from jobs.student_runs import find_teachers
from jobs.tables import table
from logit_store import LogitStore, fingerprint
from students.distill import student_key
from students.search_space import Range, Space, Value, find_space

DEFAULT_TRIALS = 50
SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A search that can begin."""

    name: str
    identity: dict[str, Any]
    """All that decides what its trials become, and which they are."""
    space: Space
    sampler: Sampler
    seed: int
    taught_by: str | None
    n_trials: int | None
    """So many are to be taught in all; None is all of a grid."""
    trial_of: Callable[[dict[str, Value]], Trial]
    """From a point to its trial."""

    def listed(self) -> list[Trial]:
        """Of a finite space all points; of others all combinations of what is no range."""
        with progress_bar() as bar:
            points = bar.track(self.space.listed(), description="what students cost")
            return [self.trial_of(point) for point in points]


def plan(options: SearchOptions, corpus: Corpus, store: LogitStore) -> Plan:
    """What was asked for.

    Raises:
        UserError: it makes no sense; says why.
    """
    check_counts(trials=options.trials, epochs=options.epochs, cpus_per_run=options.cpus_per_run)
    if options.seeds is not None and len(options.seeds) != 1:
        raise UserError(f"--seeds {options.seeds}: a search takes one, a race several")
    (seed,) = options.seeds or (0,)
    space, taught_by = _space_and_teacher(options, corpus, store)
    sampler = options.sampler or ("grid" if space.is_finite else "optuna")
    if sampler == "grid" and not space.is_finite:
        raise UserError(f"--sampler grid: space {space.name} has ranges, and cannot be listed")
    identity = options.identity(corpus, space) | {
        "taught_by": taught_by,
        "seed": seed,
        "sampler": sampler,
        "halving": options.halving,
        "precision": options.precision,
        "max_macs": options.max_macs,
        "max_bytes": options.max_bytes,
    }
    budget = options.student_budget(corpus)

    def trial_of(point: dict[str, Value]) -> Trial:
        return budget.trial(space.recipe(point), point, taught_by, seed)

    try:
        trial_of(space.listed()[0])
    except ValueError as error:
        raise UserError(str(error)) from error
    return Plan(
        name=options.named(f"{space.name}-{fingerprint(identity)}"),
        identity=identity,
        space=space,
        sampler=sampler,
        seed=seed,
        taught_by=taught_by,
        n_trials=options.trials or (None if sampler == "grid" else DEFAULT_TRIALS),
        trial_of=trial_of,
    )


def _space_and_teacher(
    options: SearchOptions, corpus: Corpus, store: LogitStore
) -> tuple[Space, str | None]:
    students = options.as_students()
    try:
        space = find_space(options.space, options.recipe)
        taught_by = None
        if space.base.distillation or options.ensemble or options.teacher:
            taught_by = find_teachers(students, corpus.name, store)[options.split]
        if taught_by is None:
            space = space.alone()
        student_key(space.base, corpus, options.split, 0, students.responses(), taught_by)
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
    if options.race_ensembles is not None:
        return race(options, corpus, store, options.race_ensembles)
    planned = plan(options, corpus, store)
    if options.dry_run:
        n_trials = show_space(planned)
        show_trials(n_trials, planned.space.base, corpus, store, options)
        say_next(again(less="--dry-run"))
        return 0
    Watcher(store).refuse_second(planned.name)
    journal = Journal(store, planned.name, planned.identity)
    proposals, n_wanted = propose(planned, journal)
    n_left, was_enough = n_wanted - len(journal.in_state(*ENDED)), True
    if n_left < n_wanted:
        console.print(f"{n_wanted - n_left} of {n_wanted} trials are done already")
    if n_left > 0:
        # Tune takes seconds to import, and a plan needs none of it.
        from jobs.tuning import carry_out_trials

        prepare(corpus, store, {planned.space.base.front_end.sample_rate})
        with cluster(), JobLog(store, search=planned.name) as log:
            needs = options.as_students().needs()
            was_enough = carry_out_trials(
                candidates(journal, proposals, planned.trial_of, n_wanted),
                n_left,
                options.lesson(store, journal.name, planned.space),
                journal,
                needs,
                log,
                halving=options.halving,
                spending=spending_of_trials(planned.space.base, corpus, store, options, needs),
                on_end=proposals.tell,
            )
    show_found(store, planned, journal)
    n_ended = len(journal.in_state(*ENDED))
    if n_ended < n_wanted and was_enough and not journal.in_state("failed"):
        console.print(f"no other point that is small enough was found: {n_ended} trials are all")
    if any(trial.is_judged for trial in journal.trials.values()):
        say_next(options.full_length(f"search:{planned.name}", planned.taught_by))
    return 0 if n_ended >= n_wanted else 1


def propose(planned: Plan, journal: Journal) -> tuple[Proposals, int]:
    """What says which points to try, and how many are to be taught in all.

    Raises:
        UserError: all points of a grid are over the budget.
    """
    if planned.sampler != "grid":
        told = journal.in_state(*ENDED, "over_budget")
        sampled = Sampled(planned.space, planned.sampler, planned.seed, told)
        return sampled, planned.n_trials or DEFAULT_TRIALS
    listed = planned.listed()
    over = [trial for trial in listed if trial.state == "over_budget"]
    n_affordable = len(listed) - len(over)
    if not n_affordable:
        raise UserError(f"all {len(listed)} points are over the budget: {over[0].error}")
    journal.add(*(trial for trial in over if trial.id not in journal.trials))
    return Grid(planned.space), min(planned.n_trials or n_affordable, n_affordable)


def show_space(planned: Plan) -> int:
    """What varies, and how much of it is within the budget; how many points are to be taught."""
    rows = [
        [name, str(each) if isinstance(each, Range) else " ".join(map(str, each))]
        for name, each in planned.space.dimensions.items()
    ]
    console.print(f"search {planned.name}: variants of {planned.space.base.name}", markup=False)
    console.print(table(["dimension", "values"], rows))
    listed = planned.listed()
    n, n_over = len(listed), sum(trial.state == "over_budget" for trial in listed)
    what = "points" if planned.space.is_finite else "architectures"
    n_trials = planned.n_trials or n - n_over
    console.print(
        f"{n} {what}: {n - n_over} within the budget, {n_over} over it; to teach: {n_trials} "
        f"({planned.sampler})"
    )
    return n_trials


def show_found(store: LogitStore, planned: Plan, journal: Journal) -> None:
    """The best points, and how many trials ended in which way."""
    best = [trial for trial in journal.ranked() if trial.is_judged]
    console.print(f"search {planned.name}, on the select clips, the best first:", markup=False)
    console.print(leaders(best[:SHOWN]))
    for trial in best[:SHOWN]:
        console.print(f"{trial.id}: {in_words(trial.point)}")
    counts = {state: len(journal.in_state(state)) for state in get_args(State)}
    said = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts.items() if n)
    console.print(f"trials: {said}; all are in {store.object_address(journal.document)}")


def leaders(trials: Sequence[Trial]) -> Table:
    """What trials came to, as a table."""
    header = ["trial", "state", "epochs", "log loss", "acc. %", "MMACs", "bytes"]
    return table(header, [_row(trial) for trial in trials])


def _row(trial: Trial) -> list[str]:
    return [
        trial.id,
        trial.state,
        str(len(trial.losses)),
        f"{trial.loss:.3f}",
        f"{100 * trial.accuracies[-1]:.1f}",
        f"{trial.macs / 1e6:.2f}",
        f"{trial.parameter_bytes:,}",
    ]


if __name__ == "__main__":
    run(main, SearchOptions)
