"""Finds the ensemble that teaches a student best, which is not always the best ensemble.

Dimensions: N clips of the select fold, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from audio.clips import Corpus
from ensemble.stored import compute_ensemble_logits
from jobs.log.watcher import Watcher
from jobs.plan.members import find_select_scores
from jobs.schedule.cluster import connect
from jobs.schedule.job_log import JobLog
from jobs.trials.estimates import plan_trial_spending, show_trials
from jobs.trials.journal import ENDED, Journal, Trial
from jobs.trials.options import SearchOptions
from jobs.worker.where import prepare
from logit_store import LogitStore, fingerprint
from metrics import log_loss
from students.keys import make_student_key
from students.search_space import SearchSpace, find_space
from terminal.console import UserError, console, progress_bar, repeat_command, say_next
from terminal.tables import build_table, format_count

DEFAULT_SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Contender:
    """A teacher that takes part in a race."""

    name: str
    """`NAME@HASH` of an ensemble, or a member."""
    loss: float
    """Log loss of the teacher itself on select."""


@dataclass(frozen=True, slots=True)
class Place:
    """The results of one teacher's students."""

    teacher: Contender
    losses: tuple[float, ...]
    """Log losses of its students on select, one for each seed in which it took part."""
    accuracies: tuple[float, ...]

    @property
    def order(self) -> tuple[int, float]:
        """A key that sorts the best first; teachers that dropped out earlier come later."""
        return -len(self.losses), mean(self.losses) if self.losses else 0.0


def race(options: SearchOptions, corpus: Corpus, store: LogitStore, n_ensembles: int) -> int:
    """Have the best ensembles of a split and its best teacher teach one recipe; return the exit code.

    Raises:
        UserError: an option makes no sense, or there is nobody to race.
    """
    seeds = options.seeds or DEFAULT_SEEDS
    _check_options(options, n_ensembles, seeds)
    teachers = find_contenders(store, corpus, options.split, n_ensembles)
    space = _make_space(options, corpus, teachers)
    if options.dry_run:
        _show_contenders(options, space, teachers)
        show_trials(count_students(len(teachers), len(seeds)), space.base, corpus, store, options)
        say_next(repeat_command(less="--dry-run"))
        return 0
    names = tuple(teacher.name for teacher in teachers)
    identity = options.identify_search(corpus, space) | {"taught_by": names, "seeds": tuple(seeds)}
    name = options.name or f"race-{fingerprint(identity)}"
    Watcher(store).refuse_second(name)
    journal = Journal(store, name, identity)
    options.as_students().check_fit_here()
    prepare(corpus, store, {space.base.front_end.sample_rate})
    ended = _carry_out_race(options, corpus, store, journal, space, teachers, seeds)
    places = rank_places(find_places(teachers, seeds, journal))
    show_places(places)
    if places[0].losses:
        say_next(options.make_full_length_command(space.base.name, places[0].teacher.name))
    return 0 if ended and not journal.find_trials("failed") else 1


def _carry_out_race(
    options: SearchOptions,
    corpus: Corpus,
    store: LogitStore,
    journal: Journal,
    space: SearchSpace,
    teachers: Sequence[Contender],
    seeds: Sequence[int],
) -> bool:
    """Run the race on workers; return whether it came to its end."""
    limits = options.make_student_limits(corpus)
    settings = options.make_trial_settings(store, journal.name, space)
    with connect(needs_ray=True) as workers, JobLog(store, search=journal.name) as log:
        # Tune takes seconds to import, and a plan does not need it.
        from jobs.trials.tune import carry_out_trials

        timeout_s = options.find_timeout_s(workers)
        needs = options.as_students().find_needs(workers)
        spending = plan_trial_spending(space.base, corpus, store, options, workers, needs)

        def carry_out(trials: list[Trial]) -> bool:
            return carry_out_trials(
                iter(trials),
                len(trials),
                settings,
                journal,
                needs,
                log,
                halving=False,
                timeout_s=timeout_s,
                spending=spending,
            )

        return run_race(
            teachers,
            seeds,
            lambda name, seed: limits.make_trial(space.base, {}, name, seed),
            journal,
            carry_out,
        )


def _check_options(options: SearchOptions, n_ensembles: int, seeds: Sequence[int]) -> None:
    if options.ensemble or options.teacher or options.no_teacher:
        raise UserError(
            "--race-ensembles chooses who teaches: leave out --ensemble, --teacher and --no-teacher"
        )


def _make_space(
    options: SearchOptions, corpus: Corpus, teachers: Sequence[Contender]
) -> SearchSpace:
    """Return a space of one point: the recipe, if teachers can teach it and it is within the limits."""
    try:
        space = replace(find_space("recipe", options.recipe), name="race", dimensions={})
        trial = options.make_student_limits(corpus).make_trial(space.base, {}, teachers[0].name, 0)
        responses = options.as_students().find_responses()
        make_student_key(space.base, corpus, options.split, 0, responses, teachers[0].name)
    except ValueError as error:
        raise UserError(str(error)) from error
    if trial.state == "over_budget":
        raise UserError(str(trial.error))
    return space


