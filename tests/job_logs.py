"""Jobs whose logs lie in a store, made without a cluster."""

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.fanout import Task
from jobs.job_log import JobLog
from jobs.unit_log import logged
from logit_store import CLIPS_SCHEMA, LogitKey, LogitStore

CORPUS = "tau"


def unit(name: str, *, makes_logits: bool = True) -> Task:
    """A unit that makes the logits of a member of its name, or none."""
    member = name.replace(" ", "_") + "-0123456789ab"
    return Task(name, print, {}, (LogitKey(CORPUS, 25, member),) if makes_logits else ())


def write_clips(store: LogitStore) -> None:
    """Let the store have two clips, so that it takes logits."""
    columns = {
        "row": [0, 1],
        "clip_id": ["x", "y"],
        "scene": ["bus", "park"],
        "recording": ["r", "s"],
        "city": ["lyon", "lyon"],
        "recording_device": ["a", "a"],
    }
    folds = {name: ["fit", "select"] for name in CLIPS_SCHEMA.names if name.startswith("fold_")}
    store.write_clips(CORPUS, pa.table(columns | folds, schema=CLIPS_SCHEMA))


def store_logits(store: LogitStore, *tasks: Task) -> None:
    """Let units be done."""
    for task in tasks:
        for key in task.keys:
            store.write(key, np.zeros((2, 2)), {"kind": "teacher"})


def fail(log: JobLog, task: Task, error: Exception) -> None:
    """Let a unit end by an error of its own, in the worker and for the driver."""
    try:
        with logged(log.unit(task)):
            raise error
    except type(error):
        log.ended(task, type(error).__name__)


def make_old(store: LogitStore, pattern: str, age_s: float) -> None:
    """Let objects of a store on disk have been written so long ago."""
    then = time.time() - age_s
    for entry in store.files.entries(pattern):
        os.utime(Path(store.address) / entry.name, (then, then))
