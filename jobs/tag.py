"""Let published taggers say which of the own classes each clip has, by a class map."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass
from pathlib import Path

from audio.clips import Corpus
from audio.findings import find_complete_splits
from jobs.command import REPORT, run
from jobs.plan.members import show_members
from jobs.plan.options import CorpusOptions, Splits, parse_splits
from jobs.schedule.carry_out import carry_out, print_if_all_stored
from jobs.schedule.cluster import connect
from jobs.schedule.task import Needs, Task, make_names_unique
from jobs.worker.tag import TagClips
from jobs.worker.where import prepare
from logit_store import LogitStore
from teachers.class_map import read_class_map
from teachers.errors import UnfitClips, UnknownTeacher
from teachers.taggers import find_tagger, make_tagger_keys
from terminal.console import UserError, repeat_command, say_next
from terminal.values import File, Line


@dataclass(frozen=True, kw_only=True)
class TagOptions(CorpusOptions):
    """Options of the command."""

    WRITES = True

    class_map: File
    """CSV with the columns class and id: for each class of the corpus one or more of AudioSet's ids, such as
    dog and /m/0bt9lr."""
    taggers: tuple[Line, ...] = ("mn10_as", "passt")
    """Published networks that learnt AudioSet, by their names in teachers.CATALOGUE."""
    splits: Splits = ("all",)
    """Splits to store the logits for; all means those that the corpus has. They are the same in each, as
    nothing is learnt."""


def main(options: TagOptions) -> int:
    """Let published taggers say which of the own classes each clip has, by a class map.

    They become teachers of the store, and can be selected and teach students at once. For corpora whose
    clips may have several labels: a tagger says of each class by itself how sure it is.

    Example:
        python jobs/tag.py --corpus folder --root runs/own --class-map map.csv
    """
    store = options.open_store()
    corpus = options.open_corpus(store)
    tasks = plan_tags(options, corpus, store)
    if not print_if_all_stored(tasks, store):
        prepare(corpus, store, {task.work.tagger.backbone.sample_rate for task in tasks})
        with connect() as workers:
            needs = Needs(gpus=1 if workers.count_gpus() else 0)
            if not carry_out(tasks, store, workers, needs):
                say_next(repeat_command())
                return 1
    show_members(tasks, store)
    data = options.list_data_options()
    say_next(["python", "jobs/ensemble.py", *data], [*REPORT, *data])
    return 0


def plan_tags(options: TagOptions, corpus: Corpus, store: LogitStore) -> list[Task[TagClips]]:
    """Return a task for each tagger, checked before anything runs.

    Raises:
        UserError: clips have one label each, or there is no such tagger, or it does not take the clips.
        CorpusError: the class map is wrong, or the corpus does not have a split.
    """
    if not corpus.has_several_labels:
        raise UserError(
            f"clips of corpus {corpus.name} have one label each, and a tagger's log odds are no choice among "
            "classes: take a probe on it (jobs/teachers.py --recipes probe:mn10_as)"
        )
    class_map = read_class_map(Path(options.class_map).expanduser(), corpus.scenes)
    splits = parse_splits(options.splits)
    if "all" in options.splits:
        splits = tuple(find_complete_splits(corpus))
    for split in splits:
        corpus.rows(split, "select")
    tasks = []
    for name in options.taggers:
        try:
            tagger = find_tagger(name, class_map)
            tagger.backbone.check_clips(corpus)
        except (UnknownTeacher, UnfitClips) as error:
            raise UserError(f"--taggers {name}: {error}") from error
        work = TagClips(tagger=tagger, where=options.make_where(store), splits=splits)
        tasks.append(Task(tagger.name, work, make_tagger_keys(tagger, corpus, splits)))
    return make_names_unique(tasks)


if __name__ == "__main__":
    run(main, TagOptions)
