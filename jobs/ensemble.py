"""Select an ensemble per split among the teachers in the store, as Ray tasks."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass

from audio.clips import SPLITS
from jobs import units
from jobs.cluster import cluster
from jobs.command import CorpusOptions, UserError, console, errors, run
from jobs.fanout import Needs, Task, fan_out
from jobs.learning import check_splits
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
    with cluster():
        names = select_all(options, store, candidates)
    for split, name in sorted(names.items()):
        show(store, corpus.name, split, name)
    console.print(f"next: python jobs/students.py --corpus {corpus.name} --store {store.address}")
    return 0 if len(names) == len(candidates) else 1


def select_all(
    options: EnsembleOptions, store: LogitStore, candidates: dict[int, tuple[str, ...]]
) -> dict[int, str]:
    """Name of each split's ensemble, selected on the connected cluster; failures are named."""
    tasks = [
        Task(
            f"ensemble split {split}",
            units.choose,
            {
                "corpus": options.corpus,
                "root": options.root and options.root.expanduser().absolute(),
                "store": store.address,
                "split": split,
                "members": members,
                "with_replacement": options.with_replacement,
                "max_members": options.max_members,
            },
        )
        for split, members in candidates.items()
    ]
    names = {}
    for outcome in fan_out(tasks, Needs()):
        if outcome.error is None:
            names[outcome.task.arguments["split"]] = outcome.result
        else:
            errors.print(f"failed: {outcome.task.name}: {outcome.error}", markup=False)
    return names


def show(store: LogitStore, corpus: str, split: int, name: str) -> None:
    """The path of losses of one ensemble."""
    document = store.read_ensemble(corpus, split, name)
    steps = zip(document["order"], document["losses"], strict=True)
    rows = [[member, f"{loss:.4f}"] for member, loss in steps]
    console.print(f"{name}, split {split}, of {len(document['candidates'])} candidates:")
    console.print(table(["member added", "log loss on select"], rows))


if __name__ == "__main__":
    run(main, EnsembleOptions)
