"""The scores of stored runs on the select clips."""

from collections.abc import Sequence

from audio.clips import Corpus
from jobs.schedule.carry_out import find_stored
from jobs.schedule.task import Task
from jobs.worker.train import Specialise
from logit_store import FoldScores, Footer, LogitKey, LogitStore
from logit_store.clips_table import has_several_labels
from metrics import main_score
from terminal.console import UserError, console
from terminal.tables import build_table


def find_select_scores(key: LogitKey, footer: Footer) -> FoldScores:
    """Return a member's scores on the `select` clips, from the footer of its logits."""
    scores = footer.find_scores("select")
    if scores is None:
        raise UserError(f"{key}: its split has no select clips; see python jobs/prepare.py")
    return scores


def find_best_member(tasks: Sequence[Task], store: LogitStore) -> str:
    """Return the member with the lowest log loss on `select` of these runs, which are in the store.

    Of a student with a network per recording device it is the general student, which is one network.
    """
    keys = [task.keys[1 if isinstance(task.work, Specialise) else 0] for task in tasks]
    footers = store.read_footers(keys)
    return min(footers, key=lambda key: find_select_scores(key, footers[key]).log_loss).member


def show_device_gains(tasks: Sequence[Task], corpus: Corpus, store: LogitStore) -> None:
    """Print the main score on `select` of students and of their networks per recording device.

    It prints nothing if none of the runs has such networks in the store.
    """
    states = find_stored(tasks, store)
    rows = []
    for task, done in zip(tasks, states, strict=True):
        if done and isinstance(task.work, Specialise):
            rows.append(_make_row_of_devices(task.keys[:2], corpus, store))
    if rows:
        console.print(
            f"{'mAP' if corpus.has_several_labels else 'macro accuracy'} on the select clips in %, each clip by the general student or by the network of "
            "its recording device:"
        )
        console.print(build_table(["member", "split", "general", "device-specific"], rows))


def _make_row_of_devices(keys: Sequence[LogitKey], corpus: Corpus, store: LogitStore) -> list[str]:
    """Return a row of the table: the first key is that of all networks, the second the general one's."""
    split = keys[0].split
    rows, labels_N = corpus.rows(split, "select"), corpus.truth()
    clip_ids = corpus.table["clip_id"].to_pylist()
    specific_NK, general_NK = store.read(keys, clip_ids=clip_ids)
    accuracies = [
        f"{100 * main_score(logits_NK[rows], labels_N[rows]):.1f}"
        for logits_NK in (general_NK, specific_NK)
    ]
    return [keys[0].member, str(split), *accuracies]


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
    several = bool(keys) and has_several_labels(store.read_clips(keys[0].corpus))
    header = ["member", "split", "log loss", "mAP %" if several else "acc. %", "epochs", "s"]
    console.print(
        "on the select clips:" if several else "on the select clips, accuracy over all of them:"
    )
    console.print(build_table(header, rows))
