"""What the options of a command ask for before and after the training of students."""

from collections.abc import Sequence
from dataclasses import replace

from audio.clips import Corpus
from jobs.plan.stages import plan_devices
from jobs.plan.students import StudentsOptions
from jobs.schedule.task import Task
from jobs.worker.train import Distill, Specialise
from students.stages import DeviceStage
from terminal.console import UserError


def check_stage_options(options: StudentsOptions) -> None:
    """Refuse options for stages that contradict each other.

    Raises:
        UserError: they do.
    """
    if options.first_root is not None and options.first_corpus is None:
        raise UserError(
            f"--first-root {options.first_root}: of which corpus? Say it: --first-corpus folder"
        )
    if options.first_corpus is not None and options.first_pool:
        raise UserError(
            f"--first-corpus {options.first_corpus} and --first-pool {' '.join(options.first_pool)}: a "
            "student has one stage before its own; leave one of the two out"
        )
    first = (options.first_corpus, options.first_root)
    if first == (options.corpus, options.root):
        raise UserError(
            f"--first-corpus {options.first_corpus}: that is --corpus, whose other clips may judge; name "
            "another corpus"
        )
    after = {"--per-device": options.per_device, "--prune-to": options.prune_to is not None}
    for option, is_given in after.items():
        if is_given and options.compare:
            raise UserError(
                f"{option} with --compare: a comparison is of ways of learning, and this is what comes after "
                "one; leave one of the two out, and see python jobs/report.py for what it gains"
            )
    if (
        options.first_corpus is not None
        and options.first_root is None
        and options.first_corpus != "demo"
    ):
        raise UserError(
            f"--first-corpus {options.first_corpus}: say where its files are: --first-root FOLDER"
        )
    if options.prune_to is not None and options.no_teacher:
        raise UserError(
            f"--prune-to {options.prune_to}: between its steps a pruned student learns from soft labels; "
            "leave out --no-teacher, or take a smaller student"
        )


def plan_device_runs(
    options: StudentsOptions, tasks: Sequence[Task[Distill]], corpus: Corpus
) -> list[Task[Specialise]]:
    """Return runs that include these, and train a network per recording device after each.

    Raises:
        UserError: the clips of a split have fewer than two known recording devices.
    """
    stage = DeviceStage(max_steps=options.max_steps)
    if options.epochs is not None:
        stage = replace(stage, epochs=min(options.epochs, stage.epochs))
    return [plan_devices(task, corpus, stage) for task in tasks]
