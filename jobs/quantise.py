"""Train students of a store further in int8 (quantisation-aware training)."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass
from typing import Annotated

from audio.clips import Corpus
from jobs.command import run
from jobs.plan.dry_run import show_plan
from jobs.plan.members import find_best_member, show_members
from jobs.plan.next_steps import make_export_command
from jobs.plan.options import LearningOptions, PoolWords, parse_splits
from jobs.plan.pools import check_pool_teachers, find_used_pool
from jobs.plan.training_runs import carry_out_runs
from jobs.schedule.task import Task, make_names_unique
from jobs.worker.teacher_logits import find_teaching_members
from jobs.worker.train import Quantise
from logit_store import LogitKey, LogitStore, strip_fingerprint
from students.keys import make_int8_key
from students.recipe import Int8Recipe
from students.records import restore_recipe
from terminal.console import UserError, repeat_command, say_next
from terminal.values import Count, Name, Seeds, above

PUBLISHED = Int8Recipe()


@dataclass(frozen=True, kw_only=True)
class QuantiseOptions(LearningOptions):
    """Options of the command."""

    student: Name
    """Student to start from: a member, or a name without fingerprint for all students of that name."""
    seeds: Seeds = ()
    """Seeds of the students, if not all are meant; each keeps its own."""
    epochs: Count = PUBLISHED.epochs
    """Passes over the fit clips; the learning rate falls, and ranges move, in the first four fifths
    of them."""
    learning_rate: Annotated[float, above(0, to=1)] = PUBLISHED.learning_rate
    """Highest learning rate."""

    pool: PoolWords = ()
    """CORPUS:ROOT of each pool of another corpus that taught the student, in the order of its record;
    those of its own corpus are found without it."""

    def make_settings(self) -> Int8Recipe:
        """Return the recipe of the further training."""
        return Int8Recipe(
            epochs=self.epochs, learning_rate=self.learning_rate, max_steps=self.max_steps
        )


def find_students(options: QuantiseOptions, corpus: str, store: LogitStore) -> list[LogitKey]:
    """Return the students that the options name.

    Raises:
        UserError: a split that the options name has none, or no split has one.
    """
    students = []
    for row in store.members(corpus).to_pylist():
        names = row["member"], strip_fingerprint(row["member"])
        if row["kind"] == "student" and row["view"] == 0 and options.student in names:
            students.append(LogitKey(corpus, row["split"], row["member"]))
    if options.seeds:
        students = [key for key in students if store.read_record(key).get("seed") in options.seeds]
    splits = parse_splits(options.splits)
    lacking = set(splits) - {key.split for key in students}
    if lacking == set(splits) or (lacking and "all" not in options.splits):
        seeds = f" of seeds {', '.join(map(str, options.seeds))}" if options.seeds else ""
        raise UserError(
            f"--student {options.student}: no student{seeds} has this name in split "
            f"{', '.join(map(str, sorted(lacking)))}; python -m logit_store ls --store "
            f"{store.address} lists all"
        )
    return sorted((key for key in students if key.split in splits), key=str)


def plan_quantising(
    options: QuantiseOptions, corpus: Corpus, store: LogitStore, starts: list[LogitKey]
) -> list[Task[Quantise]]:
    """Plan a run for each student.

    Raises:
        UserError: a student cannot be trained so; the message says why.
        LogitStoreError: a student's teacher is no longer in the store, or has changed.
    """
    settings, responses = options.make_settings(), options.find_responses()
    tasks = []
    for start in starts:
        record = store.read_record(start)
        try:
            key = make_int8_key(start, record, settings, corpus, responses)
        except ValueError as error:
            raise UserError(str(error)) from error
        pool = find_used_pool(record, options.pool, corpus, start)
        if record["ensemble"] is not None:
            # Reads footers only, to check that the members are stored and unchanged.
            find_teaching_members(store, corpus.name, start.split, record["ensemble"])
            if pool is not None:
                recipe, split = restore_recipe(record), start.split
                check_pool_teachers(options, corpus, store, recipe, split, record["ensemble"], pool)
        work = Quantise(
            start=start,
            settings=settings,
            where=options.make_where(store),
            responses=responses,
            pool=None if pool is None else pool.work,
        )
        name = f"{strip_fingerprint(key.member)} split {start.split} seed {record['seed']}"
        tasks.append(Task(name, work, (key,)))
    return make_names_unique(tasks)


def main(options: QuantiseOptions) -> int:
    """Train students of a store further in int8, and store them as new members.

    Example:
        python jobs/quantise.py --student tiny_isotropic_pool --splits 25 --seeds 0
    """
    store = options.open_store()
    corpus = options.open_corpus(store)
    starts = find_students(options, corpus.name, store)
    tasks = plan_quantising(options, corpus, store, starts)
    if options.dry_run:
        show_plan(tasks, store, lambda task: corpus, options)
        say_next(repeat_command(less="--dry-run"))
        return 0
    recipes = [restore_recipe(store.read_record(start)) for start in starts]
    rates = {recipe.front_end.sample_rate for recipe in recipes}
    went_well = carry_out_runs(options, tasks, corpus, store, rates)
    show_members(tasks, store)
    if not went_well:
        say_next(repeat_command())
        return 1
    best = find_best_member(tasks, store)
    say_next(*(make_export_command(options, best, in_c=in_c) for in_c in (False, True)))
    return 0


if __name__ == "__main__":
    run(main, QuantiseOptions)
