"""Run the whole pipeline: recordings -> teachers -> logits -> ensemble -> student -> test results."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from audio.clips import Corpus
from ensemble.stored import compute_ensemble_logits
from jobs.command import REPORT, run
from jobs.plan.dry_run import show_plan
from jobs.plan.ensembles import EnsembleOptions, parse_settings, plan_selections, show_ensemble
from jobs.plan.estimates import plan_spending
from jobs.plan.members import find_select_scores
from jobs.plan.options import LearningOptions, PoolWords, parse_splits
from jobs.plan.pools import plan_pool, prepare_pools
from jobs.plan.probe_estimates import expect_probes
from jobs.plan.probes import ProbeSteps
from jobs.plan.provision import measure_needs, prepare_teachers
from jobs.plan.students import StudentRecipeName, StudentsOptions, plan_students
from jobs.plan.teacher_options import TeacherRecipes, TeachersOptions
from jobs.plan.teachers import plan_teachers
from jobs.schedule.carry_out import carry_out, print_if_all_stored
from jobs.schedule.cluster import connect
from jobs.schedule.task import AnyWork, Outcome, Task
from jobs.worker.probes import EmbedClips, FitProbe, JoinEmbeddings
from jobs.worker.select import SelectEnsemble
from jobs.worker.train import Distill, FineTune, TrainingWork
from jobs.worker.where import prepare
from logit_store import LogitKey, LogitStore, strip_fingerprint
from report.as_text import read_system, show_gains, show_systems
from report.summary import System
from students import RECIPES as STUDENT_RECIPES
from students.pools import OWN_POOLS
from teachers.recipes import DEMO_TEACHERS
from terminal.console import UserError, console, repeat_command, say_next
from terminal.values import SampleRate, Seeds
from training.pool_use import PoolUse

DEMO_SPLITS = (25,)
DEMO_SEEDS = (0, 1, 2, 3, 4)
DEMO_POOL = ("rest",)
DEMO_RECIPES = (*DEMO_TEACHERS, "probe:aisfx")


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(LearningOptions):
    """Options of the command."""

    demo: bool = False
    """Small teachers and a probe on split 25, and students with and without the clips that the split
    leaves out: minutes on two cores."""
    recipes: TeacherRecipes = ()
    """Teacher recipes, as for jobs/teachers.py; the published ones, or with --demo the demo ones, if not
    given."""
    onnx_rate: SampleRate | None = None
    """Sample rate of the waveforms that probe:onnx:FILE takes, in Hz, if the file does not say it."""
    student: StudentRecipeName | None = None
    """Student recipe; isotropic, or with --demo tiny_isotropic, if not given."""
    student_seeds: Seeds = ()
    """Each student is trained once per seed, alone and distilled; 0 1 2, or with --demo 0 to 4, if not
    given."""
    pool: PoolWords = ()
    """Train distilled students with clips without labels, too: words as for jobs/students.py --pool;
    rest with --demo, if not given."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The options of each command that the pipeline consists of."""

    teachers: TeachersOptions
    ensemble: EnsembleOptions
    students: StudentsOptions
    pooled: StudentsOptions | None
    """The students that learn from a pool, too; None if there is no pool."""

    @classmethod
    def of(cls, options: PipelineOptions) -> "Stages":
        """Return the options of each command for those of the pipeline."""
        shared = {field.name: getattr(options, field.name) for field in fields(LearningOptions)}
        splits = DEMO_SPLITS if options.demo else parse_splits(options.splits)
        seeds = options.student_seeds or (DEMO_SEEDS if options.demo else (0, 1, 2))
        pool = options.pool or (DEMO_POOL if options.demo else ())
        students = StudentsOptions(
            **shared | {"splits": splits, "seeds": seeds},
            recipes=(options.student or ("tiny_isotropic" if options.demo else "isotropic"),),
        )
        return cls(
            TeachersOptions(
                **shared | {"splits": splits},
                recipes=options.recipes or (DEMO_RECIPES if options.demo else ("all",)),
                pool=tuple(word for word in pool if word not in OWN_POOLS),
                onnx_rate=options.onnx_rate,
            ),
            EnsembleOptions(corpus=options.corpus, root=options.root, store=options.store),
            students,
            replace(students, pool=pool) if pool else None,
        )


