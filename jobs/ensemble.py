"""Select an ensemble per split among the teachers in the store, as Ray tasks."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass

from audio.clips import SPLITS
from jobs import units
from jobs.cluster import cluster
from jobs.command import CorpusOptions, UserError, console, run
from jobs.fanout import Needs, Outcome, Task
from jobs.learning import carry_out, check_splits
from jobs.tables import table
from logit_store import LogitStore


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(CorpusOptions):
    """Options of the command."""

    splits: tuple[int, ...] = ()
    """Splits to select for; all that have teachers in the store if not given."""
    with_replacement: bool = False
    """Let a teacher be taken several times: its weight is how often (Caruana et al. 2004)."""
    max_members: int | None = None
    """Take no more than so many."""


def main(options: EnsembleOptions) -> int:
    """Select an ensemble per split among the teachers in the store, as Ray tasks."""
    check_splits(options.splits)
    store = options.open_store()
    corpus = options.open_corpus(store)
    candidates = {
        split: tuple(key.member for key in store.keys(corpus.name, split, kind="teacher"))
        for split in options.splits or SPLITS
    }
    empty = [split for split in options.splits if not candidates[split]]
    candidates = {split: members for split, members in candidates.items() if members}
    if empty or not candidates:
        raise UserError(
            f"{store.address} has no teachers of corpus {corpus.name}"
            f"{f' for split {empty}' if empty else ''}: run python jobs/teachers.py first"
        )
    tasks = [task(options, store, split, members) for split, members in candidates.items()]
    names: dict[int, str] = {}

    def note(outcome: Outcome) -> tuple[Task, ...]:
        names[outcome.task.arguments["split"]] = outcome.result
        return ()

    with cluster():
        went_well = carry_out(tasks, store, Needs(), then=note)
    for split, name in sorted(names.items()):
        show(store, corpus.name, split, name)
    console.print(f"next: python jobs/students.py --corpus {corpus.name} --store {store.address}")
    return 0 if went_well else 1


def task(options: EnsembleOptions, store: LogitStore, split: int, members: tuple[str, ...]) -> Task:
    """The selection of one split's ensemble among these members; its result is the name."""
    arguments = {
        "corpus": options.corpus,
        "root": options.root and options.root.expanduser().absolute(),
        "store": store.address,
        "split": split,
        "members": members,
        "with_replacement": options.with_replacement,
        "max_members": options.max_members,
    }
    return Task(f"ensemble split {split}", units.choose, arguments)


def show(store: LogitStore, corpus: str, split: int, name: str) -> None:
    """The path of losses of one ensemble."""
    document = store.read_ensemble(corpus, split, name)
    steps = zip(document["order"], document["losses"], strict=True)
    rows = [[member, f"{loss:.4f}"] for member, loss in steps]
    console.print(f"{name}, split {split}, of {len(document['candidates'])} candidates:")
    console.print(table(["member added", "log loss on select"], rows))


if __name__ == "__main__":
    run(main, EnsembleOptions)
