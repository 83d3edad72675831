"""The logits of a member that consists of K models, each of which left out a part of `fit`.

Dimensions: N clips of the corpus, n clips of some rows, K classes.
"""

from collections.abc import Callable

import numpy as np

from audio.parts import NO_PART

PredictPart = Callable[[int, np.ndarray], np.ndarray]
"""From the number of a model and rows [n] to its logits of these clips, [n, K]."""


def join_logits(parts_N: np.ndarray, n_parts: int, predict: PredictPart) -> np.ndarray:
    """Return the logits of all clips, float32 [N, K].

    Those of a clip that a model left out come from this model; those of all other clips are the
    mean of all models' logits. (The softmax of this mean is that of the mean of their log
    probabilities, as both differ by a number a clip only.)

    Args:
        parts_N: the part of each clip, as `audio.parts.draw_parts` returns it, int64 [N].
        n_parts: the number of models.
        predict: called once for each model, in order.
    """
    joined_NK: np.ndarray | None = None
    shared_N = parts_N == NO_PART
    for part in range(n_parts):
        own_N = parts_N == part
        rows = np.flatnonzero(own_N | shared_N)
        logits_nK = predict(part, rows).astype(np.float32)
        if joined_NK is None:
            joined_NK = np.zeros((len(parts_N), logits_nK.shape[1]), dtype=np.float32)
        share_n = np.where(own_N[rows], 1.0, 1 / n_parts).astype(np.float32)
        joined_NK[rows] += share_n[:, None] * logits_nK
    if joined_NK is None:
        raise ValueError(f"n_parts={n_parts}, expected at least 2")
    return joined_NK
