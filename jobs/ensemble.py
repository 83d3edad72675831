"""Select ensembles per split among the members in the store, as Ray tasks."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from disk import write_whole
from jobs.command import REPORT, run
from jobs.plan.dry_run import show_estimates
from jobs.plan.ensembles import (
    EnsembleOptions,
    find_candidates,
    find_input,
    parse_settings,
    plan_selections,
    show_ensemble,
)
from jobs.plan.estimates import Estimate
from jobs.plan.next_steps import suggest_students
from jobs.plan.records import Machine
from jobs.plan.rehearsal import Rehearsal
from jobs.schedule.carry_out import carry_out, find_stored, print_if_all_stored
from jobs.schedule.cluster import connect
from jobs.schedule.task import AnyWork, Needs, Outcome, Task
from jobs.worker.select import (
    ReadCandidates,
    SelectEnsemble,
    measure_agreement,
)
from logit_store import LogitStore
from terminal.console import console, progress_bar, repeat_command, say_next


def main(options: EnsembleOptions) -> int:
    """Select ensembles per split among the members in the store, as Ray tasks.

    Example:
        python jobs/ensemble.py --splits 25 --query "family != 'passt'" --name cnn
    """
    variants = parse_settings(options)
    store = options.open_store()
    candidates = find_candidates(options, store)
    tasks = [
        task
        for split, members in candidates.items()
        for task in plan_selections(options, store, split, members, variants)
    ]
    if options.dry_run:
        show_selections(options, store, tasks)
        say_next(repeat_command(less="--dry-run"))
        return 0
    selected: dict[tuple[int, str], str] = {}
    """NAME@HASH by split and name."""

    def note(outcome: Outcome[AnyWork]) -> tuple[Task[AnyWork], ...]:
        match outcome.task.work:
            case SelectEnsemble(input=candidates, name=name):
                selected[candidates.split, name] = outcome.result
            case work:
                raise TypeError(f"{outcome.task.name}: not a selection but {type(work).__name__}")
        return ()

    went_well = print_if_all_stored(tasks, store, then=note)
    if not went_well:
        with connect() as workers:
            timeout_s = options.find_timeout_s(workers)
            went_well = carry_out(tasks, store, workers, Needs(), then=note, timeout_s=timeout_s)
    for (split, _), reference in sorted(selected.items()):
        show_ensemble(store, options.corpus, split, reference)
        if options.plot:
            picture = draw_picture(store, options, split, reference)
            console.print(f"picture: {picture}", markup=False)
    if not went_well:
        say_next(repeat_command())
        return 1
    splits = sorted(candidates)
    name = find_best_name(store, options.corpus, selected)
    taught = ["--splits", *map(str, splits), "--ensemble", name]
    suited = suggest_students(store.read_clips(options.corpus), splits)
    say_next(
        ["python", "jobs/students.py", *options.list_data_options(), *taught, *suited],
        [*REPORT, *options.list_data_options()],
    )
    return 0


def find_best_name(store: LogitStore, corpus: str, selected: Mapping[tuple[int, str], str]) -> str:
    """Return the name whose ensembles are best on unseen clips, by the mean over the splits."""
    losses: dict[str, list[float]] = {}
    for (split, name), reference in selected.items():
        document = store.ensembles.read(corpus, split, reference)
        losses.setdefault(name, []).append(document["optimism"]["nested"])
    return min(losses, key=lambda name: mean(losses[name]))


def show_selections(
    options: EnsembleOptions, store: LogitStore, tasks: Sequence[Task[SelectEnsemble]]
) -> None:
    """Print which selections would run, need and cost; one of each is made for that, and not kept."""
    missing: dict[ReadCandidates, list[Task[SelectEnsemble]]] = {}
    for task, done in zip(tasks, find_stored(tasks, store), strict=True):
        if not done:
            missing.setdefault(task.work.input, []).append(task)
    estimates: dict[str, Estimate] = {}
    with progress_bar() as bar:
        for candidates, of_split in bar.track(list(missing.items()), description="rehearsals"):
            rehearsal = Rehearsal.read(candidates)
            estimates |= {task.name: rehearsal.estimate(task.work.settings) for task in of_split}
    names = [task.name for task in tasks]
    device = Machine.cpu(1)
    show_estimates(names, estimates, device, options.find_price(), spot=options.spot, here=device)


def draw_picture(store: LogitStore, options: EnsembleOptions, split: int, reference: str) -> Path:
    """Write the picture of one ensemble, and return its path."""
    # Matplotlib takes a second to import, and most commands draw nothing.
    from report.ensemble_picture import draw_ensemble

    if options.plot is None:
        raise ValueError("no folder for pictures")
    document = store.ensembles.read(options.corpus, split, reference)
    members = [each["member"] for each in document["members"]]
    agreement_MM = measure_agreement(find_input(options, store, split, members).run().logits_MNK)
    title = f"{reference}, {options.corpus}, split {split}"
    path = options.plot.expanduser() / f"{options.corpus}-{split}-{reference}.svg"
    write_whole(path, draw_ensemble(title, document, agreement_MM))
    return path


if __name__ == "__main__":
    run(main, EnsembleOptions)
