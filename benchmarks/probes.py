"""Compares probes of all five splits, from stored embeddings to logits, with one plain fit by L-BFGS.

N clips, D dimensions, K classes.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from audio.clips import build_clips_table
from benchmarks.results import format_table, publish, ratio, take_turns
from logit_store import EmbeddingKey, LogitKey, LogitStore
from teachers.linear_head import L2_GRID, PARTS_HELD_OUT, fit_head
from teachers.logistic import weigh_by_class

CLASSES, CLIPS, DIMS, CLIPS_OF_A_RECORDING = 10, 765, 1_024, 3
FIT_CLIPS = (36, 36, 93, 194, 389)
"""Clips of fold fit in the five splits of the project's corpus of sounds."""
CPU = torch.device("cpu")

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store, key, labels_N, recordings_N = _make_store(Path(folder))

        def fit_all() -> None:
            for split, n_fit in enumerate(FIT_CLIPS):
                embeddings_ND = store.embeddings.read(key)
                fitted = fit_head(
                    embeddings_ND[:n_fit], labels_N[:n_fit], recordings_N[:n_fit], CLASSES, seed=0
                )
                logits_NK = fitted.head.compute_logits(embeddings_ND)
                store.write(LogitKey("sounds", 100, f"probe-{split}"), logits_NK, {})

        largest_ND = store.embeddings.read(key)[: FIT_CLIPS[-1]]
        sides = {
            "all": fit_all,
            "plain": lambda: _fit_plainly(largest_ND, labels_N[: FIT_CLIPS[-1]], l2=1.0),
        }
        seconds = take_turns(sides, rounds=rounds, device=CPU)
    row = [
        f"{CLIPS} x {DIMS}",
        f"{statistics.median(seconds['all']):.2f}",
        f"{statistics.median(seconds['plain']):.2f}",
        f"{ratio(seconds['all'], seconds['plain']):.1f}",
    ]
    header = ["clips x dimensions", "five probes, s", "one plain fit, s", "ratio"]
    publish("probes.py", "Probes", CPU, f"{format_table(header, [row])}\n\n{_describe()}")


def _describe() -> str:
    return (
        f"Five probes: embeddings read from the store, {len(L2_GRID)} strengths compared in {PARTS_HELD_OUT} parts of "
        f"the recordings, logits of all clips written, for folds fit of {', '.join(map(str, FIT_CLIPS))} clips: "
        f"{len(FIT_CLIPS) * (1 + PARTS_HELD_OUT * len(L2_GRID))} fits. One plain fit: scipy's L-BFGS on the standardised "
        f"features of {FIT_CLIPS[-1]} clips, one strength, to scikit-learn's usual accuracy (1e-4)."
    )


def _make_store(folder: Path) -> tuple[LogitStore, EmbeddingKey, Integers, NDArray[np.str_]]:
    """Return a store with embeddings that are about as hard to tell apart as real ones."""
    rng = np.random.default_rng(0)
    recording_N = np.arange(CLIPS) // CLIPS_OF_A_RECORDING
    labels_N = recording_N % CLASSES
    # Real embeddings have few directions that matter.
    directions_RD = rng.normal(size=(64, DIMS)) / np.sqrt(np.arange(1, 65))[:, None]
    centres_KR = 0.5 * rng.normal(size=(CLASSES, 64))
    of_recording_RR = rng.normal(size=(recording_N.max() + 1, 64))
    points_NR = centres_KR[labels_N] + of_recording_RR[recording_N] + rng.normal(size=(CLIPS, 64))
    embeddings_ND = points_NR @ directions_RD + 0.3 * rng.normal(size=(CLIPS, DIMS))
    names = [str(row) for row in range(CLIPS)]
    recordings = [str(number) for number in recording_N]
    scenes = [f"scene{label}" for label in labels_N]
    table = build_clips_table(names, names, scenes, recordings, {100: ["fit"] * CLIPS})
    store, key = LogitStore(folder), EmbeddingKey("sounds", "noise-0123456789ab")
    store.write_clips("sounds", table.drop_columns(["file"]))
    store.embeddings.write(key, embeddings_ND, {"kind": "backbone"})
    return store, key, labels_N, np.array(recordings)


def _fit_plainly(embeddings_ND: Floats, labels_N: Integers, l2: float) -> Floats:
    """Return weights [D + 1, K], as scikit-learn's LogisticRegression finds them."""
    features_ND = embeddings_ND.astype(np.float64)
    features_ND = (features_ND - features_ND.mean(axis=0)) / features_ND.std(axis=0)
    weights_N, one_hot_NK = weigh_by_class(labels_N, CLASSES), np.eye(CLASSES)[labels_N]

    def evaluate(values: Floats) -> tuple[float, Floats]:
        weights_DK, biases_K = values[:-CLASSES].reshape(-1, CLASSES), values[-CLASSES:]
        logits_NK = features_ND @ weights_DK + biases_K
        loss = -weights_N @ (one_hot_NK * log_softmax(logits_NK, axis=1)).sum(axis=1)
        errors_NK = weights_N[:, None] * (softmax(logits_NK, axis=1) - one_hot_NK)
        gradient_DK = features_ND.T @ errors_NK + l2 * weights_DK
        gradient = np.concatenate([gradient_DK.ravel(), errors_NK.sum(axis=0)])
        scale = 1 / len(labels_N)
        return scale * (loss + l2 / 2 * np.square(weights_DK).sum()), scale * gradient

    start = np.zeros((features_ND.shape[1] + 1) * CLASSES)
    options = {"maxiter": 10_000, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    return minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options).x


if __name__ == "__main__":
    main()