def main(options: PipelineOptions) -> int:
    """Run the whole pipeline: recordings -> teachers -> logits -> ensemble -> student -> test results.

    What is in the store is not done again, so that after any interruption the same command continues.

    Example:
        python jobs/pipeline.py --demo --store runs/demo
    """
    stages = Stages.of(options)
    store = options.open_store()
    corpus = options.open_corpus(store)
    tasks = PipelineTasks(stages, corpus, store)
    if options.dry_run:
        # Follows what is stored, so that the students of a stored ensemble are known.
        print_if_all_stored(tasks.list_first(), store, tasks.follow)
        planned = tasks.planned
        show_plan(
            tasks.list_expected(), store, planned.find_corpus, stages.teachers, planned.probes
        )
        console.print(
            "and one ensemble a split, in seconds to minutes; see jobs/ensemble.py --dry-run"
        )
        say_next(repeat_command(less="--dry-run"))
        return 0
    if not print_if_all_stored(tasks.list_first(), store, tasks.follow):
        # Asking what is stored has followed a part of the tasks already.
        tasks = PipelineTasks(stages, corpus, store)
        carry_out_pipeline(options, tasks)
    for split, name in sorted(tasks.ensembles.items()):
        show_ensemble(store, corpus.name, split, name)
    show_results(corpus, store, tasks)
    listing = ["python", "-m", "logit_store", "ls", "--store", options.list_data_options()[-1]]
    say_next([*REPORT, *options.list_data_options()], listing)
    return 0


def carry_out_pipeline(options: PipelineOptions, tasks: "PipelineTasks") -> None:
    """Carry out all tasks that are not in the store.

    Raises:
        UserError: some failed or were not started.
    """
    corpus, store = tasks.corpus, tasks.store
    options.check_fit_here()
    to_do = tasks.planned.find_missing()
    prepare_teachers(tasks.planned, to_do)
    rates = {STUDENT_RECIPES[n].front_end.sample_rate for n in tasks.stages.students.recipes}
    prepare(corpus, store, rates)
    prepare_pools(tasks.expect_pooled(), corpus, store, rates)
    with connect() as workers:
        timeout_s, needs = options.find_timeout_s(workers), options.find_needs(workers)
        tasks.planned, steps = measure_needs(tasks.planned, to_do, workers, needs)
        spending = plan_spending(
            options,
            tasks.list_expected(),
            store,
            tasks.planned.find_corpus,
            workers,
            needs,
            steps,
            partial(expect_probes, tasks.planned.probes, store, needs),
        )
        tasks.probing = ProbeSteps(
            tasks.planned.probes, store, needs, workers.find_largest_memory_bytes()
        )
        first = tasks.list_first()
        if not carry_out(
            first,
            store,
            workers,
            needs,
            then=tasks.follow,
            spending=spending,
            timeout_s=timeout_s,
        ):
            raise UserError(
                "some runs failed or were not started: correct that and start again; the others are kept"
            )


