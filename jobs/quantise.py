"""Let students of a store learn on in int8 (quantisation-aware training): splits as Ray tasks."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass

from audio.clips import Corpus
from jobs import units
from jobs.cluster import cluster
from jobs.command import UserError, again, prepare, run, say_next
from jobs.estimates import spending_of
from jobs.fanout import Task
from jobs.learning import LearningOptions, best_member, carry_out, chosen, show_members
from jobs.plans import show_plan
from jobs.student_runs import export_command
from logit_store import LogitKey, LogitStore, plain_name
from students import stored
from students.int8 import Int8Recipe, int8_key

PUBLISHED = Int8Recipe()


@dataclass(frozen=True, kw_only=True)
class QuantiseOptions(LearningOptions):
    """Options of the command."""

    student: str
    """Member to begin with, or a name without fingerprint: then all students that are called so."""
    seeds: tuple[int, ...] = ()
    """Of the students, if not all of them are meant: each goes on with its own."""
    epochs: int = PUBLISHED.epochs
    """Passes over the fit clips; the learning rate falls, and ranges move, in the first four of
    five."""
    learning_rate: float = PUBLISHED.learning_rate
    """At its peak."""

    def settings(self) -> Int8Recipe:
        """How the students learn on.

        Raises:
            UserError: a value out of range.
        """
        try:
            return Int8Recipe(
                epochs=self.epochs, learning_rate=self.learning_rate, max_steps=self.max_steps
            )
        except ValueError as error:
            raise UserError(str(error)) from error


def find_students(options: QuantiseOptions, corpus: str, store: LogitStore) -> list[LogitKey]:
    """The students that were asked for.

    Raises:
        UserError: a split that was named has none, or no split has one.
    """
    found = []
    for row in store.members(corpus).to_pylist():
        names = row["member"], plain_name(row["member"])
        if row["kind"] == "student" and row["view"] == 0 and options.student in names:
            found.append(LogitKey(corpus, row["split"], row["member"]))
    if options.seeds:
        found = [key for key in found if store.record(key).get("seed") in options.seeds]
    splits = chosen(options.splits)
    lacking = set(splits) - {key.split for key in found}
    if lacking == set(splits) or (lacking and "all" not in options.splits):
        seeds = f" of seeds {', '.join(map(str, options.seeds))}" if options.seeds else ""
        raise UserError(
            f"--student {options.student}: no student{seeds} is called so in split "
            f"{', '.join(map(str, sorted(lacking)))}; python -m logit_store ls --store "
            f"{store.address} lists all"
        )
    return sorted((key for key in found if key.split in splits), key=str)


def plan(
    options: QuantiseOptions, corpus: Corpus, store: LogitStore, starts: list[LogitKey]
) -> list[Task]:
    """A run for each student.

    Raises:
        UserError: a student cannot learn on so; says why.
        LogitStoreError: what taught a student is not there any more, or not as it was.
    """
    settings, responses = options.settings(), options.responses()
    tasks = []
    for start in starts:
        record = store.record(start)
        try:
            key = int8_key(start, record, settings, corpus, responses)
        except ValueError as error:
            raise UserError(str(error)) from error
        if record["ensemble"] is not None:
            # Reads footers only: whether they are there, and as they were.
            units.teachers_of(store, corpus.name, start.split, record["ensemble"])
        arguments = {
            "start": start,
            "settings": settings,
            "where": options.where(store),
            "responses": responses,
        }
        name = f"{plain_name(key.member)} split {start.split} seed {record['seed']}"
        tasks.append(Task(name, units.learn_on_in_int8, arguments, (key,)))
    return tasks


def main(options: QuantiseOptions) -> int:
    """Let students of a store learn on in int8, and store them as members of their own.

    Example:
        python jobs/quantise.py --student demo_isotropic --splits 100 --seeds 0
    """
    store = options.open_store()
    corpus = options.open_corpus(store)
    starts = find_students(options, corpus.name, store)
    tasks = plan(options, corpus, store, starts)
    if options.dry_run:
        show_plan(tasks, store, lambda task: corpus, options)
        say_next(again(less="--dry-run"))
        return 0
    recipes = [stored.recipe_of(store.record(start)) for start in starts]
    prepare(corpus, store, {recipe.front_end.sample_rate for recipe in recipes})
    with cluster():
        needs = options.needs()
        spending = spending_of(options, tasks, store, lambda task: corpus, needs)
        went_well = carry_out(tasks, store, needs, spending=spending)
    show_members(tasks, store)
    if not went_well:
        say_next(again())
        return 1
    say_next(export_command(options, best_member(tasks, store)))
    return 0


if __name__ == "__main__":
    run(main, QuantiseOptions)
