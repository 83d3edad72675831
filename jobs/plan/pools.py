"""The pools that students are to learn from: opened once for a command, checked before any work."""

import functools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audio.clips import Corpus
from jobs.plan.options import CorpusOptions, LearningOptions
from jobs.schedule.task import Task
from jobs.worker.pools import PoolOfWork
from jobs.worker.teacher_logits import find_teaching_members
from jobs.worker.train import Distill, Quantise, Specialise, TrainingWork
from jobs.worker.where import PoolAt, check_audio_of_pools, prepare_pool
from logit_store import LogitKey, LogitStore, MissingClips, MissingLogits
from students import StudentRecipe, UnfitPool, UnfitSoftLabels, check_views
from students.checks import check_classes
from students.pools import OWN_POOLS, StudentPool, check_same_pool
from teachers.probes import PROBE
from terminal.console import UserError
from training import list_view_keys
from training.pool_use import PoolUse


@dataclass(frozen=True, slots=True)
class PlannedPool:
    """Pools of one split, as work carries them, and opened."""

    work: PoolOfWork
    pool: StudentPool


def plan_pool(words: Sequence[str], use: PoolUse, corpus: Corpus, split: int) -> PlannedPool | None:
    """Open the pools of these words for a split; None if there are no words.

    Raises:
        CorpusError: there is no such pool, or a clip or recording of it is in `select` or `test`.
    """
    if not words:
        return None
    return _open(tuple(PoolAt.of(word) for word in words), use, corpus, split)


@functools.lru_cache(maxsize=32)
def _open(pools: tuple[PoolAt, ...], use: PoolUse, corpus: Corpus, split: int) -> PlannedPool:
    # Each recipe and seed of a plan needs it, and a folder of a million files is slow to list.
    opened = PoolOfWork(pools=pools, use=use, n_clips=0).open(corpus, split)
    return PlannedPool(PoolOfWork(pools=pools, use=use, n_clips=len(opened)), opened)


def check_pool_teachers(
    options: LearningOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    taught_by: str,
    planned: PlannedPool,
) -> None:
    """Check that a student's teachers have soft labels for the clips of its pools.

    Those of its own corpus have some: members have logits of all its clips.

    Raises:
        UserError: logits of a pool are missing (the message has the command that makes them), or
            they have other classes, or views that sound otherwise than the student's.
        LogitStoreError: the teacher is not in the store, or has changed.
    """
    members = find_teaching_members(store, corpus.name, split, taught_by)
    way = recipe.distillation
    n_views = 1 if way is None or way.n_views is None else way.n_views
    for at, pool in zip(planned.work.pools, planned.pool.pools, strict=True):
        if pool.corpus is None:
            continue
        keys = [replace(member, corpus=pool.corpus.name) for member in members]
        try:
            for key, footer in store.read_footers(_list_views(keys, n_views)).items():
                check_classes(key, footer.classes, corpus, recipe.name)
            check_views(recipe, keys, store, options.find_responses())
        except (MissingLogits, MissingClips) as error:
            command = _make_pool_command(options, store, members, at.word, n_views)
            raise UserError(
                f"--pool {at.word}: {taught_by} has no soft labels for its clips: let its teachers "
                f"predict them, with the options that trained them: {command}"
            ) from error
        except UnfitSoftLabels as error:
            raise UserError(f"--pool {at.word}: {error}") from error


def _list_views(keys: Iterable[LogitKey], n_views: int) -> list[LogitKey]:
    return [view for key in keys for view in list_view_keys(key, n_views)]


