"""The commands of a proof on one corpus, and the systems whose logits they leave in the store.

The jobs do all the work: a proof only says which, and what they are called in its tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from audio.clips import Corpus
from audio.corpora import CorpusName
from audio.pools import REST
from benchmarks.proof_tables import FailedTeacher, ProvedSystem
from jobs.log.watcher import Watcher
from jobs.plan.comparison import N_WAYS, Comparison
from jobs.plan.ensembles import EnsembleOptions
from jobs.plan.pools import plan_pool
from jobs.plan.students import COMPARED_SEEDS, StudentsOptions, plan_students
from jobs.plan.taught_by import find_teachers
from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import TeacherPlan, plan_teachers
from jobs.schedule.task import Task
from jobs.worker.train import Distill
from logit_store import LogitStore, MissingClips, MissingStore, strip_fingerprint
from teachers.recipes import DEMO_TEACHERS
from terminal import parse_options
from terminal.console import UserError
from training.pool_use import PoolUse

SPLITS = (5, 25, 100)
WHOLE = 100
"""This split leaves no clip out, so it has no pool."""
SEEDS = COMPARED_SEEDS
LATER_STUDENTS = ("demo_tf_sepnet", "demo_cnn_gru", "demo_rep_mobile")
"""Students of other architectures, which the demo corpus compares in all ways on one split."""
LATER_SPLIT = 25
TEACHERS = (*DEMO_TEACHERS, "probe:aisfx")
N_VIEWS = 4
"""Views that each teacher predicts, and from which students with views learn."""

_Options = TypeVar("_Options")


@dataclass(frozen=True, slots=True)
class Lesson:
    """How a student learns, with and without the device discriminator."""

    name: str
    words: str
    """Words of `students.ways`, before that of the discriminator; none are the recipe's own way."""
    has_pool: bool
    """Whether it learns from the clips that its split leaves out, too."""


