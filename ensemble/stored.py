"""Logits of an ensemble that is in the store."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

import ensemble
from logit_store import LogitStore


def compute_ensemble_logits(
    store: LogitStore,
    corpus: str,
    split: int,
    reference: str,
    view: int = 0,
    rows: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """Compute the logits of an ensemble for a view of clips, float32 [N, K].

    Its members and weights are as they were selected, which was on view 0.

    Args:
        store: the store with the ensemble and its members' logits.
        corpus: the corpus of the clips.
        split: the split that its members were trained on.
        reference: NAME@HASH, or NAME for the newest of that name.
        view: the view of the clips.
        rows: the rows of the clips; None for all of them, in the corpus's order.

    Raises:
        LogitStoreError: the ensemble is not in the store, or a member has changed since.
    """
    document = store.ensembles.read(corpus, split, reference)
    weights = store.ensembles.read_weights(corpus, split, reference)
    return ensemble.mean_logits(
        store.read([replace(key, view=view) for key in weights], rows, dtype=np.float16),
        list(weights.values()),
        temperatures_M=[member["temperature"] for member in document["members"]],
        space=document["space"],
    )
