"""Which ensemble teaches a student best: the best one is not always the best to learn from.

Dimensions: N clips of the select fold, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from audio.clips import Corpus
from jobs.cluster import cluster
from jobs.command import UserError, again, console, prepare, progress_bar, say_next
from jobs.estimates import spending_of_trials
from jobs.job_log import JobLog
from jobs.journal import ENDED, Journal, Trial
from jobs.learning import check_counts, select_figures
from jobs.plans import show_trials
from jobs.progress import Watcher
from jobs.search_options import SearchOptions
from jobs.tables import table
from jobs.units import ensemble_logits
from logit_store import LogitStore, fingerprint
from metrics import log_loss
from students.distill import student_key
from students.search_space import Space, find_space

DEFAULT_SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Teacher:
    """One that is raced."""

    name: str
    """`NAME@HASH` of an ensemble, or a member."""
    loss: float
    """Its own log loss on select."""


@dataclass(frozen=True, slots=True)
class Place:
    """How the students of one teacher did."""

    teacher: Teacher
    losses: tuple[float, ...]
    """Of its students on select, one a seed that it took part in."""
    accuracies: tuple[float, ...]

    @property
    def order(self) -> tuple[int, float]:
        """The best first; those that dropped out earlier come later."""
        return -len(self.losses), mean(self.losses) if self.losses else 0.0


def race(options: SearchOptions, corpus: Corpus, store: LogitStore, n_ensembles: int) -> int:
    """Let the best ensembles of a split and its best teacher teach the same recipe; the exit code.

    Raises:
        UserError: options that make no sense, or nobody to race.
    """
    seeds = options.seeds or DEFAULT_SEEDS
    _check(options, n_ensembles, seeds)
    teachers = find_contenders(store, corpus, options.split, n_ensembles)
    space = _space(options, corpus, teachers)
    if options.dry_run:
        _show_contenders(options, space, teachers)
        show_trials(n_students(len(teachers), len(seeds)), space.base, corpus, store, options)
        say_next(again(less="--dry-run"))
        return 0
    names = tuple(teacher.name for teacher in teachers)
    identity = options.identity(corpus, space) | {"taught_by": names, "seeds": tuple(seeds)}
    name = options.named(f"race-{fingerprint(identity)}")
    Watcher(store).refuse_second(name)
    journal = Journal(store, name, identity)
    budget = options.student_budget(corpus)

    prepare(corpus, store, {space.base.front_end.sample_rate})
    with cluster(), JobLog(store, search=name) as log:
        # Tune takes seconds to import, and a plan needs none of it.
        from jobs.tuning import carry_out_trials

        lesson, needs = options.lesson(store, journal.name, space), options.as_students().needs()
        spending = spending_of_trials(space.base, corpus, store, options, needs)

        def carry_out(trials: list[Trial]) -> bool:
            return carry_out_trials(
                iter(trials),
                len(trials),
                lesson,
                journal,
                needs,
                log,
                halving=False,
                spending=spending,
            )

        ended = run_race(
            teachers,
            seeds,
            lambda name, seed: budget.trial(space.base, {}, name, seed),
            journal,
            carry_out,
        )
    places = ranked(places_of(teachers, seeds, journal))
    show_places(places)
    if places[0].losses:
        say_next(options.full_length(space.base.name, places[0].teacher.name))
    return 0 if ended and not journal.in_state("failed") else 1


def _check(options: SearchOptions, n_ensembles: int, seeds: Sequence[int]) -> None:
    check_counts(
        race_ensembles=n_ensembles, epochs=options.epochs, cpus_per_run=options.cpus_per_run
    )
    if len(set(seeds)) != len(seeds):
        raise UserError(f"--seeds {' '.join(map(str, seeds))}: expected each of them once")
    if options.ensemble or options.teacher or options.no_teacher:
        raise UserError(
            "--race-ensembles chooses who teaches: leave out --ensemble, --teacher and --no-teacher"
        )


def _space(options: SearchOptions, corpus: Corpus, teachers: Sequence[Teacher]) -> Space:
    """One point: the recipe, which must be one that teachers can teach and within the budget."""
    try:
        space = replace(find_space("recipe", options.recipe), name="race", dimensions={})
        trial = options.student_budget(corpus).trial(space.base, {}, teachers[0].name, 0)
        responses = options.as_students().responses()
        student_key(space.base, corpus, options.split, 0, responses, teachers[0].name)
    except ValueError as error:
        raise UserError(str(error)) from error
    if trial.state == "over_budget":
        raise UserError(str(trial.error))
    return space


def _show_contenders(options: SearchOptions, space: Space, teachers: Sequence[Teacher]) -> None:
    rows = [[teacher.name, f"{teacher.loss:.4f}"] for teacher in teachers]
    console.print(f"{space.base.name}, {options.epochs} epochs, is to be taught by:")
    console.print(table(["teacher", "its log loss"], rows))


def find_contenders(store: LogitStore, corpus: Corpus, split: int, n: int) -> list[Teacher]:
    """The n ensembles of a split with the lowest log loss on select, and its best teacher.

    Those that were selected or taught with the test clips take no part.

    Raises:
        UserError: there is no ensemble, or no teacher.
    """
    rows, labels = corpus.rows(split, "select"), corpus.labels()
    with progress_bar() as bar:
        listed = bar.track(store.ensembles(corpus.name, split), description="ensembles")
        ensembles = [
            Teacher(
                name, log_loss(ensemble_logits(store, corpus.name, split, name)[rows], labels[rows])
            )
            for name in listed
            if store.read_ensemble(corpus.name, split, name).get("fold") == "select"
        ]
    footers = store.footers(store.keys(corpus.name, split, kind="teacher"))
    members = [
        Teacher(key.member, select_figures(key, footer).log_loss)
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


def survivors(places: Sequence[Place]) -> list[Teacher]:
    """The better half, rounded up, and at least two."""
    return [place.teacher for place in ranked(places)[: _n_kept(len(places))]]


def _n_kept(n: int) -> int:
    return min(n, max(2, -(-n // 2)))


def n_students(n_teachers: int, n_seeds: int) -> int:
    """How many students a race teaches."""
    n_racing, n_taught = n_teachers, 0
    for _ in range(n_seeds):
        n_taught += n_racing
        n_racing = _n_kept(n_racing)
    return n_taught


def ranked(places: Sequence[Place]) -> list[Place]:
    """The best first."""
    return sorted(places, key=lambda place: place.order)


def run_race(
    teachers: Sequence[Teacher],
    seeds: Sequence[int],
    trial_of: Callable[[str, int], Trial],
    journal: Journal,
    carry_out: Callable[[list[Trial]], bool],
) -> bool:
    """Each teacher teaches a student of the first seed, then the better half one of the next.

    Whether it came to its end.

    Args:
        teachers: all that start.
        seeds: of the students, one a round.
        trial_of: from the name of a teacher and a seed to the trial.
        journal: knows the trials that are done.
        carry_out: teaches students, and says whether the budget was enough for all.
    """
    racing = list(teachers)
    for n, seed in enumerate(seeds):
        if n:
            racing = survivors(places_of(racing, seeds[:n], journal))
        trials = [trial_of(teacher.name, seed) for teacher in racing]
        known = [journal.trials.get(trial.id, trial) for trial in trials]
        todo = [trial for trial in known if trial.state not in ENDED]
        if todo and not carry_out(todo):
            return False
    return True


def places_of(teachers: Sequence[Teacher], seeds: Sequence[int], journal: Journal) -> list[Place]:
    """How the teachers' students of these seeds did; those that came to no end do not count."""
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
    """The ranking: means over the seeds, with their standard deviation."""
    rows = [
        [
            place.teacher.name,
            f"{place.teacher.loss:.4f}",
            str(len(place.losses)),
            _spread(place.losses, 4),
            _spread([100 * accuracy for accuracy in place.accuracies], 1),
        ]
        for place in ranked(places)
    ]
    header = ["teacher", "its log loss", "seeds", "student's log loss", "student's acc. %"]
    console.print("on the select clips, mean and standard deviation over the seeds:")
    console.print(table(header, rows))


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
