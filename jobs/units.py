"""What Ray runs: plain functions that find all they need by name, and are safe to run twice."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from jobs.cluster import reserved_device
from jobs.command import Where, console
from jobs.tables import duration
from jobs.unit_log import Unit, current_unit, logged, tell
from logit_store import LogitKey, LogitStore
from students import Soft, StudentRecipe
from students.distill import distill
from students.int8 import Int8Recipe, learn_in_int8
from students.stored import recipe_of
from teachers import TeacherRun, finetune
from teachers.finetune import teacher_key
from training import Figures, OnEpoch
from training.dry_step import DryStep
from training.parallel import workers
from training.recipe import judging_fold

if TYPE_CHECKING:
    from jobs.work import Kind


def teach(
    run: TeacherRun,
    where: Where,
    responses: Path | None,
    n_views: int,
    n_gpus: int = 1,
) -> LogitKey:
    """Teach one teacher one split, on one device or on several GPUs; see `teachers.finetune`."""
    if n_gpus == 1:
        return teach_on(reserved_device(), run, where, responses, n_views)
    # Ray Train takes seconds to import, in every worker, and most runs need none of it.
    from jobs.together import teach_together

    opened, clips = where.open()
    key = teacher_key(run, clips, responses)
    arguments = (run, where, responses, n_views, current_unit())
    notes = opened.object_address(f"teachers/v1/{key.member}/train")
    teach_together(arguments, notes, n_workers=n_gpus, use_gpu=True)
    return key


def teach_on(
    device: torch.device,
    run: TeacherRun,
    where: Where,
    responses: Path | None,
    n_views: int,
    unit: Unit | None = None,
) -> LogitKey:
    """Teach one teacher one split on this device; `unit` if it is part of one in a process group."""
    opened, clips = where.open()
    fold = judging_fold(run.protocol)
    # One of the group tells for all; what runs by itself has its log already.
    with logged(unit) if workers().leads else nullcontext():
        return finetune(
            run,
            clips,
            opened,
            responses=responses,
            device=device,
            n_views=n_views,
            on_epoch=_speaker(run.name, fold),
        )


def measure(name: str, kind: "Kind") -> tuple[str, DryStep]:
    """The dry step of a kind of runs on the GPU that Ray reserved for it, under a name."""
    return name, kind.dry_step(reserved_device())


def learn(
    recipe: StudentRecipe,
    where: Where,
    split: int,
    seed: int,
    responses: Path | None,
    taught_by: str | None,
    n_views: int = 1,
) -> LogitKey:
    """Teach one student one split, from an ensemble, a member or alone; see `students.distill`."""
    opened, clips = where.open()
    soft = None
    if taught_by is not None and recipe.distillation is not None:
        soft = soft_of(opened, clips.name, split, taught_by, recipe.distillation.n_views)
    return distill(
        recipe,
        clips,
        split,
        seed,
        opened,
        soft,
        responses=responses,
        device=reserved_device(),
        n_views=n_views,
        on_epoch=_speaker(f"{recipe.name} split {split} seed {seed}", "select"),
    )


def learn_on_in_int8(
    start: LogitKey, settings: Int8Recipe, where: Where, responses: Path | None
) -> LogitKey:
    """Let a stored student learn on in int8, from what taught it; see `students.int8`."""
    opened, clips = where.open()
    record = opened.record(start)
    distillation, soft = recipe_of(record).distillation, None
    if distillation is not None:
        taught_by = record["ensemble"]
        soft = soft_of(opened, clips.name, start.split, taught_by, distillation.n_views)
    return learn_in_int8(
        start,
        settings,
        clips,
        opened,
        soft,
        responses=responses,
        device=reserved_device(),
        on_epoch=_speaker(f"{start} in int8", judging_fold(record["protocol"])),
    )


def soft_of(
    store: LogitStore, corpus: str, split: int, taught_by: str, n_views: int | None
) -> Soft:
    """What teaches a student: the logits of an ensemble, `NAME@HASH`, or of a member.

    Of the untouched clips [N, K], or if it learns from stored views of these views [V, N, K].
    """
    members = teachers_of(store, corpus, split, taught_by)
    views = []
    for view in range(n_views or 1):
        if "@" in taught_by:
            views.append(ensemble_logits(store, corpus, split, taught_by, view))
        else:
            views += list(store.read([replace(members[0], view=view)]))
    return Soft(taught_by, views[0] if n_views is None else np.stack(views), members)


def teachers_of(store: LogitStore, corpus: str, split: int, taught_by: str) -> tuple[LogitKey, ...]:
    """View 0 of the members of an ensemble, `NAME@HASH`, or of the one member that is named.

    Raises:
        LogitStoreError: it is not there, or an ensemble's member is not what it was.
    """
    if "@" in taught_by:
        return tuple(store.pinned(corpus, split, taught_by))
    member = LogitKey(corpus, split, taught_by)
    store.footer(member)
    return (member,)


def ensemble_logits(
    store: LogitStore, corpus: str, split: int, reference: str, view: int = 0
) -> np.ndarray:
    """What an ensemble says of a view of all clips, float32 [N, K]; see `ensemble.stored`."""
    # Numba takes a second to import, and most workers need none of it.
    from ensemble import stored

    return stored.ensemble_logits(store, corpus, split, reference, view)


def _speaker(name: str, fold: str) -> OnEpoch:
    """Says how a run goes, on the console and in its log: a line an epoch."""

    def speak(figures: Figures) -> None:
        console.print(f"{name}: {tell_epoch(figures, fold)}", markup=False)

    return speak


def tell_epoch(figures: Figures, fold: str) -> str:
    """Keep how an epoch of the unit that runs now went, for its log; the line."""
    line = (
        f"epoch {figures['epoch']}/{figures['max_epochs']}, loss {figures['loss']:.3f}, on {fold}: "
        f"log loss {figures[f'{fold}_log_loss']:.3f}, macro accuracy "
        f"{100 * figures[f'{fold}_accuracy']:.1f} %; {figures['clips_per_s']:.0f} clips/s, at most "
        f"{duration(figures['time_left_s'])} left"
    )
    tell(
        line,
        epoch=int(figures["epoch"]),
        max_epochs=int(figures["max_epochs"]),
        clips_per_s=figures["clips_per_s"],
        time_left_s=figures["time_left_s"],
    )
    return line
