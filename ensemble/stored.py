"""What an ensemble of the store says of clips, float32 [N, K]."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.combine import mean_logits
from logit_store import LogitStore


def ensemble_logits(
    store: LogitStore,
    corpus: str,
    split: int,
    reference: str,
    view: int = 0,
    rows: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """What an ensemble says of a view of clips.

    Its members are as they were selected, which was on view 0.

    Args:
        store: has the ensemble and its members' logits.
        corpus: whose clips.
        split: that its members learnt from.
        reference: NAME@HASH, or NAME for the newest of that name.
        view: of the clips.
        rows: which clips; None is all of them, in the corpus's order.

    Raises:
        LogitStoreError: it is not there, or a member is not what it was.
    """
    document = store.read_ensemble(corpus, split, reference)
    weights = store.pinned(corpus, split, reference)
    return mean_logits(
        store.read([replace(key, view=view) for key in weights], rows, dtype=np.float16),
        list(weights.values()),
        temperatures_M=[member["temperature"] for member in document["members"]],
        space=document["space"],
    )
