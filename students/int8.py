"""A stored student as it computes in int8, and how it learns on so (quantisation-aware training).

Dimensions: B clips in a batch, N clips.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio import impulse_responses
from audio.clips import Corpus
from audio.feed import Feed
from logit_store import LogitKey, LogitStore, plain_name
from students import stored
from students.catalogue import ARCHITECTURES
from students.cp_mobile import CPMobile
from students.objective import Objective
from students.quantise import CALIBRATION_CLIPS, calibrate, move_ranges, quantised
from students.recipes import StudentRecipe
from students.soft import Soft
from students.stored import StoredStudent
from students.student import Student
from students.views import check_views
from training import (
    Batch,
    OnEpoch,
    RampHoldLinear,
    Run,
    TrainingRecipe,
    learn_and_store,
    member_key,
)

MOVING_SHARE = 0.8
"""Of the epochs: so long the learning rate falls and the ranges move; 16 of the published 20."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Recipe:
    """How a student that has learnt gets used to int8; all else is as when it learnt.

    Source: cpjku_dcase23 (CP-Mobile): Adam with 5e-5, over 16 of 20 epochs on a line to a tenth,
    the last epoch's weights. OURS: ranges are set by untouched clips before the first step; they
    stand still by the epochs' share; norms that no convolution takes in go on learning.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int = 20
    learning_rate: float = 5e-5
    """At its peak."""
    max_steps: int | None = None
    """The run ends after so many steps at the latest; None is no such end."""
    calibration_clips: int = CALIBRATION_CLIPS
    """So many clips of the fold fit, at most, set the ranges before the first step."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate!r}, expected a number above 0")
        for name in ("epochs", "max_steps", "calibration_clips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value!r}, expected 1 or more")

    def training(self, taught: StudentRecipe) -> TrainingRecipe:
        """How the loop runs, for a student that was taught so."""
        base = taught.training
        return replace(
            base,
            max_epochs=self.epochs,
            max_steps=self.max_steps,
            peak_learning_rate=self.learning_rate,
            # OURS: the discriminator was not kept. A new one learns as fast as the first did.
            head_learning_rate=base.peak_learning_rate if taught.device_loss_weight else None,
            schedule=RampHoldLinear(
                ramp_epochs=0,
                hold_until_epoch=1,
                line_epochs=max(1, round(MOVING_SHARE * self.epochs)),
                last_factor=0.1,
            ),
            patience=None,
            keep="last",
        )


def in_int8(
    taken: StoredStudent, feed: Feed, calibration_clips: int = CALIBRATION_CLIPS
) -> Student:
    """A student as it computes in int8, in evaluation mode.

    One that has learnt so is itself; of any other the ranges are those of untouched clips
    (post-training quantisation).

    Args:
        taken: the student.
        feed: of the corpus that it learnt, on the student's device.
        calibration_clips: so many of the fold fit, at most, set its ranges.
    """
    if taken.learnt_in_int8:
        return taken.student
    student = quantised(taken.student, feed.input_shape)
    calibrate(student, _calibration_inputs(feed, taken.key.split, calibration_clips))
    return student


def _calibration_inputs(feed: Feed, split: int, n_clips: int) -> Iterable[Tensor]:
    """Clips of the fold fit, spread over all of it: batches [B, C, F, T]."""
    fit = feed.corpus.rows(split, "fit")
    spread = np.linspace(0, len(fit) - 1, min(n_clips, len(fit))).astype(np.int64)
    return feed.batches(fit[spread])


