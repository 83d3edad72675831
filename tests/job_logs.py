"""Logs of jobs in a store, made without a cluster."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.log.task_log import keep_log
from jobs.schedule.job_log import JobLog
from jobs.schedule.task import Task
from logit_store import CLIPS_SCHEMA, LogitKey, LogitStore

CORPUS = "tau"


@dataclass(frozen=True, slots=True)
class NoWork:
    """Work that is only planned."""

    def run(self) -> None:
        """Do nothing."""


def make_task(name: str, *, makes_logits: bool = True) -> Task[NoWork]:
    """Return a task that makes the logits of a member with its name, or no logits."""
    member = name.replace(" ", "_") + "-0123456789ab"
    return Task(name, NoWork(), (LogitKey(CORPUS, 25, member),) if makes_logits else ())


def write_clips(store: LogitStore) -> None:
    """Write two clips into the store, so that it accepts logits."""
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
    """Store the logits of tasks, which are done then."""
    for task in tasks:
        for key in task.keys:
            store.write(key, np.zeros((2, 2)), {"kind": "teacher"})


def fail(log: JobLog, task: Task, error: Exception) -> None:
    """End a task with an error of its own, in the worker's log and in the driver's."""
    try:
        with keep_log(log.find_task_log(task)):
            raise error
    except type(error):
        log.note_end(task, type(error).__name__)


def make_old(store: LogitStore, pattern: str, age_s: float) -> None:
    """Make objects of a store on disk look as old as `age_s`."""
    then = time.time() - age_s
    for entry in store.files.find(pattern):
        os.utime(Path(store.address) / entry.name, (then, then))
