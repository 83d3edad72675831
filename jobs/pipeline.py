"""The whole way: recordings -> teachers -> logits -> ensemble -> student -> figures on test."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Sequence
from dataclasses import dataclass, fields

from audio.clips import Corpus
from jobs import ensemble as ensemble_job
from jobs import students as students_job
from jobs import teachers as teachers_job
from jobs.cluster import cluster
from jobs.command import UserError, console, prepare, run
from jobs.learning import LearningOptions, Planned, carry_out, select_figures, show_plan
from jobs.tables import table
from jobs.units import ensemble_logits
from logit_store import LogitKey, LogitStore
from report import System, compare, summary
from students import RECIPES as STUDENT_RECIPES
from teachers import RECIPES as TEACHER_RECIPES
from teachers.recipes import DEMO, PUBLISHED

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

    teachers: teachers_job.TeachersOptions
    ensemble: ensemble_job.EnsembleOptions
    students: students_job.StudentsOptions

    @classmethod
    def of(cls, options: PipelineOptions) -> "Stages":
        """What each job is told when the pipeline is told `options`."""
        shared = {field.name: getattr(options, field.name) for field in fields(LearningOptions)}
        splits = DEMO_SPLITS if options.demo else options.splits
        student_splits = splits[-1:] if options.demo else splits
        student = options.student or ("demo_isotropic" if options.demo else "isotropic")
        return cls(
            teachers_job.TeachersOptions(
                **shared | {"splits": splits},
                recipes=options.recipes or (DEMO if options.demo else PUBLISHED),
            ),
            ensemble_job.EnsembleOptions(
                corpus=options.corpus, root=options.root, store=options.store
            ),
            students_job.StudentsOptions(
                **shared | {"splits": student_splits, "seeds": options.student_seeds},
                recipes=(student,),
            ),
        )


def main(options: PipelineOptions) -> int:
    """The whole way: recordings -> teachers -> logits -> ensemble -> student -> figures on test."""
    stages = Stages.of(options)
    store = options.open_store()
    corpus = options.open_corpus(store)
    teachers = teachers_job.plan(stages.teachers, corpus, store)
    baselines = students_job.plan(
        stages.students, corpus, store, dict.fromkeys(stages.students.splits)
    )
    if options.dry_run:
        show_plan([*teachers, *baselines], store)
        console.print("and then one ensemble a split, and as many distilled students")
        return 0
    rates = {TEACHER_RECIPES[name].front_end.sample_rate for name in stages.teachers.recipes}
    rates |= {STUDENT_RECIPES[name].front_end.sample_rate for name in stages.students.recipes}
    prepare(corpus, store, rates)
    with cluster():
        # Students alone need no ensemble: they fill the cores that the last teachers leave idle.
        failures = carry_out([*teachers, *baselines], store, options.needs())
        if failures:
            raise UserError(f"{failures} runs failed: mend them and start again; the rest is kept")
        names = ensemble_job.select_all(stages.ensemble, store, _candidates(teachers))
        if len(names) < len(stages.teachers.splits):
            raise UserError("no ensemble for some splits")
        chosen: dict[int, str | None] = {split: names[split] for split in stages.students.splits}
        distilled = students_job.plan(stages.students, corpus, store, chosen)
        if carry_out(distilled, store, options.needs()):
            raise UserError("some students failed: mend them and start again; the rest is kept")
    for split, name in sorted(names.items()):
        ensemble_job.show(store, corpus.name, split, name)
    show_results(corpus, store, teachers, names, baselines, distilled)
    console.print(f"next: python -m logit_store ls --store {store.address}", markup=False)
    return 0


def show_results(
    corpus: Corpus,
    store: LogitStore,
    teachers: Sequence[Planned],
    ensembles: dict[int, str],
    baselines: Sequence[Planned],
    distilled: Sequence[Planned],
) -> None:
    """The table of all systems on test, and what distillation gave."""
    systems = []
    for split, name in sorted(ensembles.items()):
        keys = [planned.key for planned in teachers if planned.key.split == split]
        systems += [_system(store, _plain(key.member), [key]) for key in keys]
        best = min(keys, key=lambda key: select_figures(store, key).log_loss)
        systems.append(_system(store, f"best single: {_plain(best.member)}", [best]))
        logits_NK = ensemble_logits(store, corpus.name, split, name)
        systems.append(System("ensemble", split, [logits_NK]))
    pairs = []
    for split in sorted({planned.key.split for planned in distilled}):
        pair = [
            _system(store, label, [p.key for p in plans if p.key.split == split])
            for label, plans in (("student alone", baselines), ("student distilled", distilled))
        ]
        pairs.append(pair)
        systems += pair
    console.print(
        "\non the test clips, macro-average accuracy in %, 95 % interval over recordings:"
    )
    header = ["system", "split", "seeds", "accuracy", "seen dev.", "unseen dev.", "log loss"]
    console.print(table(header, [_row(corpus, system) for system in systems]))
    for alone, taught in pairs:
        gain = compare(corpus, alone, taught).difference
        console.print(
            f"distillation, split {taught.split}: {100 * gain.value:+.1f} points, 95 % interval "
            f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f} "
            f"({len(taught.logits_ANK)} seeds, paired over recordings)"
        )


def _candidates(teachers: Sequence[Planned]) -> dict[int, tuple[str, ...]]:
    splits = sorted({planned.key.split for planned in teachers})
    return {s: tuple(p.key.member for p in teachers if p.key.split == s) for s in splits}


def _system(store: LogitStore, name: str, keys: Sequence[LogitKey]) -> System:
    return System(name, keys[0].split, list(store.read(keys)))


def _plain(member: str) -> str:
    return member.rsplit("-", 1)[0]


def _row(corpus: Corpus, system: System) -> list[str]:
    figures = summary(corpus, system)
    interval = figures.accuracy
    unseen = figures.unseen_accuracy
    return [
        system.name,
        str(system.split),
        str(len(system.logits_ANK)),
        f"{100 * interval.value:.1f} ({100 * interval.low:.0f}-{100 * interval.high:.0f})",
        f"{100 * figures.seen_accuracy:.1f}",
        "-" if unseen is None else f"{100 * unseen:.1f}",
        f"{figures.log_loss:.3f}",
    ]


if __name__ == "__main__":
    run(main, PipelineOptions)