def _show_contenders(
    options: SearchOptions, space: SearchSpace, teachers: Sequence[Contender]
) -> None:
    rows = [[teacher.name, f"{teacher.loss:.4f}"] for teacher in teachers]
    console.print(f"{space.base.name}, {format_count(options.epochs, 'epoch')}, will be taught by:")
    console.print(build_table(["teacher", "its log loss"], rows))


def find_contenders(store: LogitStore, corpus: Corpus, split: int, n: int) -> list[Contender]:
    """Return the n ensembles of a split with the lowest log loss on select, and its best teacher.

    Ensembles and teachers that were chosen on the test clips do not take part.

    Raises:
        UserError: there is no ensemble, or no teacher.
    """
    rows, labels = corpus.rows(split, "select"), corpus.labels()
    with progress_bar() as bar:
        listed = bar.track(store.ensembles.find_all(corpus.name, split), description="ensembles")
        ensembles = [
            Contender(
                name,
                log_loss(
                    compute_ensemble_logits(store, corpus.name, split, name)[rows], labels[rows]
                ),
            )
            for name in listed
            if store.ensembles.read(corpus.name, split, name).get("fold") == "select"
        ]
    footers = store.read_footers(store.keys(corpus.name, split, kind="teacher"))
    members = [
        Contender(key.member, find_select_scores(key, footer).log_loss)
        for key, footer in footers.items()
        if footer.record.get("protocol") == "honest"
    ]
    if not ensembles or not members:
        raise UserError(
            f"--race-ensembles {n}: split {split} has {len(ensembles)} ensembles and "
            f"{len(members)} teachers that were not chosen on test, expected at least one of each: "
            "run python jobs/teachers.py and python jobs/ensemble.py"
        )
    best = sorted(ensembles, key=lambda each: each.loss)[:n]
    return [*best, min(members, key=lambda each: each.loss)]


def find_survivors(places: Sequence[Place]) -> list[Contender]:
    """Return the better half of the teachers, rounded up, and at least two."""
    return [place.teacher for place in rank_places(places)[: _count_kept(len(places))]]


def _count_kept(n: int) -> int:
    return min(n, max(2, -(-n // 2)))


def count_students(n_teachers: int, n_seeds: int) -> int:
    """Count the students that a race trains."""
    n_racing, n_taught = n_teachers, 0
    for _ in range(n_seeds):
        n_taught += n_racing
        n_racing = _count_kept(n_racing)
    return n_taught


def rank_places(places: Sequence[Place]) -> list[Place]:
    """Sort places, the best first."""
    return sorted(places, key=lambda place: place.order)


def run_race(
    teachers: Sequence[Contender],
    seeds: Sequence[int],
    make_trial: Callable[[str, int], Trial],
    journal: Journal,
    carry_out: Callable[[list[Trial]], bool],
) -> bool:
    """Have each teacher teach a student of the first seed, then the better half one of the next.

    Args:
        teachers: the teachers that start.
        seeds: seeds of the students, one for each round.
        make_trial: makes the trial of a teacher's name and a seed.
        journal: has the trials that are done.
        carry_out: trains students, and returns whether the budget was enough for all.

    Returns:
        Whether the race came to its end.
    """
    racing = list(teachers)
    for n, seed in enumerate(seeds):
        if n:
            racing = find_survivors(find_places(racing, seeds[:n], journal))
        trials = [make_trial(teacher.name, seed) for teacher in racing]
        known = [journal.trials.get(trial.id, trial) for trial in trials]
        todo = [trial for trial in known if trial.state not in ENDED]
        if todo and not carry_out(todo):
            return False
    return True


def find_places(
    teachers: Sequence[Contender], seeds: Sequence[int], journal: Journal
) -> list[Place]:
    """Return the results of the teachers' students of these seeds, as far as they are done."""
    judged = [
        trial for trial in journal.trials.values() if trial.state == "done" and trial.seed in seeds
    ]
    return [
        Place(
            teacher,
            tuple(trial.loss for trial in judged if trial.taught_by == teacher.name),
            tuple(trial.accuracies[-1] for trial in judged if trial.taught_by == teacher.name),
        )
        for teacher in teachers
    ]


def show_places(places: Sequence[Place]) -> None:
    """Print the ranking: means over the seeds, with their standard deviations."""
    rows = [
        [
            place.teacher.name,
            f"{place.teacher.loss:.4f}",
            str(len(place.losses)),
            _format_spread(place.losses, 4),
            _format_spread([100 * accuracy for accuracy in place.accuracies], 1),
        ]
        for place in rank_places(places)
    ]
    header = ["teacher", "its log loss", "seeds", "student's log loss", "student's acc. %"]
    console.print("on the select clips, mean and standard deviation over the seeds:")
    console.print(build_table(header, rows))


def _format_spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
