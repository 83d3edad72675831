"""Tables of synthetic clips for benchmarks of the store."""

import numpy as np
import pyarrow as pa

from logit_store import CLIPS_SCHEMA

SCENES = tuple("abcdefghij")
DEVICES = ("a", "b", "c", "s1", "s2", "s3")
FOLDS = ("fit", "fit", "fit", "select", "test")


def make_clips(n: int) -> pa.Table:
    """Return a table for `LogitStore.write_clips`.

    Scenes alternate. Seven consecutive clips come from one device, and ten belong to one recording.
    The recordings go to the folds in turn, in all splits alike.
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
