"""Clips for benchmarks of the store: as many as asked, of nothing in particular."""

import numpy as np
import pyarrow as pa

from logit_store import CLIPS_SCHEMA

SCENES = tuple("abcdefghij")


def clips(n: int) -> pa.Table:
    """A table that `LogitStore.write_clips` takes, ten clips a recording, scenes in turn."""
    text = {
        "clip_id": [f"clip-{row}" for row in range(n)],
        "scene": [SCENES[row % len(SCENES)] for row in range(n)],
        "recording": [f"recording-{row // 10}" for row in range(n)],
        "city": ["city"] * n,
        "recording_device": ["a"] * n,
    }
    folds = {name: ["fit"] * n for name in CLIPS_SCHEMA.names if name.startswith("fold_")}
    return pa.table({"row": np.arange(n), **text, **folds}).cast(CLIPS_SCHEMA)
