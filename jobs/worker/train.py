"""The work that trains models on a worker: each finds its data by name, and is safe to run twice."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.log.task_log import TaskLog, get_current_log, keep_log, log_line
from jobs.worker.device import find_reserved_device
from jobs.worker.pools import PoolOfWork
from jobs.worker.where import PoolAt, Where, open_pool
from logit_store import LogitKey
from students import StudentRecipe
from students.stages import DeviceStage, Start, StartKind
from teachers import TeacherRun
from terminal.console import console
from terminal.tables import format_duration

if TYPE_CHECKING:
    import torch

    from audio.clips import Corpus
    from logit_store import LogitStore
    from students import TeacherLogits
    from students.pools import StudentPool
    from students.recipe import Int8Recipe
    from training import EpochMetrics, OnEpoch


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTune:
    """Fine-tunes one teacher on one split, on one device or on several GPUs (`teachers.finetune`)."""

    teacher: TeacherRun
    where: Where
    responses: Path | None
    """Folder of impulse responses; None is the synthetic set."""
    n_views: int = 1
    """Number of views whose logits are stored."""
    pools: tuple[PoolAt, ...] = ()
    """Other corpora whose clips it predicts as well."""
    n_pool_clips: int = 0
    """Number of clips of all pools."""
    n_gpus: int = 1

    def run(self) -> LogitKey:
        """Return the key of view 0 of the teacher's logits, which are then in the store."""
        if self.n_gpus == 1:
            return self.run_on_device(find_reserved_device())
        # Ray Train takes seconds to import, and most runs do not need it.
        from jobs.worker.several_gpus import run_on_workers
        from teachers.run import make_teacher_key

        store, corpus = self.where.open()
        key = make_teacher_key(self.teacher, corpus, self.responses)
        notes = store.objects.locate(f"teachers/v1/{key.member}/train")
        log = get_current_log()
        run_on_workers(
            lambda device: self.run_on_device(device, log),
            notes,
            n_workers=self.n_gpus,
            use_gpu=True,
        )
        return key

    def run_on_device(self, device: "torch.device", log: TaskLog | None = None) -> LogitKey:
        """Fine-tune on this device; a process of a group is given the task's `log`, as it has none yet."""
        from teachers.finetune import finetune
        from training.parallel import WorkerGroup

        store, corpus = self.where.open()
        # One process of a group keeps the log for all; a task on one device has its log already.
        with keep_log(log) if WorkerGroup.current().leads else nullcontext():
            return finetune(
                self.teacher,
                corpus,
                store,
                responses=self.responses,
                device=device,
                n_views=self.n_views,
                pools=[open_pool(pool, corpus.clip_duration_s) for pool in self.pools],
                on_epoch=_print_epochs(self.teacher.name),
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Distill:
    """Trains one student on one split, taught by an ensemble, a member or nobody."""

    recipe: StudentRecipe
    where: Where
    split: int
    seed: int
    responses: Path | None
    """Folder of impulse responses; None is the synthetic set."""
    taught_by: str | None
    """`NAME@HASH` of an ensemble, a member's name, or None for the labels alone."""
    n_views: int = 1
    """Number of views whose logits are stored."""
    pool: PoolOfWork | None = None
    """The clips without labels that it learns from too."""
    ram: int | None = None
    """Bytes of RAM that it will take on a device in int8, for its record; None is unknown."""
    first: "Distill | None" = None
    """The stage before, done before it unless it is in the store: this one starts from its weights."""
    start_kind: StartKind = "pool"
    """How it takes the weights of the stage before over, if there is one."""
    embeddings: tuple[str, ...] = ()
    """Names of the embeddings of view 0 that its features are to predict."""

    def run(self) -> LogitKey:
        """Return the key of view 0 of the student's logits, which are then in the store."""
        from students.distill import distill

        start = Start(self.first.run(), self.start_kind) if self.first else None
        store, corpus = self.where.open()
        soft, way = None, self.recipe.distillation
        pool = self.pool.open(corpus, self.split) if self.pool else None
        if self.taught_by is not None and way is not None:
            what = store, corpus, self.split, self.taught_by, way.n_views
            soft = _read_teacher(*what, pool, self.embeddings, self.responses)
        return distill(
            self.recipe,
            corpus,
            self.split,
            self.seed,
            store,
            soft,
            responses=self.responses,
            device=find_reserved_device(),
            n_views=self.n_views,
            on_epoch=_print_epochs(f"{self.recipe.name} split {self.split} seed {self.seed}"),
            pool=pool,
            start=start,
            ram=self.ram,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Specialise:
    """Fine-tunes a copy of a student for each known recording device of its clips."""

    general: Distill
    """The student: trained before its copies, unless it is in the store."""
    stage: DeviceStage

    def run(self) -> LogitKey:
        """Return the key of the logits of all networks together, which are then in the store."""
        from students.per_device import specialise

        key = self.general.run()
        store, corpus = self.general.where.open()
        return specialise(
            key,
            self.stage,
            corpus,
            store,
            responses=self.general.responses,
            device=find_reserved_device(),
            on_epoch=_print_epochs(f"{key} per recording device"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantise:
    """Trains a stored student further in int8, with the soft labels that it had."""

    start: LogitKey
    settings: "Int8Recipe"
    where: Where
    responses: Path | None
    """Folder of impulse responses; None is the synthetic set."""
    pool: PoolOfWork | None = None
    """The clips without labels that the student learnt from."""

    def run(self) -> LogitKey:
        """Return the key of the logits of the student in int8, which are then in the store."""
        from students.int8 import train_in_int8
        from students.records import restore_recipe

        store, corpus = self.where.open()
        record = store.read_record(self.start)
        way, soft = restore_recipe(record).distillation, None
        pool = self.pool.open(corpus, self.start.split) if self.pool else None
        if way is not None:
            what = store, corpus, self.start.split, record["ensemble"], way.n_views
            soft = _read_teacher(*what, pool, record.get("embeddings", ()), self.responses)
        return train_in_int8(
            self.start,
            self.settings,
            corpus,
            store,
            soft,
            responses=self.responses,
            device=find_reserved_device(),
            on_epoch=_print_epochs(f"{self.start} in int8"),
            pool=pool,
        )


def _read_teacher(
    store: "LogitStore",
    corpus: "Corpus",
    split: int,
    taught_by: str,
    n_views: int | None,
    pool: "StudentPool | None",
    embeddings: Sequence[str],
    responses: Path | None,
) -> "TeacherLogits":
    """Return what a student learns from: soft labels, and embeddings if there are names of some."""
    from jobs.worker.teacher_embeddings import read_teacher_embeddings
    from jobs.worker.teacher_logits import read_teacher_logits

    pools = pool.pools if pool else ()
    soft = read_teacher_logits(store, corpus.name, split, taught_by, n_views, pools)
    if not embeddings:
        return soft
    found = read_teacher_embeddings(store, corpus, split, embeddings, n_views, pools, responses)
    return replace(soft, embeddings=found)


TrainingWork = FineTune | Distill | Specialise | Quantise


def _print_epochs(name: str) -> "OnEpoch":
    """Make a function that prints and logs one line for each epoch of a run."""

    def print_epoch(metrics: "EpochMetrics") -> None:
        console.print(f"{name}: {log_epoch(metrics)}", markup=False)

    return print_epoch


def log_epoch(metrics: "EpochMetrics") -> str:
    """Log how an epoch of the task that runs now went, and return the line for people."""
    line = (
        f"epoch {metrics.epoch}/{metrics.max_epochs}, loss {metrics.loss:.3f}, on "
        f"{metrics.judging_fold}: log loss {metrics.log_loss:.3f}, {metrics.score} "
        f"{100 * metrics.accuracy:.1f} %; {metrics.clips_per_s:.0f} clips/s, at most "
        f"{format_duration(metrics.time_left_s)} left"
    )
    log_line(
        line,
        epoch=metrics.epoch,
        max_epochs=metrics.max_epochs,
        clips_per_s=metrics.clips_per_s,
        time_left_s=metrics.time_left_s,
    )
    return line
