"""A store as `make demo` leaves it, on a few of its clips and without the minutes: teachers that are
drawn at random, and a small student that took two steps, and two in int8 (N clips, K classes)."""

from dataclasses import replace

import numpy as np
import torch

from audio.clips import Corpus
from audio.corpora import demo
from jobs.fanout import Task
from jobs.job_log import JobLog
from logit_store import LogitKey, LogitStore
from students import RECIPES, Soft
from students.distill import distill
from students.int8 import Int8Recipe, learn_in_int8

TEACHERS = {
    "demo_mn": "mobilenet",
    "demo_dymn": "dymn",
    "demo_passt": "passt",
    "demo_cpr": "cp_resnet",
}
PER_FOLD = {"fit": 3, "select": 2, "test": 2}
"""Clips of each scene, of split 25; they are in split 100 too."""


def few_clips() -> Corpus:
    """Of the demo corpus, some clips of each scene and fold."""
    corpus = demo.read()
    scenes, folds = corpus.column("scene"), np.array(corpus.table["fold_25"].to_pylist())
    rows = [
        row
        for scene in corpus.scenes
        for fold, count in PER_FOLD.items()
        for row in np.flatnonzero((scenes == scene) & (folds == fold))[:count]
    ]
    return corpus.keep(corpus.table["clip_id"].take(rows).to_pylist())


def write_demo_store(address: str) -> LogitStore:
    """Teachers, and of split 100 a student and what it became in int8.

    Decoded audio goes to $TUTTI_CACHE.
    """
    store, corpus = LogitStore(address), few_clips()
    write_teachers(store, corpus)
    with JobLog(store) as log:
        taught = Task("demo_mn split 25 seed 0", print, {}, tuple(store.keys(split=25)[:1]))
        log.plan([taught], [False])
        log.ended(taught)
    _teach_student(store, corpus)
    return store


def write_teachers(store: LogitStore, corpus: Corpus) -> None:
    """The clips, and the logits of four teachers of splits 25 and 100."""
    store.write_clips("demo", corpus.clips_table())
    rng = np.random.default_rng(0)
    certain_NK = 2.0 * np.eye(len(corpus.scenes))[corpus.labels()]
    for split in (25, 100):
        for name, family in TEACHERS.items():
            record = {"kind": "teacher", "family": family, "protocol": "honest", "seed": 0}
            logits_NK = certain_NK + rng.normal(size=certain_NK.shape)
            key = LogitKey("demo", split, f"{name}-{split:012x}")
            store.write(key, logits_NK, record | {"recipe": {"name": name, "model": name}})


def _teach_student(store: LogitStore, corpus: Corpus) -> None:
    recipe = RECIPES["demo_isotropic"]
    recipe = replace(
        recipe,
        arguments={"filters": 16, "depth": 2},
        training=replace(recipe.training, max_epochs=1, max_steps=2),
    )
    teacher = LogitKey("demo", 100, f"demo_cpr-{100:012x}")
    (logits_NK,) = store.read([teacher])
    soft, cpu = Soft(teacher.member, logits_NK), torch.device("cpu")
    taught = distill(recipe, corpus, 100, 0, store, soft, responses=None, device=cpu)
    settings = Int8Recipe(epochs=1, max_steps=2)
    learn_in_int8(taught, settings, corpus, store, soft, responses=None, device=cpu)