def _make_pool_command(
    options: CorpusOptions,
    store: LogitStore,
    members: Sequence[LogitKey],
    word: str,
    n_views: int,
) -> str:
    """Return the command that lets teachers predict a pool.

    Raises:
        UserError: one of them is no teacher that this project has trained.
    """
    recipes: dict[str, None] = {}
    seeds: set[int] = set()
    for key, footer in store.read_footers(members).items():
        record = footer.record
        recipe = record.get("recipe")
        if record.get("kind") != "teacher" or not isinstance(recipe, dict) or "seed" not in record:
            raise UserError(
                f"--pool {word}: {key} has no logits of its clips, and is no teacher of python "
                "jobs/teachers.py, which could predict them: choose other teachers, or the pool rest or "
                "unlabelled, whose clips every member has predicted"
            )
        recipes[_name_recipe(record, recipe["name"])] = None
        seeds.add(record["seed"])
    how = ["--recipes", *recipes, "--splits", str(members[0].split)]
    how += ["--seeds", *map(str, sorted(seeds)), "--pool", word]
    views = ["--views", str(n_views)] if n_views > 1 else []
    return shlex.join(["python", "jobs/teachers.py", *options.list_data_options(), *how, *views])


def _name_recipe(record: Mapping[str, Any], name: str) -> str:
    """Return what --recipes calls the recipe of a teacher: a probe is named by its backbones."""
    if record.get("family") != "probe":
        return name
    return PROBE + "+".join(each["backbone"] for each in record["backbones"])


def prepare_pools(
    tasks: Iterable[Task[TrainingWork]], corpus: Corpus, store: LogitStore, sample_rates: set[int]
) -> None:
    """Decode the pools of all tasks, and make sure that no audio of them judges its students.

    Args:
        tasks: students to train.
        corpus: the corpus that they train on; decoded at these rates.
        store: gets the tables of foreign pools' clips.
        sample_rates: sample rates of the students, in Hz.

    Raises:
        UserError: some clips of a pool cannot be read.
        CorpusError: a clip of a pool has the audio of a clip that judges; names it.
    """
    prepared: set[str] = set()
    for work, split in dict.fromkeys(each for task in tasks for each in _list_pools(task.work)):
        pools = _open(work.pools, work.use, corpus, split).pool.pools
        for pool in pools:
            # A million files are slow to look at, and splits have the same pools.
            if pool.corpus is not None and pool.name not in prepared:
                prepare_pool(pool.corpus, store, sample_rates)
                prepared.add(pool.name)
        check_audio_of_pools(corpus, [split], pools, min(sample_rates))


def _list_pools(work: TrainingWork) -> Iterator[tuple[PoolOfWork, int]]:
    """Yield the pools of a task, and those of its first stage, with their split."""
    match work:
        case Distill(pool=pool, first=first, split=split):
            if first is not None:
                yield from _list_pools(first)
        case Specialise(general=general):
            yield from _list_pools(general)
            return
        case Quantise(pool=pool, start=start):
            split = start.split
        case _:
            return
    if pool is not None:
        yield pool, split


def find_used_pool(
    record: Mapping[str, Any], words: Sequence[str], corpus: Corpus, start: LogitKey
) -> PlannedPool | None:
    """Open the pool that taught a student, to train it further.

    Args:
        record: the student's.
        words: CORPUS:ROOT of its pools of other corpora, whose folders no record has.
        corpus: the student's corpus.
        start: the student.

    Raises:
        UserError: a pool of it is not among the words, or has changed.
        CorpusError: there is no such pool.
    """
    learnt = record.get("pool")
    if learnt is None:
        if words:
            raise UserError(f"--pool {' '.join(words)}: {start} learnt from no pool; leave it out")
        return None
    use = PoolUse(share=learnt["share"], alone=learnt["alone"])
    foreign = list(words)
    names = [pool["name"] for pool in learnt["pools"]]
    if sum(name not in OWN_POOLS for name in names) != len(foreign):
        lacking = ", ".join(name for name in names if name not in OWN_POOLS) or "none"
        raise UserError(
            f"{start} learnt from the pools {' and '.join(names)}, of which are other corpora: "
            f"{lacking}; say where these are, in this order: --pool CORPUS:ROOT ..."
        )
    found = [name if name in OWN_POOLS else foreign.pop(0) for name in names]
    planned = plan_pool(found, use, corpus, start.split)
    try:
        check_same_pool(start, record, None if planned is None else planned.pool)
    except UnfitPool as error:
        raise UserError(f"--pool {' '.join(words)}: {error}") from error
    return planned