ALONE = Lesson("student alone", "alone", has_pool=False)
LESSONS = (
    ALONE,
    Lesson("distilled", "", has_pool=False),
    Lesson("distilled, pool", "", has_pool=True),
    Lesson("distilled, pool, views", f"views={N_VIEWS}", has_pool=True),
)
DISCRIMINATORS = {"plain": "", "adversarial": ", adversarial"}
"""What a word of `students.ways` adds to a system's name."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What is proved on one corpus, with a store of its own."""

    corpus: CorpusName
    root: str | None
    store: str
    student: str
    splits: tuple[int, ...] = SPLITS
    seeds: tuple[int, ...] = SEEDS
    max_steps: int | None = None
    """Of each training, to try things out; None leaves it to the recipes."""

    def list_commands(self, root: str | None = None) -> list[list[str]]:
        """Return the words of all commands, in their order.

        Args:
            root: what stands for the corpus's folder; the folder itself if None.
        """
        return [words for words in self._list_by_name(root).values() if words]

    def _list_by_name(self, root: str | None = None) -> dict[str, list[str]]:
        own, pooled = ([each for each in LESSONS if each.has_pool == has] for has in (False, True))
        return {
            "teachers": self._make_command(
                "teachers", root, self.splits, "--recipes", *TEACHERS, "--views", str(N_VIEWS)
            ),
            "ensemble": self._make_command("ensemble", root, self.splits),
            "students": self._make_students_command(root, self.splits, own),
            "pooled": self._make_students_command(root, self.pool_splits, pooled),
            "later": self._make_later_command(root),
        }

    def _make_later_command(self, root: str | None) -> list[str]:
        """Return the command that compares later students; none where that is not done."""
        if not self.has_later_students:
            return []
        how = ["--recipes", *LATER_STUDENTS, "--compare", "--seeds", *map(str, self.seeds)]
        return self._make_command("students", root, (LATER_SPLIT,), *how)

    def _make_students_command(
        self, root: str | None, splits: Sequence[int], lessons: Sequence[Lesson]
    ) -> list[str]:
        """Return the command for these lessons, in the order of their names; none without splits."""
        if not splits:
            return []
        ways = [_join(each, word) for each in lessons for word in DISCRIMINATORS]
        pool = ["--pool", REST] if lessons[0].has_pool else []
        return self._make_command(
            "students",
            root,
            splits,
            *("--recipes", self.student, "--ways", *ways, *pool),
            *("--seeds", *map(str, self.seeds)),
        )

    def _make_command(
        self, job: str, root: str | None, splits: Sequence[int], *how: str
    ) -> list[str]:
        root = root or self.root
        data = ["--corpus", self.corpus, *(["--root", root] if root else []), "--store", self.store]
        limit = ["--max-steps", str(self.max_steps)] if self.max_steps and job != "ensemble" else []
        chosen = ["--splits", *map(str, splits)]
        return ["python", f"jobs/{job}.py", *data, *chosen, *how, *limit]

    @property
    def has_later_students(self) -> bool:
        """Whether the later students are compared: on the corpus that everybody has, if it has their split."""
        return self.corpus == "demo" and LATER_SPLIT in self.splits

    @property
    def pool_splits(self) -> tuple[int, ...]:
        """The splits that leave clips out, which make a pool."""
        return tuple(split for split in self.splits if split < WHOLE)

    @cached_property
    def teachers(self) -> TeachersOptions:
        """The options that the first command's words mean."""
        return _parse(TeachersOptions, self._list_by_name()["teachers"])

    @cached_property
    def ensemble(self) -> EnsembleOptions:
        """The options that the second command's words mean."""
        return _parse(EnsembleOptions, self._list_by_name()["ensemble"])

    @cached_property
    def students(self) -> StudentsOptions:
        """The options that the third command's words mean."""
        return _parse(StudentsOptions, self._list_by_name()["students"])

    @cached_property
    def later(self) -> StudentsOptions:
        """The options that the last command's words mean."""
        return _parse(StudentsOptions, self._list_by_name()["later"])

    def plan_teachers(self, corpus: Corpus, store: LogitStore) -> TeacherPlan:
        """Return the runs of the first command."""
        return plan_teachers(self.teachers, corpus, store)

    def plan_lesson(
        self, lesson: Lesson, word: str, corpus: Corpus, store: LogitStore
    ) -> list[Task[Distill]]:
        """Return the runs of a lesson on all its splits, taught by the ensembles in the store.

        Raises:
            UserError: a split has no ensemble.
        """
        options = self._find_options(lesson, word)
        taught_by = find_teachers(options, corpus.name, store)
        return plan_students(options, corpus, store, taught_by)

    def expect_lesson(
        self, lesson: Lesson, word: str, corpus: Corpus, store: LogitStore
    ) -> list[Task[Distill]]:
        """Return runs that do as much as those of a lesson, as long as no ensemble can teach."""
        options = replace(self._find_options(lesson, word), pool=())
        untaught: dict[int, str | None] = {int(split): None for split in options.splits}
        tasks = plan_students(options, corpus, store, untaught)
        if not lesson.has_pool:
            return tasks
        return [replace(task, work=_add_pool(task.work, corpus)) for task in tasks]

    def plan_later(self, corpus: Corpus, store: LogitStore) -> Comparison:
        """Return the runs of the later students, taught by the ensemble in the store; none on most corpora.

        Raises:
            UserError: the split has no ensemble.
        """
        if not self.has_later_students:
            return Comparison([])
        return Comparison.plan(self.later, corpus, store)

    def expect_later(self, corpus: Corpus, store: LogitStore) -> list[Task[Distill]]:
        """Return runs that do as much as those of the later students, as long as no ensemble can teach."""
        if not self.has_later_students:
            return []
        options = replace(self.later, compare=False)
        tasks = plan_students(options, corpus, store, {LATER_SPLIT: None})
        return [
            replace(task, name=f"{task.name}, way {number}")
            for number in range(N_WAYS)
            for task in tasks
        ]

    def _find_options(self, lesson: Lesson, word: str) -> StudentsOptions:
        splits = self.pool_splits if lesson.has_pool else self.splits
        pool = (REST,) if lesson.has_pool else ()
        return replace(self.students, ways=(_join(lesson, word),), splits=splits, pool=pool)


def _parse(kind: type[_Options], words: Sequence[str]) -> _Options:
    return parse_options(kind, " ".join(words[:2]), "", words[2:])


def _join(lesson: Lesson, word: str) -> str:
    return f"{lesson.words}+{word}" if lesson.words else word


def _add_pool(work: Distill, corpus: Corpus) -> Distill:
    planned = plan_pool((REST,), PoolUse(), corpus, work.split)
    return replace(work, pool=None if planned is None else planned.work)


