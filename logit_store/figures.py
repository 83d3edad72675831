"""What a member is worth, as its footer tells (N clips, K classes)."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from logit_store.layout import FIGURE_FOLDS, Figures, fold_column
from metrics.scores import checked, hits, losses

_BLOCK = 16_384
"""Clips at a time: what is computed of so many stays in the processor's cache."""


def judging_columns(split: int) -> list[str]:
    """The columns of the clips that `figures_of` needs."""
    return ["scene", "recording_device", fold_column(split)]


def figures_of(
    logits_KN: NDArray[np.float16], clips: pa.Table, classes: Sequence[str], split: int
) -> tuple[Figures, ...]:
    """Figures per fold, of all its clips and of each recording device, but never of `test`.

    Args:
        logits_KN: of all clips, finite.
        clips: the columns of `judging_columns`, plain or as dictionaries.
        classes: K names, in the order of the logits.
        split: which split's folds.
    """
    fold_N = _numbers(clips[fold_column(split)], FIGURE_FOLDS)
    inside = np.flatnonzero(fold_N >= 0)
    if len(inside) == 0:
        return ()
    devices = sorted(pc.unique(clips["recording_device"]).to_pylist())
    device_N = _numbers(clips["recording_device"], devices)[inside]
    labels_N = _numbers(clips["scene"], classes)[inside]
    hit_N, loss_N = _judged(logits_KN[:, inside], labels_N)
    group_N = fold_N[inside] * len(devices) + device_N

    def sums(weights_N: NDArray[np.generic] | None) -> NDArray[np.float64]:
        n_groups = len(FIGURE_FOLDS) * len(devices)
        sums_G = np.bincount(group_N, weights_N, n_groups).astype(np.float64)
        return sums_G.reshape(len(FIGURE_FOLDS), -1)

    clips_FD, hits_FD, losses_FD = sums(None), sums(hit_N), sums(loss_N)
    figures = []
    for (f, fold), (d, device) in product(
        enumerate(FIGURE_FOLDS), [(slice(None), None), *enumerate(devices)]
    ):
        n = int(clips_FD[f, d].sum())
        if n:
            figures.append(
                Figures(
                    fold=fold,
                    recording_device=device,
                    n=n,
                    log_loss=float(losses_FD[f, d].sum() / n),
                    accuracy=float(hits_FD[f, d].sum() / n),
                )
            )
    return tuple(figures)


def _judged(
    logits_KN: NDArray[np.float16], labels_N: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each clip is a hit, and its log loss."""
    n = len(labels_N)
    hit_N, loss_N = np.empty(n, np.bool_), np.empty(n)
    for begin in range(0, n, _BLOCK):
        block = slice(begin, begin + _BLOCK)
        # Classes stay the first axis in memory, which is twice as fast as ten numbers at a time.
        logits, labels = checked(logits_KN[:, block].T, labels_N[block])
        hit_N[block], loss_N[block] = hits(logits, labels), losses(logits, labels)
    return hit_N, loss_N


def _numbers(values: pa.ChunkedArray, order: Sequence[str]) -> NDArray[np.int64]:
    """Where each value stands in `order`; -1 for null and for others."""
    encoded = values.combine_chunks().dictionary_encode()
    # The last place is for nulls, which have the number -1.
    standing = [order.index(v) if v in order else -1 for v in encoded.dictionary.to_pylist()]
    return np.array([*standing, -1])[encoded.indices.fill_null(-1).to_numpy()]
