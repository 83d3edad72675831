"""A stored student in simulated int8, and its fine-tuning there (quantisation-aware training).

Dimensions: B clips in a batch, N clips.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio.clips import Corpus
from audio.feed import Feed
from audio.micirp import HEARD_UNSEEN
from logit_store import LogitKey, LogitStore
from students.keys import make_int8_key
from students.objective import DistillationObjective
from students.pools import StudentPool, check_same_pool
from students.quantise import calibrate, move_ranges, quantise
from students.recipe import (
    CALIBRATION_CLIPS,
    MOVING_SHARE,
    FeatureDistillation,
    Int8Recipe,
    StudentRecipe,
)
from students.records import restore_recipe
from students.soft import TeacherLogits
from students.stored import StoredStudent, load_student
from students.student import Student
from students.views import check_views
from training import (
    Batch,
    OnEpoch,
    Run,
    train_and_store,
)


def simulate_int8(
    stored: StoredStudent, feed: Feed, calibration_clips: int = CALIBRATION_CLIPS
) -> Student:
    """Return a student as it computes in int8, in evaluation mode.

    A student that was fine-tuned in int8 is returned as it is; for any other, untouched clips set
    the ranges (post-training quantisation).

    Args:
        stored: the student.
        feed: the corpus that it was trained on, on the student's device.
        calibration_clips: at most this many clips of the fold fit set its ranges.
    """
    if stored.tuned_in_int8:
        return stored.student
    student = quantise(stored.student, feed.input_shape)
    calibrate(student, _iterate_calibration_inputs(feed, stored.key.split, calibration_clips))
    return student


def _iterate_calibration_inputs(feed: Feed, split: int, n_clips: int) -> Iterable[Tensor]:
    """Return clips that are spread over the fold fit, in batches [B, C, F, T]."""
    fit = feed.corpus.rows(split, "fit")
    spread = np.linspace(0, len(fit) - 1, min(n_clips, len(fit))).astype(np.int64)
    return feed.iterate_batches(fit[spread])


def train_in_int8(
    start: LogitKey,
    settings: Int8Recipe,
    corpus: Corpus,
    store: LogitStore,
    soft: TeacherLogits | None,
    *,
    responses: Path | None,
    device: torch.device,
    on_epoch: OnEpoch = lambda metrics: None,
    pool: StudentPool | None = None,
) -> LogitKey:
    """Fine-tune a stored student in int8, and store it as a member of its own, unless it is stored.

    The loss is that of its first training: the same teachers, the same changes of the clips, the same
    split. Norms are folded into convolutions as they are in evaluation, so their statistics stay
    fixed.

    Args:
        start: the key of the student that it starts from.
        settings: how it is fine-tuned.
        corpus: the corpus that the student was trained on.
        store: the store of the student, and of the checkpoints, weights, record and logits.
        soft: as for `students.distill.distill`, with the name of the same teachers.
        responses: the same folder of impulse responses; None for the synthetic set.
        device: where to train.
        on_epoch: called after each epoch with its metrics.
        pool: the same clips without labels that taught it, if some did.

    Raises:
        NoStudent, ValueError: as for `make_int8_key`; or the soft labels are those of other teachers,
            or the pool is another one.
        UnfitSoftLabels: soft labels of other clips, classes or views.
        LogitStoreError: the student is not in the store, or one of its teachers lacks a view.
    """
    record = store.read_record(start)
    key = make_int8_key(start, record, settings, corpus, responses)
    if key in store:
        return key
    ensemble = soft.name if soft else None
    if ensemble != record["ensemble"]:
        raise ValueError(f"{start} was taught by {record['ensemble']}, not by {ensemble}")
    embeddings = soft.embeddings.names if soft and soft.embeddings else ()
    if list(embeddings) != record.get("embeddings", []):
        raise ValueError(
            f"{start} learnt from the embeddings {record.get('embeddings')}, not from {list(embeddings)}"
        )
    check_same_pool(start, record, pool)
    if soft is not None:
        check_views(restore_recipe(record), soft.members, store, responses)
    run, student = _prepare_run(
        start, record, settings, corpus, store, soft, responses, device, pool
    )
    tuned = {name: record[name] for name in _KEPT if name in record} | {
        "quantised_from": start.member,
        "quantisation": asdict(settings) | {"input_shape": run.feed.input_shape},
    }
    train_and_store(run, key, "student", student, tuned, store, on_epoch)
    return key


_KEPT = (
    "recipe",
    "seed",
    "ensemble",
    "responses",
    HEARD_UNSEEN,
    "macs",
    "params",
    "params_in_float32",
    "ram",
    "pool",
    "start",
    "first_pool",
    "first_corpus",
    "pruned",
    "embeddings",
)
"""Entries of the record that are those of the student that it starts from."""


def _prepare_run(
    start: LogitKey,
    record: dict[str, Any],
    settings: Int8Recipe,
    corpus: Corpus,
    store: LogitStore,
    soft: TeacherLogits | None,
    responses: Path | None,
    device: torch.device,
    pool: StudentPool | None,
) -> tuple[Run, Student]:
    """Return the run for `training.fit`, and the student in it."""
    recipe = restore_recipe(record)
    torch.manual_seed(record["seed"])
    learnt = corpus if pool is None else pool.make_corpus(corpus, start.split)
    use = None if pool is None else pool.use
    feed = Feed.open(learnt, recipe.front_end, recipe.augmentation, responses, device)
    feed.learn_colours(start.split)
    stored = load_student(store, start, len(corpus.scenes))
    stored.student.to(device)
    student = simulate_int8(stored, feed, settings.calibration_clips)
    objective = DistillationObjective(recipe, student, feed, start.split, soft, use).to(device)

    def loss(batch: Batch) -> Tensor:
        move_ranges(student, batch.progress < MOVING_SHARE)
        return objective.compute_loss(batch)

    run = Run(
        objective,
        loss,
        student,
        feed,
        start.split,
        settings.make_training(recipe),
        record["seed"],
        protocol=record["protocol"],
        head=_list_parts_beside(recipe),
        n_views=recipe.distillation.n_views if recipe.distillation else None,
        pool=use,
    )
    return run, student


def _list_parts_beside(recipe: StudentRecipe) -> tuple[str, ...]:
    """Return the layers that learn as fast as in the first training, from new weights."""
    parts = {
        "discriminator": recipe.device_loss_weight > 0,
        "feature_target": isinstance(recipe.distillation, FeatureDistillation),
    }
    return tuple(name for name, is_there in parts.items() if is_there)