def refuse_other_teachers(proof: Proof, corpus: Corpus, store: LogitStore) -> None:
    """Refuse a store with other teachers, among which the ensemble would choose as well.

    Raises:
        UserError: it has some; names one.
    """
    own = {task.keys[0] for task in proof.plan_teachers(corpus, store).list_members()}
    try:
        footers = store.list_footers(corpus.name)
    except (MissingStore, MissingClips):
        return
    others = [
        key
        for key, footer in footers.items()
        if footer.record.get("kind") == "teacher" and key not in own and key.split in proof.splits
    ]
    if others:
        raise UserError(
            f"{proof.store} has {others[0]}, which is no teacher of this proof, but would be a candidate of "
            "its ensembles: give another --stores"
        )


def find_systems(proof: Proof, corpus: Corpus, store: LogitStore) -> list[ProvedSystem]:
    """Return all systems of a proof whose commands are done: by split, then in the order of the page.

    Raises:
        UserError: a split has no ensemble yet.
    """
    systems = [
        *_find_teachers(proof, corpus, store),
        *_find_ensembles(proof, corpus, store),
        *_find_students(proof, corpus, store),
    ]
    return sorted(systems, key=lambda each: each.split)


def find_later_systems(proof: Proof, corpus: Corpus, store: LogitStore) -> list[ProvedSystem]:
    """Return the later students in all ways, each compared with the same student alone.

    Raises:
        UserError: the split has no ensemble yet.
    """
    return [
        ProvedSystem(
            name=way.name,
            kind="student",
            split=recipe.split,
            keys=tuple(task.keys[0] for task in way.tasks),
            against=None if way is recipe.ways[0] else recipe.ways[0].name,
        )
        for recipe in proof.plan_later(corpus, store).groups
        for way in recipe.ways
    ]


def find_failures(proof: Proof, corpus: Corpus, store: LogitStore) -> list[FailedTeacher]:
    """Return the teachers that have no logits, with the error by which their last run ended."""
    planned = proof.plan_teachers(corpus, store).list_members()
    missing = [task for task in planned if task.keys[0] not in store]
    if not missing:
        return []
    watcher, errors = Watcher(store), dict[str, str]()
    for job in watcher.list_jobs():
        errors |= {
            each.planned.name: each.error for each in watcher.read_job(job).tasks if each.error
        }
    return [
        FailedTeacher(
            name=strip_fingerprint(task.keys[0].member),
            split=task.keys[0].split,
            error=errors.get(task.name, "no record of its run").partition("\n")[0],
        )
        for task in missing
    ]


def have_teachers(proof: Proof, corpus: Corpus, store: LogitStore) -> bool:
    """Return whether each split has a teacher, so that a proof can go on although others failed."""
    try:
        found = {key.split for key in store.keys(corpus.name, kind="teacher")}
    except MissingStore:
        return False
    return found >= set(proof.splits)


def _find_teachers(proof: Proof, corpus: Corpus, store: LogitStore) -> Iterator[ProvedSystem]:
    for task in proof.plan_teachers(corpus, store).list_members():
        key = task.keys[0]
        if key not in store:
            continue
        yield ProvedSystem(
            name=strip_fingerprint(key.member), kind="teacher", split=key.split, keys=(key,)
        )


def _find_ensembles(proof: Proof, corpus: Corpus, store: LogitStore) -> Iterator[ProvedSystem]:
    for split, reference in find_teachers(proof.students, corpus.name, store).items():
        keys = tuple(store.ensembles.read_weights(corpus.name, split, str(reference)))
        yield ProvedSystem(
            name="ensemble", kind="ensemble", split=split, keys=keys, reference=reference
        )


def _find_students(proof: Proof, corpus: Corpus, store: LogitStore) -> Iterator[ProvedSystem]:
    for lesson in LESSONS:
        for word, ending in DISCRIMINATORS.items():
            tasks = proof.plan_lesson(lesson, word, corpus, store)
            against = f"{ALONE.name}{ending if lesson is not ALONE else ''}"
            name = f"{lesson.name}{ending}"
            for split in dict.fromkeys(task.work.split for task in tasks):
                yield ProvedSystem(
                    name=name,
                    kind="student",
                    split=split,
                    keys=tuple(task.keys[0] for task in tasks if task.work.split == split),
                    against=None if name == against else against,
                )
