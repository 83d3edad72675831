"""Logits of an ensemble that is in the store."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import ensemble
from logit_store import DamagedFile, LogitKey, LogitStore

SEVERAL = "several"
"""What a document says of `labels` if a clip may have several or none; else it says nothing."""


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
    keys = tuple(store.ensembles.read_weights(corpus, split, reference))
    return average_members(store, keys, document, view, rows)


def average_members(
    store: LogitStore,
    keys: Sequence[LogitKey],
    document: Mapping[str, Any],
    view: int = 0,
    rows: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """Compute the logits of an ensemble as `compute_ensemble_logits` does, float32 [N, K].

    Args:
        store: the store with its members' logits, which are those that were selected.
        keys: of its members, in the document's order.
        document: what the selection wrote into the store.
        view: the view of the clips.
        rows: the rows of the clips; None for all of them, in the corpus's order.

    Raises:
        DamagedFile: the document does not say how its members are averaged.
    """
    members = document["members"]
    try:
        temperatures_M = [float(member["temperature"]) for member in members]
        space = document["space"]
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise DamagedFile(f"the ensemble of {keys[0]} and others", repr(error)) from error
    return ensemble.mean_logits(
        store.read([replace(key, view=view) for key in keys], rows, dtype=np.float16),
        [float(member["weight"]) for member in members],
        temperatures_M=temperatures_M,
        space=space,
        several=document.get("labels") == SEVERAL,
    )
