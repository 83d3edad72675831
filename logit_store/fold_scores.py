"""Scores of a member per fold and recording device, for its footer (N clips, K classes)."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audio.several import make_targets
from logit_store.clips_table import fold_column, has_several_labels
from logit_store.footer import SCORED_FOLDS, ClipsHeader, FoldScores
from logit_store.judgement import judge_clips
from metrics import log_loss, mean_average_precision

Score = Callable[[NDArray[np.float16]], tuple[FoldScores, ...]]
"""From the logits [K, N] of all clips, finite, to their scores."""
Prepared = tuple[ClipsHeader, Score]
"""What is to be known of clips before logits are written."""
_LAST = dict[tuple[Hashable, ...], Prepared]()


def name_scored_columns(split: int) -> list[str]:
    """Return the names of the columns that `prepare_scoring` needs of the clips."""
    return ["scene", "recording_device", fold_column(split)]


@dataclass(frozen=True, slots=True)
class ScoredClips:
    """The clips that scores are of, as numbers, so that each member's cost only arithmetic (R clips)."""

    devices: tuple[str, ...]
    """All recording devices of the corpus, sorted."""
    rows_R: NDArray[np.intp]
    labels_R: NDArray[np.intp]
    groups_R: NDArray[np.intp]
    """Fold and device: the number of the fold in SCORED_FOLDS times the number of devices, plus that of the device."""
    clips_FD: NDArray[np.float64]
    """Number of clips of each fold and device."""

    @classmethod
    def of(cls, clips: pa.Table, classes: Sequence[str], split: int) -> Self:
        """Find the clips of all folds but `test`; arguments as in `prepare_scoring`."""
        fold_N = number_values(clips[fold_column(split)], SCORED_FOLDS)
        rows_R = np.flatnonzero(fold_N >= 0)
        devices = tuple(sorted(pc.unique(clips["recording_device"]).to_pylist()))
        device_R = number_values(clips["recording_device"], devices)[rows_R]
        labels_R = number_values(clips["scene"], classes)[rows_R]
        groups_R = fold_N[rows_R] * len(devices) + device_R
        clips_FD = _sum_groups(groups_R, None, len(devices))
        return cls(devices, rows_R, labels_R, groups_R, clips_FD)

    def score(self, logits_KN: NDArray[np.float16]) -> tuple[FoldScores, ...]:
        """Compute the scores of each fold, over all clips and per recording device."""
        hit_R, loss_R = judge_clips(logits_KN, self.rows_R, self.labels_R)
        hits_FD, losses_FD = (
            _sum_groups(self.groups_R, each_R, len(self.devices)) for each_R in (hit_R, loss_R)
        )
        scores = []
        for (f, fold), (d, device) in product(
            enumerate(SCORED_FOLDS), [(slice(None), None), *enumerate(self.devices)]
        ):
            n = int(self.clips_FD[f, d].sum())
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


def _sum_groups(
    groups_R: NDArray[np.intp], weights_R: NDArray[np.generic] | None, n_devices: int
) -> NDArray[np.float64]:
    """Return the sum of each fold and device; without weights, the number of clips."""
    n_folds = len(SCORED_FOLDS)
    sums_G = np.bincount(groups_R, weights_R, n_folds * n_devices).astype(np.float64)
    return sums_G.reshape(n_folds, n_devices)


def prepare_scoring(clips: pa.Table, classes: Sequence[str], split: int) -> Score:
    """Return what computes the scores of all folds but `test`, each over all clips and per recording device.

    Of clips with several labels, the mAP stands in place of the accuracy, and a device in whose clips
    no class occurs has no scores.

    Args:
        clips: with the columns of `name_scored_columns`, plain or as dictionaries.
        classes: K names, in the order of the logits.
        split: whose folds are used.
    """
    if has_several_labels(clips):
        return partial(_score_several, clips=clips, classes=classes, split=split)
    return ScoredClips.of(clips, classes, split).score


def keep_last(key: tuple[Hashable, ...], prepare: Callable[[], Prepared]) -> Prepared:
    """Return what `prepare` returns, or returned for the last key if that was the same.

    The members and views that a process writes one after another are of the same clips.
    """
    kept = _LAST.get(key)
    if kept is None:
        kept = prepare()
        _LAST.clear()
        _LAST[key] = kept
    return kept


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
