"""The student of a submission to DCASE 2025 task 1: what it predicts, its description and its package.

Dimensions: N clips, K classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from audio.clips import Corpus
from audio.errors import BrokenAudio
from jobs.worker.device import find_device
from jobs.worker.entrants import find_best_students
from jobs.worker.where import decode
from logit_store import LogitKey, LogitStore
from logit_store.exporters import encode_csv
from report.dcase.challenge import SPLIT_OF_2025
from report.dcase.development import score_development
from report.dcase.device_entrant import DeviceEntrant, load_device_entrant
from report.dcase.inference import Predictions, make_inference_package
from report.dcase.meta import check_declared, read_texts, write_meta
from report.dcase.validate_inference import Sample
from students.complexity import Precision
from terminal.console import UserError, progress_bar

Scores = dict[str, dict[str, Any]]
"""What a description says of `device_specific` and `general`."""
SAMPLES = 8
"""Clips of the evaluation set that the package has to predict as it was told."""


def load_best_entrant(
    store: LogitStore, corpus: Corpus, patterns: Sequence[str], precision: Precision
) -> DeviceEntrant:
    """Load the student of split 25 that is best on `select`, of those that match a pattern.

    Raises:
        UserError: there is none.
        SubmissionError, NoStudent: it cannot be handed in.
    """
    keys = find_best_students(store, corpus.name, patterns, (SPLIT_OF_2025,))
    return load_device_entrant(store, keys[SPLIT_OF_2025], corpus, precision)


def read_stored_scores(entrant: DeviceEntrant, corpus: Corpus, store: LogitStore) -> Scores:
    """Return the results on the test clips as the student was trained, before any rounding."""
    key = entrant.key
    general = LogitKey(key.corpus, key.split, _find_general(entrant, store))
    clip_ids = corpus.table["clip_id"].to_pylist()
    specific_NK, general_NK = store.read([key, general], clip_ids=clip_ids)
    rows = corpus.rows(SPLIT_OF_2025, "test")
    return _score(corpus, specific_NK[rows], general_NK[rows])


def _find_general(entrant: DeviceEntrant, store: LogitStore) -> str:
    return store.read_record(entrant.key)["start"] if entrant.by_device else entrant.key.member


def _score(corpus: Corpus, specific_NK: np.ndarray, general_NK: np.ndarray) -> Scores:
    named = {"device_specific": specific_NK, "general": general_NK}
    return {
        name: score_development(corpus, SPLIT_OF_2025, logits_NK)
        for name, logits_NK in named.items()
    }


def measure_entrant(
    entrant: DeviceEntrant, corpus: Corpus, store: LogitStore
) -> tuple[Scores, float]:
    """Return the results on the test clips as it is handed in, and the share that is right in percent.

    Raises:
        BrokenAudio: some clips cannot be read.
    """
    decode(corpus, {entrant.students.front_end.sample_rate})
    rows = corpus.rows(SPLIT_OF_2025, "test")
    specific_NK, general_NK = _predict(entrant, "test", corpus, rows, store)
    right = specific_NK.argmax(axis=1) == corpus.labels()[rows]
    return _score(corpus, specific_NK, general_NK), 100 * float(right.mean())


def predict_output(
    entrant: DeviceEntrant, evaluation: Corpus, scenes: Sequence[str], store: LogitStore
) -> bytes:
    """Return the file of predictions of the evaluation set.

    Raises:
        UserError: some clips cannot be read.
    """
    try:
        decode(evaluation, {entrant.students.front_end.sample_rate})
    except BrokenAudio as error:
        raise UserError(
            f"{len(error.broken)} of {error.n_clips} clips in {error.root} cannot be read, the first is "
            f"{error.broken[0].file}: {error.broken[0].reason}; a submission predicts all clips, so fetch "
            "these again"
        ) from error
    rows = np.arange(len(evaluation))
    specific_NK, _ = _predict(entrant, "evaluation", evaluation, rows, store)
    # As in the organisers' script, files are named with their folder.
    names = [file.removesuffix(".wav") for file in evaluation.table["file"].to_pylist()]
    return encode_csv(specific_NK, pa.table({"clip_id": names}), scenes)


def _predict(
    entrant: DeviceEntrant, what: str, corpus: Corpus, rows_N: np.ndarray, store: LogitStore
) -> tuple[np.ndarray, np.ndarray]:
    with progress_bar() as bar:
        shown = bar.add_task(what, total=len(rows_N))
        return entrant.predict(
            what, corpus, rows_N, store, find_device(), lambda n: bar.advance(shown, n)
        )


def describe_entrant(label: str, texts: Path, entrant: DeviceEntrant, scores: Scores) -> bytes:
    """Return the system's description: the file of authors and texts, with the numbers filled in.

    Raises:
        SubmissionError: the file is no description, or does not declare what taught the students.
    """
    written = read_texts(texts)
    check_declared(written, entrant.general.pools)
    n_networks = 1 + len(entrant.by_device)
    return write_meta(
        written,
        label=label,
        sample_rates={entrant.students.front_end.sample_rate},
        complexity=[(entrant.complexity, entrant.parameter_bytes)],
        results=scores,
        more={
            "num_models_at_inference": n_networks,
            "device_information": "per-device end-to-end fine-tuning" if n_networks > 1 else "none",
            "model_weight_sharing": "fully device-specific" if n_networks > 1 else "fully shared",
        },
    )


def make_package_of(
    label: str, entrant: DeviceEntrant, corpus: Corpus, output: bytes, test_accuracy: float
) -> Mapping[str, bytes]:
    """Return the files of the inference package by their paths."""
    return make_inference_package(
        label,
        entrant.students,
        entrant.recipe["model"],
        entrant.recipe["arguments"],
        corpus.scenes,
        entrant.precision,
        entrant.complexity,
        Predictions(output=output, test_accuracy=test_accuracy),
    )


def choose_samples(evaluation: Corpus) -> list[Sample]:
    """Return some clips of the evaluation set, of as many recording devices as there are."""
    devices = evaluation.column("recording_device")
    _, firsts = np.unique(devices.astype(str), return_index=True)
    others = np.setdiff1d(np.arange(min(SAMPLES, len(evaluation))), firsts)
    rows = [*firsts.tolist(), *others.tolist()][: max(SAMPLES, len(firsts))]
    files = evaluation.table["file"].to_pylist()
    return [
        Sample(file=evaluation.root / files[row], filename=files[row], device_id=str(devices[row]))
        for row in rows
    ]
