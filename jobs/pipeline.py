"""The whole way: recordings -> teachers -> logits -> ensemble -> student -> figures on test."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from audio.clips import Corpus
from jobs import ensemble as ensemble_job
from jobs import selection, student_runs, units
from jobs import teachers as teachers_job
from jobs.cluster import cluster
from jobs.command import REPORT, UserError, again, console, prepare, run, say_next
from jobs.estimates import spending_of
from jobs.fanout import Outcome, Task
from jobs.learning import LearningOptions, carry_out, chosen, select_figures
from jobs.plans import show_plan
from jobs.results import show_gains, show_systems, stored
from jobs.teacher_runs import TeachersOptions, plan
from jobs.units import ensemble_logits
from logit_store import LogitKey, LogitStore, plain_name
from report import System
from students import RECIPES as STUDENT_RECIPES
from teachers.recipes import DEMO

DEMO_SPLITS = (25, 100)


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(LearningOptions):
    """Options of the command."""

    demo: bool = False
    """Small teachers on splits 25 and 100, students on split 100: minutes on two cores."""
    recipes: tuple[str, ...] = ()
    """Teacher recipes; the published ones, or with --demo the demo ones, if not given."""
    student: str = ""
    """Student recipe; isotropic, or with --demo demo_isotropic, if not given."""
    student_seeds: tuple[int, ...] = (0, 1, 2)
    """Each student is taught once per seed, alone and distilled."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The options of each job that the pipeline is made of."""

    teachers: TeachersOptions
    ensemble: ensemble_job.EnsembleOptions
    students: student_runs.StudentsOptions

    @classmethod
    def of(cls, options: PipelineOptions) -> "Stages":
        """What each job is told when the pipeline is told `options`."""
        shared = {field.name: getattr(options, field.name) for field in fields(LearningOptions)}
        splits = DEMO_SPLITS if options.demo else chosen(options.splits)
        student_splits = splits[-1:] if options.demo else splits
        student = options.student or ("demo_isotropic" if options.demo else "isotropic")
        return cls(
            TeachersOptions(
                **shared | {"splits": splits},
                recipes=options.recipes or (DEMO if options.demo else ("all",)),
            ),
            ensemble_job.EnsembleOptions(
                corpus=options.corpus, root=options.root, store=options.store
            ),
            student_runs.StudentsOptions(
                **shared | {"splits": student_splits, "seeds": options.student_seeds},
                recipes=(student,),
            ),
        )


def main(options: PipelineOptions) -> int:
    """The whole way: recordings -> teachers -> logits -> ensemble -> student -> figures on test.

    What is in the store already is not done again: whatever ends it, the same command goes on.

    Example:
        python jobs/pipeline.py --demo --store runs/demo
    """
    stages = Stages.of(options)
    store = options.open_store()
    corpus = options.open_corpus(store)
    work = _Work(stages, corpus, store)
    if options.dry_run:
        show_plan(work.foreseen(), store, work.corpus_of, stages.teachers)
        console.print(
            "and one ensemble a split, in seconds to minutes; see jobs/ensemble.py --dry-run"
        )
        say_next(again(less="--dry-run"))
        return 0
    to_do = work.planned.to_do()
    teachers_job.prepare_all(work.planned, to_do)
    prepare(
        corpus, store, {STUDENT_RECIPES[n].front_end.sample_rate for n in stages.students.recipes}
    )
    with cluster():
        needs = options.needs()
        work.planned, steps = teachers_job.measured(work.planned, to_do, needs)
        spending = spending_of(options, work.foreseen(), store, work.corpus_of, needs, steps)
        first = [*work.planned.ready(), *work.baselines]
        if not carry_out(first, store, needs, then=work.follow, spending=spending):
            raise UserError(
                "some runs failed or were not started: mend that and start again; the rest is kept"
            )
    for split, name in sorted(work.ensembles.items()):
        ensemble_job.show(store, corpus.name, split, name)
    show_results(corpus, store, work)
    listing = ["python", "-m", "logit_store", "ls", "--store", options.data()[-1]]
    say_next([*REPORT, *options.data()], listing)
    return 0


class _Work:
    """All tasks, and which of them become possible when others are done."""

    def __init__(self, stages: Stages, corpus: Corpus, store: LogitStore) -> None:
        self.stages, self.corpus, self.store = stages, corpus, store
        self.planned = plan(stages.teachers, corpus, store)
        self.teachers = self.planned.tasks
        self.student_splits = chosen(stages.students.splits)
        alone: dict[int, str | None] = dict.fromkeys(self.student_splits)
        self.baselines = student_runs.plan(stages.students, corpus, store, alone)
        self.distilled: list[Task] = []
        self.ensembles: dict[int, str] = {}
        splits = chosen(stages.teachers.splits)
        self._pending = {split: set(keys_of(self.teachers, split)) for split in splits}

    def corpus_of(self, task: Task) -> Corpus:
        """What the task teaches."""
        return self.planned.corpus_of(task) if task.function is units.teach else self.corpus

    def foreseen(self) -> list[Task]:
        """All that teach, for what they take: who teaches the distilled ones is not known yet."""
        distilled = [
            replace(task, name=f"{task.name} distilled", keys=()) for task in self.baselines
        ]
        return [*self.planned.everything(), *self.baselines, *distilled]

    def follow(self, outcome: Outcome) -> list[Task]:
        """The last teacher of a split brings its selection, and that the students it teaches."""
        task = outcome.task
        if task.function is units.teach:
            if task.keys[0] in self.planned.first:
                return self.planned.follow(outcome)
            split = task.keys[0].split
            self._pending[split].discard(task.keys[0])
            if not self._pending[split]:
                members = tuple(key.member for key in keys_of(self.teachers, split))
                options = self.stages.ensemble
                variants = ensemble_job.settings_of(options)
                return ensemble_job.plan(options, self.store, split, members, variants)
        if task.function is selection.choose:
            split = task.arguments["split"]
            self.ensembles[split] = outcome.result.reference
            if split in self.student_splits:
                taught: dict[int, str | None] = {split: self.ensembles[split]}
                tasks = student_runs.plan(self.stages.students, self.corpus, self.store, taught)
                self.distilled += tasks
                return tasks
        return []


def keys_of(tasks: Sequence[Task], split: int) -> list[LogitKey]:
    """Where these tasks' logits of one split lie."""
    return [task.keys[0] for task in tasks if task.keys[0].split == split]


def show_results(corpus: Corpus, store: LogitStore, work: _Work) -> None:
    """The table of all systems on test, and what distillation gave."""
    systems, pairs = [], []
    for split, name in sorted(work.ensembles.items()):
        keys = keys_of(work.teachers, split)
        footers = store.footers(keys)
        systems += [stored(store, plain_name(key.member), [key]) for key in keys]
        best = min(keys, key=lambda key: select_figures(key, footers[key]).log_loss)
        systems.append(stored(store, f"best: {plain_name(best.member)}", [best]))
        systems.append(
            System("ensemble", split, [ensemble_logits(store, corpus.name, split, name)])
        )
        if split in work.student_splits:
            alone = stored(store, "student alone", keys_of(work.baselines, split))
            taught = stored(store, "student distilled", keys_of(work.distilled, split))
            pairs.append((alone, taught))
            systems += [alone, taught]
    show_systems(corpus, systems)
    for alone, taught in pairs:
        show_gains(corpus, "distillation", alone, [taught], unseen=False)


if __name__ == "__main__":
    run(main, PipelineOptions)
