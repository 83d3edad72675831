"""The probes that a command asks for: their embeddings, in shards of clips, and then their heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audio.clips import Corpus
from jobs.plan.options import LearningOptions
from jobs.schedule.carry_out import find_stored
from jobs.schedule.task import AnyWork, Needs, Outcome, Task, make_names_unique
from jobs.worker.probes import EmbedClips, FitProbe, JoinEmbeddings
from jobs.worker.where import PoolAt
from logit_store import EmbeddingKey, LogitStore, MissingClips, MissingStore
from teachers.backbones import Backbone, OnnxInput, check_learnt, find_backbone
from teachers.probes import (
    ProbeRun,
    find_learning_rows,
    make_embedding_key,
    make_probe_key,
    make_probe_recipe,
)
from teachers.run import list_teacher_keys
from training import Protocol

LARGEST_SHARD = 16_384
"""Clips of a shard at most: as 2,048 numbers each they take 134 MB, and a GPU some ten seconds."""
SMALLEST_SHARD = 256
"""Clips of a shard at least: a worker takes seconds to start, and half a minute for so many on a core."""
MANY_SHARDS = 16
"""Shards that a corpus is cut into at least, if these are not too small: so many workers are kept busy."""
EMBEDDING_BYTES = 2 * 1024**3
"""Memory of a worker that embeds on the CPU: torch, the network, a batch and a shard (OURS)."""
PROCESS_BYTES = 512 * 1024**2
"""Memory of a worker that fits, without its features (OURS)."""
FEATURE_COPIES = 4
"""Float64 copies of the features that a fit holds: standardised, rotated, those of a part, temporary ones."""


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """The tasks that put the embeddings of one view of a corpus into the store."""

    backbone: Backbone
    corpus: Corpus
    shards: list[Task[EmbedClips]]
    join: Task[JoinEmbeddings]

    @property
    def key(self) -> EmbeddingKey:
        """The key of the embeddings."""
        return self.join.work.key


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """All probes that the options ask for, and the embeddings that they take."""

    tasks: list[Task[FitProbe]]
    embeddings: dict[EmbeddingKey, EmbeddingPlan]
    """Of all probes, whether they are stored or not."""
    taken: dict[str, tuple[EmbeddingKey, ...]]
    """Which of them a probe takes, by the name of its task."""

    def list_sample_rates(self) -> set[int]:
        """Return the sample rates of the clips that its networks take, in Hz."""
        return {each.backbone.sample_rate for each in self.embeddings.values()}

    def find_learnt(self, task: Task[FitProbe]) -> Corpus:
        """Return the corpus that a probe learns."""
        return self.embeddings[self.taken[task.name][0]].corpus

    def find_missing(self, store: LogitStore) -> tuple[list[EmbeddingPlan], list[Task[FitProbe]]]:
        """Return the embeddings that are to be computed, and the probes that are to be fitted."""
        states = find_stored(self.tasks, store)
        to_fit = [task for task, done in zip(self.tasks, states, strict=True) if not done]
        wanted = dict.fromkeys(key for task in to_fit for key in self.taken[task.name])
        stored = _find_stored_embeddings(store)
        return [self.embeddings[key] for key in wanted if key not in stored], to_fit


class ProbeSteps:
    """Which tasks of a plan can start, as others are done."""

    def __init__(
        self,
        planned: ProbePlan,
        store: LogitStore,
        needs: Needs = Needs(),  # noqa: B008 - a frozen value
        most_memory_bytes: int = 0,
    ) -> None:
        """Ask the store what is there.

        Args:
            planned: the plan.
            store: has results of earlier commands.
            needs: of a worker that embeds.
            most_memory_bytes: the most that one task can reserve; 0 if it is not known.
        """
        self._planned, self._store = planned, store
        self._needs, self._most_bytes = needs, most_memory_bytes
        missing, self._waiting = planned.find_missing(store)
        self._missing = {each.key: each for each in missing}
        self._shards_left = {
            each.key: {task.name for task in each.shards} for each in self._missing.values()
        }

    def find_ready(self) -> list[Task[Any]]:
        """Return the tasks that can start at once: of stored probes too, so that they are counted."""
        waiting = {task.name for task in self._waiting}
        stored = [task for task in self._planned.tasks if task.name not in waiting]
        needs = self._needs if self._needs.gpus else self._reserve(self._needs, EMBEDDING_BYTES)
        shards = [
            replace(task, needs=needs) for each in self._missing.values() for task in each.shards
        ]
        return [*shards, *stored, *self._take_ready()]

    def follow(self, outcome: Outcome[AnyWork]) -> list[Task[Any]]:
        """Return the tasks that can start once this one is done.

        After the last shard its embeddings are joined, and then come the probes that lack nothing.
        """
        match outcome.task.work:
            case EmbedClips(key=key):
                left = self._shards_left[key]
                left.discard(outcome.task.name)
                return [] if left else [self._missing[key].join]
            case JoinEmbeddings(key=key):
                del self._missing[key]
                return self._take_ready()
            case _:
                return []

    def _take_ready(self) -> list[Task[FitProbe]]:
        ready = [
            task
            for task in self._waiting
            if self._missing.keys().isdisjoint(self._planned.taken[task.name])
        ]
        self._waiting = [task for task in self._waiting if task not in ready]
        return [
            replace(task, needs=self._reserve(task.needs or Needs(), self._count_fit_bytes(task)))
            for task in ready
        ]

    def _count_fit_bytes(self, task: Task[FitProbe]) -> int:
        """Return the memory of a fit, whose embeddings are in the store."""
        taken = self._planned.taken[task.name]
        run, corpus = task.work.probe, self._planned.find_learnt(task)
        own = [key for key in taken if key.corpus == corpus.name and key.view == 0]
        n_dims = sum(self._store.embeddings.read_footer(key).n_dims for key in own)
        n_rows = len(find_learning_rows(corpus, run.split, run.protocol)) * run.recipe.n_views
        return count_fit_bytes(n_rows, n_dims)

    def _reserve(self, needs: Needs, n_bytes: int) -> Needs:
        """Return the needs with so much memory, but no more than a node has."""
        return replace(needs, memory_bytes=min(n_bytes, self._most_bytes))


def count_fit_bytes(n_rows: int, n_dims: int) -> int:
    """Return the memory of a fit to so many embeddings, with that of its process."""
    return PROCESS_BYTES + FEATURE_COPIES * 8 * n_rows * n_dims


def plan_probes(
    options: LearningOptions,
    probes: Sequence[tuple[str, ...]],
    splits: Sequence[int],
    corpus: Corpus,
    store: LogitStore,
    *,
    n_views: int,
    n_learnt_views: int,
    protocol: Protocol,
    onnx: OnnxInput,
    pools: Mapping[PoolAt, Corpus],
    cross_fit: int | None = None,
) -> ProbePlan:
    """Return the probes that the options ask for, checked as far as possible before anything runs.

    Args:
        options: of the command.
        probes: the names of each probe's backbones.
        splits: the splits that each learns.
        corpus: whose clips they learn.
        store: has teachers that are backbones.
        n_views: number of views whose logits are stored.
        n_learnt_views: number of views that each learns from.
        protocol: which clips they learn.
        onnx: what ONNX files do not say of their input.
        pools: other corpora that all probes predict.
        cross_fit: number of heads of which each leaves out a part of the recordings; None: one head.

    Raises:
        UnknownBackbone, LeakyBackbone, UnfitClips, WeightsError: a backbone cannot be used.
        CorpusError: a scene has no clip to learn from in a split.
    """
    named = {
        name: find_backbone(name, store=store, onnx=onnx)
        for name in dict.fromkeys(name for names in probes for name in names)
    }
    for backbone in named.values():
        backbone.check_clips(corpus)
        for split in splits:
            check_learnt(backbone, corpus.name, split, cross_fit=cross_fit)
    for split in splits if probes else ():
        find_learning_rows(corpus, split, protocol)
    tasks: list[Task[FitProbe]] = []
    planned = ProbePlan([], {}, {})
    for split in sorted(splits, reverse=True):
        for names in probes:
            for seed in options.seeds:
                backbones = tuple(named[name] for name in names)
                run = ProbeRun(
                    recipe=make_probe_recipe(backbones, n_learnt_views),
                    backbones=backbones,
                    split=split,
                    seed=seed,
                    protocol=protocol,
                    cross_fit=cross_fit,
                )
                tasks.append(_make_task(options, run, corpus, store, n_views, pools))
    for task in make_names_unique(tasks):
        planned.tasks.append(task)
        planned.taken[task.name] = _plan_embeddings(planned, task, corpus, pools)
    return planned


def _make_task(
    options: LearningOptions,
    run: ProbeRun,
    corpus: Corpus,
    store: LogitStore,
    n_views: int,
    pools: Mapping[PoolAt, Corpus],
) -> Task[FitProbe]:
    responses = options.find_responses()
    work = FitProbe(
        probe=run,
        where=options.make_where(store),
        responses=responses,
        n_views=n_views,
        pools=tuple(pools),
    )
    key = make_probe_key(run, corpus, responses)
    keys = list_teacher_keys(key, n_views, [pool.name for pool in pools.values()])
    return Task(run.name, work, keys, needs=Needs(cpus=options.cpus_per_run))


def _plan_embeddings(
    planned: ProbePlan, task: Task[FitProbe], corpus: Corpus, pools: Mapping[PoolAt, Corpus]
) -> tuple[EmbeddingKey, ...]:
    """Add the embeddings that a probe takes to a plan, unless they are there, and return their keys."""
    work, taken = task.work, list[EmbeddingKey]()
    n_views = max(work.n_views, work.probe.recipe.n_views)
    heard: list[tuple[PoolAt | None, Corpus, int]] = [(None, corpus, n_views)]
    heard += [(at, pool, work.n_views) for at, pool in pools.items()]
    for at, clips, n in heard:
        for view in range(n):
            for backbone in work.probe.backbones:
                key = make_embedding_key(backbone, clips.name, view, work.responses)
                taken.append(key)
                if key not in planned.embeddings:
                    planned.embeddings[key] = _plan_shards(key, backbone, work, at, clips)
    return tuple(taken)


def _plan_shards(
    key: EmbeddingKey, backbone: Backbone, work: FitProbe, pool: PoolAt | None, clips: Corpus
) -> EmbeddingPlan:
    n_clips = len(clips)
    step = count_shard_clips(n_clips)
    name = f"{key.backbone} of {key.corpus}, view {key.view}"
    shards = [
        Task(
            f"{name}, clips {start} to {min(n_clips, start + step) - 1}",
            EmbedClips(
                key=key,
                backbone=backbone,
                where=work.where,
                responses=work.responses,
                pool=pool,
                start=start,
                stop=min(n_clips, start + step),
            ),
        )
        for start in range(0, n_clips, step)
    ]
    join = JoinEmbeddings(key=key, where=work.where, pool=pool)
    return EmbeddingPlan(backbone, clips, shards, Task(f"{name}, joined", join, needs=Needs()))


def count_shard_clips(n_clips: int) -> int:
    """Return the clips of a shard: a function of the corpus alone, so that a later command finds them."""
    return min(LARGEST_SHARD, max(SMALLEST_SHARD, -(-n_clips // MANY_SHARDS)))


def _find_stored_embeddings(store: LogitStore) -> set[EmbeddingKey]:
    try:
        return set(store.embeddings.keys(view=None))
    except (MissingStore, MissingClips):
        return set()
