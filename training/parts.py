"""The logits of a member that consists of K models, each of which left out a part of `fit`.

Dimensions: N clips of the corpus, n clips of some rows, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from audio.parts import NO_PART

PredictPart = Callable[[int, np.ndarray], np.ndarray]
"""From the number of a model, counted from 0, and rows [n] to its logits of these clips, [n, K]."""


@dataclass(frozen=True, eq=False, slots=True)
class Parts:
    """The models of a cross-fitted member, and which of the clips each has left out."""

    corpus: str
    """The corpus that they learnt; of other corpora, such as pools, they left out nothing."""
    parts_N: np.ndarray
    """The part of each of its clips, as `audio.parts.draw_parts` returns it."""
    n_parts: int
    load: Callable[[int], None]
    """Puts the weights of a model, counted from 0, into the module that predicts."""

    def find(self, corpus: str, rows: np.ndarray) -> np.ndarray:
        """Return the parts of these clips of a corpus, int64 [n]."""
        if corpus != self.corpus:
            return np.full(len(rows), NO_PART, dtype=np.int64)
        return self.parts_N[rows]


def join_logits(parts_n: np.ndarray, n_parts: int, predict: PredictPart) -> np.ndarray:
    """Return the logits of all these clips, float32 [n, K].

    Those of a clip that a model left out come from this model; those of all other clips are the
    mean of all models' logits. (The softmax of this mean is that of the mean of their log
    probabilities: the two differ by one number for all classes of a clip.)

    Args:
        parts_n: the part of each clip, as `audio.parts.draw_parts` returns it, int64 [n].
        n_parts: the number of models.
        predict: called at most once for each model, in order, with places in `parts_n`.
    """
    joined_nK: np.ndarray | None = None
    shared_n = parts_n == NO_PART
    for part in range(n_parts):
        own_n = parts_n == part
        places = np.flatnonzero(own_n | shared_n)
        if len(places) == 0:
            continue
        logits = predict(part, places).astype(np.float32)
        if joined_nK is None:
            joined_nK = np.zeros((len(parts_n), logits.shape[1]), dtype=np.float32)
        share = np.where(own_n[places], 1.0, 1 / n_parts).astype(np.float32)
        joined_nK[places] += share[:, None] * logits
    if joined_nK is None:
        raise ValueError(f"{len(parts_n)} clips for {n_parts} models, expected at least one clip")
    return joined_nK
