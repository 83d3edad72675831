"""Makes a large store without training: members with records and curves, ensembles, one long job.

Dimensions: N clips of the demo, K classes.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audio.clips import SPLITS, Corpus
from audio.corpora import demo
from jobs.log.files import (
    AttemptRecord,
    DriverRecord,
    PlannedTask,
    PlanPart,
    encode_document,
    locate_attempt,
    locate_driver,
    locate_plan,
)
from logit_store import LogitKey, LogitStore, name_member
from logit_store.files import Part
from logit_store.folder import Folder
from students import RECIPES as STUDENTS
from students import drop_teachers
from teachers.recipes import RECIPES as TEACHERS
from training.keys import locate_record
from training.provenance import describe_provenance

TEACHER_NAMES = ("demo_mn", "demo_dymn", "demo_passt", "demo_cpr")
N_SEEDS = 2
N_EPOCHS = 28
N_CHOSEN = 8
"""Members of each ensemble."""
N_LINES = 550
"""Lines of the log of each unit, which are about as many as the store keeps."""
JOB = "20260101T000000Z-teachers-0000"
SINCE = 1_767_225_600.0
"""When the job began: 2026-01-01, in Unix seconds."""

_OPTIMISM = {
    "selected_on": 0.8,
    "nested": 0.9,
    "optimism": {"value": 0.1, "low": -0.1, "high": 0.3},
    "n_folds": 8,
}


class _Unsynced(Folder):
    """A folder whose files do not survive a power failure: thousands of fsyncs take minutes."""

    def put(self, name: str, *parts: Part) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(map(memoryview, parts)))


@dataclass(frozen=True, slots=True)
class _Member:
    key: LogitKey
    record: Mapping[str, Any]


def make_large_store(
    root: Path,
    *,
    n_members: int,
    n_units: int,
    corpus: Corpus | None = None,
    n_seeds: int = N_SEEDS,
) -> LogitStore:
    """Make a store of a corpus in a new folder; None: of the demo's.

    Half of its members are teachers, in equal parts of all splits. The others are students, every
    second one taught by an ensemble. All have `n_seeds` seeds for each recipe, and recipes of one name
    differ in their learning rate. There is one ensemble for each split with teachers, and one job
    that has ended, whose tasks made the first `n_units` members.
    """
    store, corpus = LogitStore(root), corpus or demo.read()
    store.files = _Unsynced(root)
    store.write_clips(corpus.name, corpus.clips_table())
    generator = np.random.default_rng(0)
    teachers = list(islice(_list_teachers(corpus, n_seeds), n_members // 2))
    for member in teachers:
        _write_member(store, corpus, member, generator)
    references = {
        split: _write_ensemble(store, corpus, [m.key for m in teachers if m.key.split == split])
        for split in sorted({member.key.split for member in teachers})
    }
    students = list(islice(_list_students(corpus, references, n_seeds), n_members - len(teachers)))
    for member in students:
        _write_member(store, corpus, member, generator)
    _write_job(store, [member.key for member in [*teachers, *students][:n_units]])
    return store


def _list_teachers(corpus: Corpus, n_seeds: int) -> Iterator[_Member]:
    for step in range(10**6):
        for name in TEACHER_NAMES:
            recipe = _vary(TEACHERS[name], step)
            for split in SPLITS:
                more = {"family": name}
                yield from _list_seeds(corpus, "teacher", recipe, split, more, n_seeds)


def _list_students(
    corpus: Corpus, references: Mapping[int, str], n_seeds: int
) -> Iterator[_Member]:
    taught = STUDENTS["demo_isotropic"]
    for step in range(10**6):
        for split, reference in references.items():
            for recipe, teacher in ((taught, reference), (drop_teachers(taught), None)):
                more = {"ensemble": teacher, "macs": 29_747_784, "params": 47_816}
                varied = _vary(recipe, step)
                yield from _list_seeds(corpus, "student", varied, split, more, n_seeds)


def _vary(recipe: Any, step: int) -> Any:
    rate = recipe.training.peak_learning_rate * 1.001**step
    return replace(recipe, training=replace(recipe.training, peak_learning_rate=rate))


def _list_seeds(
    corpus: Corpus,
    kind: str,
    recipe: Any,
    split: int,
    more: Mapping[str, Any],
    n_seeds: int,
) -> Iterator[_Member]:
    for seed in range(n_seeds):
        name = name_member(recipe.name, {"recipe": recipe, "split": split, "seed": seed, **more})
        record = {
            "kind": kind,
            "recipe": dataclasses.asdict(recipe),
            "protocol": "honest",
            "seed": seed,
            "responses": "synthetic-20230507",
            "epochs": N_EPOCHS,
            "best_epoch": N_EPOCHS,
            "training_s": 100.0,
            "last_attempt_s": 101.0,
            "weights_sha256": 64 * "0",
            **more,
        }
        yield _Member(LogitKey(corpus.name, split, name), record)


def _write_member(
    store: LogitStore, corpus: Corpus, member: _Member, generator: np.random.Generator
) -> None:
    record = {**member.record, **_PROVENANCE}
    labels_N = corpus.labels()
    logits_NK = generator.standard_normal((len(labels_N), len(corpus.scenes)), np.float32)
    logits_NK[np.arange(len(labels_N)), labels_N] += generator.uniform(0.5, 2)
    store.write(member.key, logits_NK, record)
    content = json.dumps(record | {"history": [_make_epoch(n) for n in range(1, N_EPOCHS + 1)]})
    name = locate_record(member.record["kind"], member.key.member)
    store.objects.write(name, content.encode())


_PROVENANCE = describe_provenance(torch.device("cpu"))


def _make_epoch(epoch: int) -> dict[str, float]:
    return {
        "epoch": epoch,
        "max_epochs": N_EPOCHS,
        "loss": 1.5123456789 / epoch,
        "select_log_loss": 2.079123456789 / epoch,
        "select_accuracy": 0.5,
        "learning_rate": 0.00123456789,
        "clips_per_s": 43.123456789,
        "took_s": 3.123456789,
        "time_left_s": 3.123456789 * (N_EPOCHS - epoch),
        "ended": SINCE + epoch,
    }


def _write_ensemble(store: LogitStore, corpus: Corpus, keys: list[LogitKey]) -> str:
    """Write a mean of some candidates, as a selection would, and return NAME@HASH."""
    split, chosen = keys[0].split, keys[:N_CHOSEN]
    # Not from the catalogue, which stays as absent as after an import of files.
    candidates = [
        {"member": key.member, "hash": store.read_footer(key).logits_hash} for key in keys
    ]
    document = {
        "space": "logits",
        "members": [
            {**each, "weight": 1 / len(chosen), "temperature": 1.0}
            for each in candidates[: len(chosen)]
        ],
        "order": [key.member for key in chosen],
        "losses": [1 / step for step in range(1, len(chosen) + 1)],
        "clips": len(corpus.rows(split, "select")),
        "fold": "select",
        "candidates": candidates,
        "settings": {"metric": "log_loss"},
        "temperature": 1.0,
        "optimism": _OPTIMISM,
    }
    return store.ensembles.write(corpus.name, split, "stepwise", document)


def _write_job(store: LogitStore, keys: list[LogitKey]) -> None:
    tasks = [
        PlannedTask(number=number, name=f"{key.member} split {key.split}", keys=(str(key),))
        for number, key in enumerate(keys, start=1)
    ]
    driver = DriverRecord(
        command="python jobs/teachers.py",
        commit=None,
        host="node-0",
        pid=1,
        since=SINCE,
        told=SINCE + 3600,
        state="ended",
    )
    store.objects.write(locate_plan(JOB, 1), encode_document(PlanPart(units=tasks)))
    store.objects.write(locate_driver(JOB), encode_document(driver))
    for task in tasks:
        name = locate_attempt(JOB, task.number, f"{round(1000 * SINCE):014d}-00000000")
        store.objects.write(name, encode_document(_make_attempt(task)))


def _make_attempt(task: PlannedTask) -> AttemptRecord:
    return AttemptRecord(
        unit=task.name,
        node=f"node-{task.number % 8}",
        pid=task.number,
        since=SINCE,
        told=SINCE + 100,
        state="done",
        epoch=N_LINES,
        max_epochs=N_LINES,
        clips_per_s=43.123456789,
        time_left_s=0.0,
        lines=[
            f"epoch {epoch}/{N_LINES}, loss {1.5 / epoch:.3f}, on select: log loss "
            f"{2.079 / epoch:.3f}, macro accuracy 12.5 %; 43 clips/s, at most 2 min left"
            for epoch in range(1, N_LINES + 1)
        ],
    )
