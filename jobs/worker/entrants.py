"""The students of a DCASE submission: which ones, what they predict, and their description."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audio.clips import SPLITS, Corpus
from audio.errors import BrokenAudio
from jobs.worker.device import find_device
from jobs.worker.where import decode
from logit_store import LogitKey, LogitStore
from logit_store.exporters import encode_csv, find_members
from report.dcase.development import score_development
from report.dcase.entrant import Entrant, load_entrant, predict_evaluation_clips, predict_test_clips
from report.dcase.meta import check_declared, read_texts, write_meta
from students.complexity import Precision
from terminal.console import UserError, progress_bar


def find_best_students(
    store: LogitStore,
    corpus: str,
    patterns: Sequence[str],
    splits: Sequence[int] = SPLITS,
) -> dict[int, LogitKey]:
    """Return for each split the student that is best on `select`, of those that match a pattern.

    Raises:
        UserError: a split has none.
        LogitStoreError: the store does not know the corpus, or no member matches a pattern.
    """
    names = {key.member for key in find_members(store, corpus, None, patterns)}
    members = store.members(corpus).to_pylist()
    found: dict[int, list[dict[str, Any]]] = {split: [] for split in splits}
    for row in members:
        if _is_student(row) and row["member"] in names and row["split"] in found:
            found[row["split"]].append(row)
    lacking = [str(split) for split, rows in found.items() if not rows]
    if lacking:
        raise UserError(
            f"--students {' '.join(patterns)}: no student of split {', '.join(lacking)} has such a "
            f"name; students in {store.address}: {_list_students(members)}"
        )
    best = {split: min(rows, key=_get_loss_on_select) for split, rows in found.items()}
    return {split: LogitKey(corpus, split, row["member"]) for split, row in best.items()}


def _get_loss_on_select(member: Mapping[str, Any]) -> float:
    loss = member["log_loss_select"]
    return math.inf if loss is None else loss


def _list_students(members: Sequence[Mapping[str, Any]]) -> str:
    names = (f"{row['member']} (split {row['split']})" for row in members if _is_student(row))
    return ", ".join(names) or "none"


def _is_student(member: Mapping[str, Any]) -> bool:
    return member["kind"] == "student" and member["view"] == 0


def load_entrants(
    store: LogitStore, keys: Mapping[int, LogitKey], corpus: Corpus, precision: Precision
) -> dict[int, Entrant]:
    """Load each split's student as it is handed in, with its parameters in this precision.

    Raises:
        SubmissionError, NoStudent: a member cannot be handed in.
    """
    return {split: load_entrant(store, key, corpus, precision) for split, key in keys.items()}


def read_stored_results(
    corpus: Corpus, store: LogitStore, keys: Mapping[int, LogitKey]
) -> dict[int, dict[str, Any]]:
    """Return the results of each split's student on the test clips, as it was trained.

    They stand in for the results as handed in until these are measured, which takes long.
    """
    clip_ids = corpus.table["clip_id"].to_pylist()
    results = {}
    for split, key in keys.items():
        (logits_NK,) = store.read([key], clip_ids=clip_ids)
        results[split] = score_development(corpus, split, logits_NK[corpus.rows(split, "test")])
    return results


def describe_entrants(
    label: str,
    texts: Path,
    entrants: Mapping[int, Entrant],
    results: Mapping[int, Mapping[str, Any]],
) -> bytes:
    """Return the system's description: the file of authors and texts, with the numbers filled in.

    Raises:
        SubmissionError: the file is no description, or does not declare what taught the students.
    """
    written = read_texts(texts)
    check_declared(written, sorted({n for each in entrants.values() for n in each.pools}))
    return write_meta(
        written,
        label=label,
        sample_rates=_find_sample_rates(entrants),
        complexity=[(each.complexity, each.parameter_bytes) for each in entrants.values()],
        results={f"split_{split}": each for split, each in results.items()},
    )


def measure_entrants(
    entrants: Mapping[int, Entrant], corpus: Corpus, store: LogitStore
) -> dict[int, dict[str, Any]]:
    """Return the results of each split's entrant on the test clips of the development set.

    Raises:
        BrokenAudio: some clips cannot be read.
    """
    decode(corpus, _find_sample_rates(entrants))
    totals = {split: len(corpus.rows(split, "test")) for split in entrants}
    logits = _predict("test", predict_test_clips, entrants, corpus, store, totals)
    return {
        split: score_development(corpus, split, logits_NK) for split, logits_NK in logits.items()
    }


def predict_evaluation(
    entrants: Mapping[int, Entrant],
    evaluation: Corpus,
    scenes: Sequence[str],
    store: LogitStore,
) -> dict[int, bytes]:
    """Return the file of each split's predictions; logits that are in the store are read from it.

    Raises:
        UserError: some clips cannot be read.
    """
    try:
        decode(evaluation, _find_sample_rates(entrants))
    except BrokenAudio as error:
        raise UserError(
            f"{len(error.broken)} of {error.n_clips} clips in {error.root} cannot be read, the "
            f"first is {error.broken[0].file}: {error.broken[0].reason}; a submission predicts "
            "all clips, so fetch these again"
        ) from error
    totals = dict.fromkeys(entrants, len(evaluation))
    logits = _predict("predict", predict_evaluation_clips, entrants, evaluation, store, totals)
    with progress_bar() as bar:
        return {
            split: encode_csv(logits[split], evaluation.table, scenes)
            for split in bar.track(logits, description="predictions as CSV")
        }


def _find_sample_rates(entrants: Mapping[int, Entrant]) -> set[int]:
    return {entrant.front_end.sample_rate for entrant in entrants.values()}


def _predict(
    what: str,
    make_logits: Callable[..., np.ndarray],
    entrants: Mapping[int, Entrant],
    clips: Corpus,
    store: LogitStore,
    totals: Mapping[int, int],
) -> dict[int, np.ndarray]:
    """Return each split's logits, with a bar that ends at the split's number of clips."""
    device = find_device()
    logits = {}
    with progress_bar() as bar:
        for split, entrant in entrants.items():
            shown = bar.add_task(f"{what}, split {split}", total=totals[split])
            logits[split] = make_logits(
                entrant,
                clips,
                store,
                device,
                lambda n, shown=shown: bar.advance(shown, n),
            )
    return logits