class PipelineTasks:
    """All tasks of the pipeline, and those that become possible when others are done."""

    def __init__(self, stages: Stages, corpus: Corpus, store: LogitStore) -> None:
        self.stages, self.corpus, self.store = stages, corpus, store
        self.planned = plan_teachers(stages.teachers, corpus, store)
        self.probing = ProbeSteps(self.planned.probes, store)
        self.teachers = self.planned.list_members()
        splits = parse_splits(stages.teachers.splits)
        alone: dict[int, str | None] = dict.fromkeys(splits)
        self.baselines = plan_students(stages.students, corpus, store, alone)
        self.distilled: list[Task[Distill]] = []
        self.pooled: list[Task[Distill]] = []
        self.ensembles: dict[int, str] = {}
        self._pending = {split: set(find_keys(self.teachers, split)) for split in splits}

    def list_first(self) -> list[Task[Any]]:
        """Return the tasks that can be done at once."""
        return [*self.probing.find_ready(), *self.planned.find_ready(), *self.baselines]

    def list_expected(self) -> list[Task[TrainingWork]]:
        """Return all runs that train, to estimate them.

        As long as the ensemble of a split is not known, its distilled students are counted with the
        baselines' work.
        """
        unknown = [
            replace(task, name=f"{task.name} distilled", keys=())
            for task in self.baselines
            if task.keys[0].split not in self.ensembles
        ]
        known = [*self.planned.list_tasks(), *self.baselines, *self.distilled, *self.pooled]
        return [*known, *unknown, *self.expect_pooled()]

    def expect_pooled(self) -> list[Task[Distill]]:
        """Return the students that will learn from a pool, too, once their split has an ensemble."""
        pooled = self.stages.pooled
        if pooled is None:
            return []
        tasks = []
        for task in self.baselines:
            split = task.keys[0].split
            if split not in self.ensembles:
                pool = plan_pool(pooled.pool, PoolUse(), self.corpus, split)
                work = replace(task.work, pool=None if pool is None else pool.work)
                tasks.append(Task(f"{task.name} with the pool", work))
        return tasks

    def follow(self, outcome: Outcome[AnyWork]) -> Sequence[Task[AnyWork]]:
        """Return the selections after a split's last teacher, and the students after a selection."""
        match outcome.task.work:
            case FineTune() | FitProbe():
                return self._follow_teacher(outcome)
            case EmbedClips() | JoinEmbeddings():
                return self.probing.follow(outcome)
            case SelectEnsemble(input=candidates):
                return self._follow_selection(candidates.split, outcome.result)
            case Distill():
                return []
            case work:
                raise TypeError(f"{outcome.task.name}: a pipeline has no {type(work).__name__}")

    def _follow_teacher(self, outcome: Outcome[AnyWork]) -> Sequence[Task[AnyWork]]:
        key = outcome.task.keys[0]
        if key in self.planned.first:
            return self.planned.follow(outcome)
        self._pending[key.split].discard(key)
        if self._pending[key.split]:
            return []
        members = tuple(each.member for each in find_keys(self.teachers, key.split))
        options = self.stages.ensemble
        return plan_selections(options, self.store, key.split, members, parse_settings(options))

    def _follow_selection(self, split: int, reference: str) -> Sequence[Task[AnyWork]]:
        self.ensembles[split] = reference
        taught: dict[int, str | None] = {split: reference}
        distilled = plan_students(self.stages.students, self.corpus, self.store, taught)
        self.distilled += distilled
        if self.stages.pooled is None:
            return distilled
        pooled = plan_students(self.stages.pooled, self.corpus, self.store, taught)
        self.pooled += pooled
        return [*distilled, *pooled]


def find_keys(tasks: Sequence[Task[Any]], split: int) -> list[LogitKey]:
    """Return the keys of view 0 of these tasks' logits of one split."""
    return [task.keys[0] for task in tasks if task.keys[0].split == split]


def show_results(corpus: Corpus, store: LogitStore, tasks: PipelineTasks) -> None:
    """Print a table of all systems on test, and the gain by distillation."""
    systems, pairs = [], []
    for split, name in sorted(tasks.ensembles.items()):
        keys = find_keys(tasks.teachers, split)
        footers = store.read_footers(keys)
        systems += [read_system(store, strip_fingerprint(key.member), [key]) for key in keys]
        best = min(keys, key=lambda key: find_select_scores(key, footers[key]).log_loss)
        systems.append(read_system(store, f"best: {strip_fingerprint(best.member)}", [best]))
        systems.append(
            System("ensemble", split, [compute_ensemble_logits(store, corpus.name, split, name)])
        )
        alone, *taught = (
            read_system(store, name, find_keys(students, split))
            for name, students in (
                ("student alone", tasks.baselines),
                ("student distilled", tasks.distilled),
                ("student distilled, pool", tasks.pooled),
            )
            if students
        )
        pairs.append((alone, taught))
        systems += [alone, *taught]
    show_systems(corpus, systems)
    for alone, taught in pairs:
        show_gains(corpus, "gain of {}", alone, taught, unseen=False)


if __name__ == "__main__":
    run(main, PipelineOptions)
