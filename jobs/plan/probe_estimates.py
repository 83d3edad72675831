"""Estimates what embeddings and probes take, by records of earlier ones or else by a few steps on noise."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from audio.clips import Corpus
from jobs.plan.estimates import Estimate
from jobs.plan.probes import EMBEDDING_BYTES, EmbeddingPlan, ProbePlan, count_fit_bytes
from jobs.plan.records import Machine
from jobs.plan.workload import FOOTER_BYTES
from jobs.schedule.task import Needs, Task
from jobs.worker.device import find_device
from jobs.worker.probes import FitProbe
from logit_store import EmbeddingKey, LogitStore, MissingStore
from teachers.backbones import Backbone, name_backbone
from teachers.linear_head import N_STEPS
from teachers.logistic import measure_evaluation
from teachers.probes import find_learning_rows


@dataclass(frozen=True, slots=True)
class _Pace:
    """How fast a backbone is, how wide its embeddings are, and whether an earlier run has shown it."""

    clip_s: float
    n_dims: int
    is_recorded: bool


def estimate_probes(
    planned: ProbePlan, store: LogitStore, device: Machine, needs: Needs
) -> tuple[list[str], dict[str, Estimate]]:
    """Estimate what the missing embeddings and probes take.

    Args:
        planned: the plan.
        store: has results and records of earlier commands.
        device: the machine that they compute on.
        needs: of a worker that embeds.

    Returns:
        The names of all probes, and before them of the embeddings that are to be computed: those of a
        view of a corpus together. The estimates by name; what has none is in the store.
    """
    embeddings, fits = planned.find_missing(store)
    paces = _find_paces(planned, fits, store, device)
    estimates = {
        name_embeddings(each): _estimate_embedding(each, paces[each.backbone.name], needs)
        for each in embeddings
    }
    names = [*estimates, *(task.name for task in planned.tasks)]
    return names, estimates | {task.name: _estimate_fit(task, planned, paces) for task in fits}


def expect_probes(
    planned: ProbePlan, store: LogitStore, needs: Needs, device: Machine
) -> list[tuple[Task[Any], float]]:
    """Return the tasks that are to be done for the probes, with the seconds that each is expected to take.

    Joining takes next to nothing, and is left out. Arguments as for `estimate_probes`.
    """
    (_, estimates), (embeddings, fits) = (
        estimate_probes(planned, store, device, needs),
        planned.find_missing(store),
    )
    shards = [
        (task, estimates[name_embeddings(each)].seconds / len(each.shards))
        for each in embeddings
        for task in each.shards
    ]
    return [*shards, *((task, estimates[task.name].seconds) for task in fits)]


def name_embeddings(planned: EmbeddingPlan) -> str:
    """Return the name of the embeddings of one view of a corpus, which people see."""
    key, n = planned.key, len(planned.shards)
    shards = "1 task" if n == 1 else f"{n} tasks"
    return f"{key.backbone} of {key.corpus}, view {key.view} ({shards})"


def _estimate_embedding(planned: EmbeddingPlan, pace: _Pace, needs: Needs) -> Estimate:
    if not needs.gpus:
        needs = replace(needs, memory_bytes=EMBEDDING_BYTES)
    return Estimate(
        seconds=pace.clip_s * len(planned.corpus),
        needs=needs,
        memory_bytes=EMBEDDING_BYTES,
        stored_bytes=len(planned.corpus) * (4 + 2 * pace.n_dims) + FOOTER_BYTES,
        checkpoint_bytes=0,
        source="record" if pace.is_recorded else "step",
    )


def _estimate_fit(task: Task[FitProbe], planned: ProbePlan, paces: Mapping[str, _Pace]) -> Estimate:
    run, corpus = task.work.probe, planned.find_learnt(task)
    rows = find_learning_rows(corpus, run.split, run.protocol)
    n_rows = len(rows) * run.recipe.n_views
    n_dims = sum(paces[each.name].n_dims for each in run.backbones)
    n_classes, n_heads = len(corpus.scenes), run.cross_fit or 1
    step_s = measure_evaluation(n_rows, min(n_rows, n_dims), n_classes)
    n_bytes = count_fit_bytes(n_rows, n_dims)
    n_clips = sum(len(planned.embeddings[key].corpus) for key in planned.taken[task.name])
    weights_bytes = 8 * n_heads * n_dims * (n_classes + 2)
    return Estimate(
        seconds=n_heads * N_STEPS * step_s,
        needs=replace(task.needs or Needs(), memory_bytes=n_bytes),
        memory_bytes=n_bytes,
        stored_bytes=n_clips * (4 + 2 * n_classes) + FOOTER_BYTES * len(task.keys) + weights_bytes,
        checkpoint_bytes=0,
        source="step",
    )


def _find_paces(
    planned: ProbePlan, fits: list[Task[FitProbe]], store: LogitStore, device: Machine
) -> dict[str, _Pace]:
    """Return the pace of each backbone that a probe to fit takes, by its name."""
    backbones = {each.name: (each, task) for task in fits for each in task.work.probe.backbones}
    return {
        name: _find_recorded_pace(backbone, planned.find_learnt(task), store, device)
        or _measure_pace(backbone, planned.find_learnt(task), store)
        for name, (backbone, task) in backbones.items()
    }


def _find_recorded_pace(
    backbone: Backbone, corpus: Corpus, store: LogitStore, device: Machine
) -> _Pace | None:
    """Return the median pace of stored embeddings of clips of that duration, made on such a machine."""
    clips_s, n_dims = list[float](), 0
    for key in _list_keys(store, name_backbone(backbone)):
        footer = store.embeddings.read_footer(key)
        record = footer.record
        # Embeddings from elsewhere have no such record.
        try:
            is_alike = Machine.of(record["machine"]).pace == device.pace
            is_alike = is_alike and record["clip_duration_s"] == corpus.clip_duration_s
            clip_s = record["embedding_s"] / record["clips"]
        except (KeyError, TypeError):
            continue
        if is_alike:
            clips_s.append(clip_s)
            n_dims = footer.n_dims
    return _Pace(statistics.median(clips_s), n_dims, is_recorded=True) if clips_s else None


def _list_keys(store: LogitStore, backbone: str) -> list[EmbeddingKey]:
    try:
        return store.embeddings.keys(backbone=backbone, view=None)
    except MissingStore:
        return []


def _measure_pace(backbone: Backbone, corpus: Corpus, store: LogitStore) -> _Pace:
    # Torch takes seconds to import, and most plans find all that they need in records.
    from teachers.backbones.dry_step import measure_embedding_step

    step = measure_embedding_step(backbone, corpus.clip_duration_s, find_device(), store)
    return _Pace(step.clip_s, step.n_dims, is_recorded=False)