def int8_key(
    start: LogitKey,
    record: dict[str, Any],
    settings: Int8Recipe,
    corpus: Corpus,
    responses: Path | None,
) -> LogitKey:
    """Where the logits of a student are that has learnt on in int8.

    Args:
        start: of the student that it begins as.
        record: of that student.
        settings: how it learns on.
        corpus: whose clips both learn.
        responses: folder of impulse responses; None is the synthetic set.

    Raises:
        NoStudent: `start` is no student, or of another version.
        ValueError: it has learnt in int8 already, it heard other impulse responses, or what taught
            it has no int8 form.
    """
    recipe = stored.recipe_of(record, start)
    if "quantisation" in record:
        raise ValueError(f"{start} has learnt in int8: name {record['quantised_from']}")
    heard, given = record["responses"], impulse_responses.identity(responses)
    if heard != given:
        raise ValueError(
            f"{start} learnt with the impulse responses {heard}, these are {given}: give the same "
            "folder"
        )
    if recipe.challenge is not None and ARCHITECTURES[recipe.model].make is CPMobile:
        raise ValueError(
            f"{start} was taught with {recipe.challenge}, which asks a classifier by itself; that of "
            f"{recipe.model} is part of other layers in int8: export it without learning on"
        )
    name = f"{plain_name(start.member)}_int8"
    identity = {"quantised_from": start.member, "settings": settings}
    return member_key(name, corpus, start.split, record["seed"], responses, identity)


def learn_in_int8(
    start: LogitKey,
    settings: Int8Recipe,
    corpus: Corpus,
    store: LogitStore,
    soft: Soft | None,
    *,
    responses: Path | None,
    device: torch.device,
    on_epoch: OnEpoch = lambda figures: None,
) -> LogitKey:
    """Let a stored student learn on in int8, and store it as a member of its own, unless it is there.

    It minimises what taught it: from the same teachers, with the same changes of the clips, on the
    same split. A convolution takes in its norm as in evaluation, so that this one's statistics
    stand still.

    Args:
        start: of the student that it begins as.
        settings: how it learns on.
        corpus: that it learnt.
        store: where the student is, and where checkpoints, weights, record and logits go.
        soft: as for `students.distill.distill`, of the same name as that which taught it.
        responses: the same folder of impulse responses; None for the synthetic set.
        device: where to learn.
        on_epoch: called after each epoch with its figures.

    Raises:
        NoStudent, ValueError: as for `int8_key`; or soft labels of others than taught it.
        UnfitSoftLabels: soft labels of other clips, classes or views.
        LogitStoreError: the student is not there, or a member that taught it lacks a view.
    """
    record = store.record(start)
    key = int8_key(start, record, settings, corpus, responses)
    if key in store:
        return key
    given = soft.name if soft else None
    if given != record["ensemble"]:
        raise ValueError(f"{start} was taught by {record['ensemble']}, not by {given}")
    if soft is not None:
        check_views(stored.recipe_of(record), soft.members, store, responses)
    run, student = _run(start, record, settings, corpus, store, soft, responses, device)
    learnt = {name: record[name] for name in _KEPT} | {
        "quantised_from": start.member,
        "quantisation": asdict(settings) | {"input_shape": run.feed.input_shape},
    }
    learn_and_store(run, key, "student", student, learnt, store, on_epoch)
    return key


_KEPT = ("recipe", "seed", "ensemble", "responses", "macs", "params")
"""What the record says as that of the student does which it was."""


def _run(
    start: LogitKey,
    record: dict[str, Any],
    settings: Int8Recipe,
    corpus: Corpus,
    store: LogitStore,
    soft: Soft | None,
    responses: Path | None,
    device: torch.device,
) -> tuple[Run, Student]:
    """What `training.fit` takes to teach it, and the student in it."""
    recipe = stored.recipe_of(record)
    torch.manual_seed(record["seed"])
    feed = Feed.open(corpus, recipe.front_end, recipe.augmentation, responses, device)
    taken = stored.load(store, start, len(corpus.scenes))
    taken.student.to(device)
    student = in_int8(taken, feed, settings.calibration_clips)
    objective = Objective(recipe, student, feed, start.split, soft).to(device)

    def loss(batch: Batch) -> Tensor:
        move_ranges(student, batch.progress < MOVING_SHARE)
        return objective.loss(batch)

    run = Run(
        objective,
        loss,
        student,
        feed,
        start.split,
        settings.training(recipe),
        record["seed"],
        protocol=record["protocol"],
        head=("discriminator",) if recipe.device_loss_weight else (),
        n_views=recipe.distillation.n_views if recipe.distillation else None,
    )
    return run, student
