"""The scores of stored runs on the select clips."""

from collections.abc import Sequence

from jobs.schedule.carry_out import find_stored
from jobs.schedule.task import Task
from logit_store import FoldScores, Footer, LogitKey, LogitStore
from terminal.console import UserError, console
from terminal.tables import build_table


def find_select_scores(key: LogitKey, footer: Footer) -> FoldScores:
    """Return a member's scores on the `select` clips, from the footer of its logits."""
    scores = footer.find_scores("select")
    if scores is None:
        raise UserError(f"{key}: its split has no select clips; see python jobs/prepare.py")
    return scores


def find_best_member(tasks: Sequence[Task], store: LogitStore) -> str:
    """Return the member with the lowest log loss on `select` of these runs, which are in the store."""
    footers = store.read_footers([task.keys[0] for task in tasks])
    return min(footers, key=lambda key: find_select_scores(key, footers[key]).log_loss).member


def show_members(tasks: Sequence[Task], store: LogitStore) -> None:
    """Print the scores on `select` of those runs that are in the store."""
    states = find_stored(tasks, store)
    keys = [task.keys[0] for task, done in zip(tasks, states, strict=True) if done]
    rows = []
    for key, footer in store.read_footers(keys).items():
        scores = find_select_scores(key, footer)
        rows.append(
            [
                key.member,
                str(key.split),
                f"{scores.log_loss:.3f}",
                f"{100 * scores.accuracy:.1f}",
                # A probe has none.
                str(footer.record.get("epochs", "")),
                f"{footer.record['training_s']:.0f}",
            ]
        )
    header = ["member", "split", "log loss", "acc. %", "epochs", "s"]
    console.print("on the select clips, accuracy over all of them:")
    console.print(build_table(header, rows))
