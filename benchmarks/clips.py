"""Tables of synthetic clips for benchmarks of the store."""

import numpy as np
import pyarrow as pa

from logit_store import CLIPS_SCHEMA

SCENES = tuple("abcdefghij")
DEVICES = ("a", "b", "c", "s1", "s2", "s3")
UNSEEN_DEVICES = ("s4", "s5", "s6")
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


def make_judged_clips(n: int) -> pa.Table:
    """Return a table of clips of which four fifths are test clips, to measure what judges systems.

    A third of these are of devices that no other clip is of. Ten consecutive clips are one recording
    of one scene, as in TAU.
    """
    n_others = n // 5
    table = make_clips(n)
    recording_N = np.arange(len(table)) // 10
    is_test_N = np.arange(len(table)) >= n_others
    device_N = np.where(
        is_test_N,
        np.array(DEVICES + UNSEEN_DEVICES)[recording_N % 9],
        np.array(DEVICES)[recording_N % 6],
    )
    fold_N = np.where(is_test_N, "test", np.array(FOLDS[:-1])[recording_N % 4])
    columns = {"scene": np.array(SCENES)[recording_N % 10], "recording_device": device_N}
    columns |= {name: fold_N for name in table.column_names if name.startswith("fold_")}
    replaced = {name: columns.get(name, table[name]) for name in table.column_names}
    return pa.table(replaced).cast(CLIPS_SCHEMA)
