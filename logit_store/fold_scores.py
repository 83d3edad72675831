"""Scores of a member per fold and recording device, for its footer (N clips, K classes)."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audio.several import make_targets
from logit_store.clips_table import fold_column, has_several_labels
from logit_store.footer import SCORED_FOLDS, FoldScores
from logit_store.judgement import judge_clips
from metrics import log_loss, mean_average_precision


def name_scored_columns(split: int) -> list[str]:
    """Return the names of the columns that `score_folds` needs of the clips."""
    return ["scene", "recording_device", fold_column(split)]


def score_folds(
    logits_KN: NDArray[np.float16], clips: pa.Table, classes: Sequence[str], split: int
) -> tuple[FoldScores, ...]:
    """Compute the scores of all folds but `test`, each over all clips and per recording device.

    Of clips with several labels, the mAP stands in place of the accuracy, and a device in whose clips
    no class occurs has no scores.

    Args:
        logits_KN: finite; for all clips.
        clips: with the columns of `name_scored_columns`, plain or as dictionaries.
        classes: K names, in the order of the logits.
        split: whose folds are used.
    """
    if has_several_labels(clips):
        return _score_several(logits_KN, clips, classes, split)
    fold_N = number_values(clips[fold_column(split)], SCORED_FOLDS)
    inside = np.flatnonzero(fold_N >= 0)
    if len(inside) == 0:
        return ()
    devices = sorted(pc.unique(clips["recording_device"]).to_pylist())
    device_N = number_values(clips["recording_device"], devices)[inside]
    labels_N = number_values(clips["scene"], classes)[inside]
    hit_N, loss_N = judge_clips(logits_KN, inside, labels_N)
    group_N = fold_N[inside] * len(devices) + device_N

    def sums(weights_N: NDArray[np.generic] | None) -> NDArray[np.float64]:
        n_groups = len(SCORED_FOLDS) * len(devices)
        sums_G = np.bincount(group_N, weights_N, n_groups).astype(np.float64)
        return sums_G.reshape(len(SCORED_FOLDS), -1)

    clips_FD, hits_FD, losses_FD = sums(None), sums(hit_N), sums(loss_N)
    scores = []
    for (f, fold), (d, device) in product(
        enumerate(SCORED_FOLDS), [(slice(None), None), *enumerate(devices)]
    ):
        n = int(clips_FD[f, d].sum())
        if n:
            scores.append(
                FoldScores(
                    fold=fold,
                    recording_device=device,
                    n=n,
                    log_loss=float(losses_FD[f, d].sum() / n),
                    accuracy=float(hits_FD[f, d].sum() / n),
                )
            )
    return tuple(scores)


def _score_several(
    logits_KN: NDArray[np.float16], clips: pa.Table, classes: Sequence[str], split: int
) -> tuple[FoldScores, ...]:
    targets_NK = make_targets(clips["scene"].cast(pa.string()), classes)
    fold_N = number_values(clips[fold_column(split)], SCORED_FOLDS)
    devices = sorted(pc.unique(clips["recording_device"]).to_pylist())
    device_N = number_values(clips["recording_device"], devices)
    scores = []
    for (f, fold), device in product(enumerate(SCORED_FOLDS), [None, *devices]):
        of_device_N = True if device is None else device_N == devices.index(device)
        inside = np.flatnonzero((fold_N == f) & of_device_N)
        if (targets_NK[inside] == 1).any():
            logits_nK, targets_nK = logits_KN[:, inside].T, targets_NK[inside]
            scores.append(
                FoldScores(
                    fold=fold,
                    recording_device=device,
                    n=len(inside),
                    log_loss=log_loss(logits_nK, targets_nK),
                    accuracy=mean_average_precision(logits_nK, targets_nK),
                )
            )
    return tuple(scores)


def number_values(values: pa.ChunkedArray, order: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each value in `order`; -1 for null and for values that it lacks."""
    encoded = values.combine_chunks().dictionary_encode()
    places = [order.index(v) if v in order else -1 for v in encoded.dictionary.to_pylist()]
    # Nulls have the index -1, which takes the last element.
    return np.array([*places, -1])[encoded.indices.fill_null(-1).to_numpy()]
