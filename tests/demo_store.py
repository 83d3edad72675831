"""A store like that of `make demo`, made in seconds from a few of its clips (N clips, K classes).

The teachers' logits are random; a small student has taken two steps, and two more in int8."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from job_logs import NoWork

from audio.clips import Corpus
from audio.corpora import demo
from audio.pools import find_pools
from jobs.schedule.job_log import JobLog
from jobs.schedule.task import Task
from logit_store import LogitKey, LogitStore
from students import RECIPES, TeacherLogits
from students.distill import distill
from students.int8 import train_in_int8
from students.pools import StudentPool
from students.recipe import Int8Recipe
from training import PoolUse

TEACHERS = {
    "demo_mn": "mobilenet",
    "demo_dymn": "dymn",
    "demo_passt": "passt",
    "demo_cpr": "cp_resnet",
    "probe_aisfx": "probe",
}
NO_OTHER: Any = None
"""No pool is another corpus."""
SPLIT = 25
"""The split whose logits the store holds."""
PER_FOLD = {"fit": 3, "select": 2, "test": 2, "rest": 1}
"""Clips of each scene in this split, and of those that it leaves out."""


def few_clips() -> Corpus:
    """Return the demo corpus with a few clips of each scene and fold."""
    corpus = demo.read()
    scenes, folds = corpus.column("scene"), np.array(corpus.table[f"fold_{SPLIT}"].to_pylist())
    (rest,) = find_pools(corpus, SPLIT, ["rest"], NO_OTHER)
    folds[rest.rows] = "rest"
    rows = [
        row
        for scene in corpus.scenes
        for fold, count in PER_FOLD.items()
        for row in np.flatnonzero((scenes == scene) & (folds == fold))[:count]
    ]
    return corpus.keep(corpus.table["clip_id"].take(rows).to_pylist())


def write_demo_store(address: str) -> LogitStore:
    """Write five teachers, and a student that learnt from a pool as it is and in int8.

    Decoded audio goes to $TUTTI_CACHE.
    """
    store, corpus = LogitStore(address), few_clips()
    write_teachers(store, corpus)
    with JobLog(store) as log:
        taught = Task("demo_mn split 25 seed 0", NoWork(), tuple(store.keys()[:1]))
        log.plan([taught], [False])
        log.note_end(taught)
    _teach_student(store, corpus)
    return store


def write_teachers(store: LogitStore, corpus: Corpus) -> None:
    """Write the clips, and the logits of five teachers."""
    store.write_clips("demo", corpus.clips_table())
    rng = np.random.default_rng(0)
    certain_NK = 2.0 * np.eye(len(corpus.scenes))[corpus.labels()]
    for name, family in TEACHERS.items():
        record = {"kind": "teacher", "family": family, "protocol": "honest", "seed": 0}
        logits_NK = certain_NK + rng.normal(size=certain_NK.shape)
        key = LogitKey("demo", SPLIT, f"{name}-{SPLIT:012x}")
        store.write(key, logits_NK, record | {"recipe": {"name": name, "model": name}})


def _teach_student(store: LogitStore, corpus: Corpus) -> None:
    recipe = RECIPES["tiny_isotropic"]
    recipe = replace(
        recipe,
        arguments={"filters": 16, "depth": 2},
        training=replace(recipe.training, max_epochs=1, max_steps=2),
    )
    teacher = LogitKey("demo", SPLIT, f"probe_aisfx-{SPLIT:012x}")
    (logits_NK,) = store.read([teacher])
    soft, cpu = TeacherLogits(teacher.member, logits_NK), torch.device("cpu")
    pool = StudentPool(pools=find_pools(corpus, SPLIT, ["rest"], NO_OTHER), use=PoolUse())
    taught = distill(recipe, corpus, SPLIT, 0, store, soft, responses=None, device=cpu, pool=pool)
    settings = Int8Recipe(epochs=1, max_steps=2)
    train_in_int8(taught, settings, corpus, store, soft, responses=None, device=cpu, pool=pool)
