"""Clips for benchmarks of the store: as many as asked, of nothing in particular."""

import numpy as np
import pyarrow as pa

from logit_store import CLIPS_SCHEMA

SCENES = tuple("abcdefghij")
DEVICES = ("a", "b", "c", "s1", "s2", "s3")
FOLDS = ("fit", "fit", "fit", "select", "test")


def clips(n: int) -> pa.Table:
    """A table that `LogitStore.write_clips` takes.

    Scenes in turn, seven clips after one another from one device; ten clips are a recording, and
    recordings take the folds in turn, the same ones in all splits.
    """
    rows = np.arange(n)
    text = {
        "clip_id": [f"clip-{row}" for row in rows],
        "scene": np.array(SCENES)[rows % len(SCENES)],
        "recording": [f"recording-{row // 10}" for row in rows],
        "city": ["city"] * n,
        "recording_device": np.array(DEVICES)[rows // 7 % len(DEVICES)],
    }
    fold_N = np.array(FOLDS)[rows // 10 % len(FOLDS)]
    folds = {name: fold_N for name in CLIPS_SCHEMA.names if name.startswith("fold_")}
    return pa.table({"row": rows, **text, **folds}).cast(CLIPS_SCHEMA)
