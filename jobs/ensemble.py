"""Select an ensemble per split among the teachers in the store, as Ray tasks."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass
from typing import Literal

from jobs import units
from jobs.cluster import cluster
from jobs.command import CorpusOptions, UserError, console, run
from jobs.fanout import Needs, Outcome, Task
from jobs.learning import carry_out, chosen
from jobs.tables import table
from logit_store import LogitStore
from training import Protocol


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(CorpusOptions):
    """Options of the command."""

    splits: tuple[int | Literal["all"], ...] = ("all",)
    """Splits to select for; all means those that have teachers in the store."""
    with_replacement: bool = False
    """Let a teacher be taken several times: its weight is how often (Caruana et al. 2004)."""
    max_members: int | None = None
    """Take no more than so many."""
    protocol: Protocol = "honest"
    """published: of teachers taught by that protocol, chosen on the test clips, as published; for
    comparison with publications only."""


def main(options: EnsembleOptions) -> int:
    """Select an ensemble per split among the teachers in the store, as Ray tasks."""
    splits = chosen(options.splits)
    store = options.open_store()
    corpus = options.open_corpus(store)
    candidates = {
        split: tuple(
            key.member
            for key in store.keys(corpus.name, split, kind="teacher")
            if store.record(key).get("protocol") == options.protocol
        )
        for split in splits
    }
    empty = [] if "all" in options.splits else [s for s in splits if not candidates[s]]
    candidates = {split: members for split, members in candidates.items() if members}
    if empty or not candidates:
        raise UserError(
            f"{store.address} has no teachers of corpus {corpus.name} ({options.protocol} protocol)"
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
    arguments = options.where(store) | {
        "split": split,
        "members": members,
        "with_replacement": options.with_replacement,
        "max_members": options.max_members,
        "protocol": options.protocol,
    }
    return Task(f"ensemble split {split}", units.choose, arguments)


def show(store: LogitStore, corpus: str, split: int, name: str) -> None:
    """The path of losses of one ensemble."""
    document = store.read_ensemble(corpus, split, name)
    steps = zip(document["order"], document["losses"], strict=True)
    rows = [[member, f"{loss:.4f}"] for member, loss in steps]
    console.print(f"{name}, split {split}, of {len(document['candidates'])} candidates:")
    console.print(table(["member added", f"log loss on {document['fold']}"], rows))


if __name__ == "__main__":
    run(main, EnsembleOptions)
