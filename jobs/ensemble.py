"""Select ensembles per split among the members in the store, as Ray tasks."""

if not __package__:
    import _root  # noqa: F401

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from jobs import selection
from jobs.cluster import cluster
from jobs.command import REPORT, UserError, again, console, progress_bar, run, say_next
from jobs.costs import CostOptions
from jobs.fanout import Needs, Outcome, Task
from jobs.learning import carry_out, chosen
from jobs.plans import show_estimates
from jobs.records import Device
from jobs.rehearsal import Rehearsal
from jobs.selection import Chosen, Settings, Space
from jobs.tables import table
from logit_store import LogitStore, plain_name
from report.ensemble_picture import draw_ensemble
from training import Protocol
from training.recipe import judging_fold

SPACES: tuple[Space, ...] = ("logits", "probabilities")


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(CostOptions):
    """Options of the command."""

    splits: tuple[int | Literal["all"], ...] = ("all",)
    """Splits to select for; all means those that have candidates in the store."""
    query: str | None = None
    """Which members are candidates: SQL over the columns of the view `members`, for example
    "family != 'passt' and log_loss_select < 1.5"; all teachers if not given."""
    name: str = "stepwise"
    """What the ensemble is called; with several pools or replacements these are added."""
    pools: tuple[str, ...] = ("logits",)
    """What is averaged: logits, probabilities, or both, one ensemble each."""
    replacement: Literal["without", "with", "both"] = "without"
    """with: a member may be taken several times; its weight is how often (Caruana et al. 2004)."""
    metric: Literal["log_loss", "macro_accuracy", "brier"] = "log_loss"
    """What each addition has to improve."""
    max_members: int | None = None
    """Take no more than so many."""
    patience: int = 0
    """Go on for so many additions without a gain; the best is kept."""
    bags: int = 0
    """Select on so many random halves of the recordings, and take the mean of the weights."""
    weights: Literal["counts", "convex"] = "counts"
    """How much a member counts: how often it was taken, or what lowers the log loss most."""
    calibrate: bool = False
    """Divide each member's logits by its own temperature first."""
    require: tuple[str, ...] = ()
    """Members that are in from the start: their names, with or without fingerprint."""
    forbid: tuple[str, ...] = ()
    """Members that are left out."""
    protocol: Protocol = "honest"
    """published: of teachers taught by that protocol, chosen on the test clips, as published; for
    comparison with publications only."""
    plot: Path | None = None
    """Folder for a picture (SVG) of each ensemble: its path, who agrees with whom, the weights."""


def main(options: EnsembleOptions) -> int:
    """Select ensembles per split among the members in the store, as Ray tasks.

    Example:
        python jobs/ensemble.py --splits 25 --query "family != 'passt'" --name cnn
    """
    variants = settings_of(options)
    store = options.open_store()
    candidates = find_candidates(options, store)
    if options.dry_run:
        show_selections(options, store, candidates, variants)
        say_next(again(less="--dry-run"))
        return 0
    found: dict[tuple[int, str], Chosen] = {}

    def note(outcome: Outcome) -> tuple[Task, ...]:
        arguments = outcome.task.arguments
        found[arguments["split"], arguments["name"]] = outcome.result
        return ()

    with cluster():
        tasks = [
            task
            for split, members in candidates.items()
            for task in plan(options, store, split, members, variants)
        ]
        went_well = carry_out(tasks, store, Needs(), then=note)
    for (split, _), made in sorted(found.items()):
        show(store, options.corpus, split, made.reference)
        if options.plot:
            console.print(f"picture: {draw(store, options, split, made)}", markup=False)
    if not went_well:
        say_next(again())
        return 1
    splits = map(str, sorted(candidates))
    taught = ["--splits", *splits, "--ensemble", best_name(store, options.corpus, found)]
    say_next(["python", "jobs/students.py", *options.data(), *taught], [*REPORT, *options.data()])
    return 0


def best_name(store: LogitStore, corpus: str, found: Mapping[tuple[int, str], Chosen]) -> str:
    """The name whose ensembles are best on clips that no selection saw, over the splits."""
    losses: dict[str, list[float]] = {}
    for (split, name), made in found.items():
        document = store.read_ensemble(corpus, split, made.reference)
        losses.setdefault(name, []).append(document["optimism"]["nested"])
    return min(losses, key=lambda name: mean(losses[name]))


def settings_of(options: EnsembleOptions) -> dict[str, Settings]:
    """The ways to select that were asked for, each with the name that its ensembles get.

    Raises:
        UserError: an option makes no sense.
    """
    words = [word for pool in options.pools for word in pool.split(",")]
    spaces = [space for space in SPACES if space in words]
    if not words or set(words) - set(SPACES):
        raise UserError(f"--pools {' '.join(options.pools)}: expected {' or '.join(SPACES)}")
    for name, least in (("max_members", 1), ("patience", 0), ("bags", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option} {value}: expected {least} or more")
    ways = ("without", "with") if options.replacement == "both" else (options.replacement,)
    common = Settings(
        metric=options.metric,
        max_members=options.max_members,
        patience=options.patience,
        bags=options.bags,
        weights=options.weights,
        calibrate=options.calibrate,
    )
    several = len(spaces) * len(ways) > 1
    return {
        f"{options.name}-{space}-{way}" if several else options.name: replace(
            common, space=space, with_replacement=way == "with"
        )
        for space, way in itertools.product(spaces, ways)
    }


def show_selections(
    options: EnsembleOptions,
    store: LogitStore,
    candidates: Mapping[int, Sequence[str]],
    variants: Mapping[str, Settings],
) -> None:
    """Which selections would run, what they need and cost: one of each is tried, and not kept."""
    fold, found = judging_fold(options.protocol), {}
    with progress_bar() as bar:
        for split, members in bar.track(list(candidates.items()), description="rehearsals"):
            trial = Rehearsal.read(store.address, options.corpus, split, members, fold)
            for name, settings in variants.items():
                found[f"ensemble {name} split {split}"] = trial.estimate(settings)
    device = replace(Device.here(1), accelerator=None)
    show_estimates(list(found), found, device, options.price(), spot=options.spot)


def find_candidates(options: EnsembleOptions, store: LogitStore) -> dict[int, tuple[str, ...]]:
    """The members that the options mean, by split; splits without any are left out.

    Raises:
        UserError: there are none, or none in a split that was named.
    """
    splits = chosen(options.splits)
    condition = f"({options.query})" if options.query else "kind = 'teacher'"
    with progress_bar() as bar:
        bar.add_task("members", total=None)
        there = store.sql(
            "select split, member from members where view = 0 "
            f"and corpus = '{options.corpus}' and protocol = '{options.protocol}' and {condition}"
        ).to_pylist()
    found = {
        split: tuple(
            row["member"]
            for row in there
            if row["split"] == split and not _is_one_of(row["member"], options.forbid)
        )
        for split in splits
    }
    empty = [] if "all" in options.splits else [split for split in splits if not found[split]]
    found = {split: members for split, members in found.items() if members}
    if empty or not found:
        what = f"members with {options.query}" if options.query else "teachers"
        raise UserError(
            f"{store.address} has no {what} of corpus {options.corpus} ({options.protocol} "
            f"protocol){f' for split {empty}' if empty else ''}: run python jobs/teachers.py first"
        )
    for (split, members), name in itertools.product(found.items(), options.require):
        if not any(_is_one_of(member, [name]) for member in members):
            raise UserError(f"--require {name}: no candidate of split {split} is called so")
    return found


def _is_one_of(member: str, names: Sequence[str]) -> bool:
    """Whether one of these is the member's name, with or without its fingerprint."""
    return member in names or plain_name(member) in names


def plan(
    options: EnsembleOptions,
    store: LogitStore,
    split: int,
    members: Sequence[str],
    variants: Mapping[str, Settings],
) -> list[Task]:
    """The selections of one split's ensembles among these members; a result is a `Chosen`.

    The connected cluster begins to read the logits at once, for all of them.
    """
    fold = judging_fold(options.protocol)
    read = selection.reading(store.address, options.corpus, split, members, fold)
    required = tuple(member for member in members if _is_one_of(member, options.require))
    common: dict[str, Any] = {
        "store": store.address,
        "corpus": options.corpus,
        "split": split,
        "fold": fold,
    }
    return [
        Task(
            f"ensemble {name} split {split}",
            selection.choose,
            common | {"name": name, "settings": replace(settings, required=required)},
            shared={"candidates": read},
        )
        for name, settings in variants.items()
    ]


def show(store: LogitStore, corpus: str, split: int, reference: str) -> None:
    """The path of losses of one ensemble, and how far its loss is to be believed."""
    document = store.read_ensemble(corpus, split, reference)
    fold, metric = document["fold"], document["settings"]["metric"].replace("_", " ")
    steps = zip(document["order"], document["losses"], strict=True)
    rows = [[member, f"{loss:.4f}"] for member, loss in steps]
    n_candidates = len(document["candidates"])
    console.print(f"{reference}, split {split}, of {n_candidates} candidates:", markup=False)
    console.print(table(["member added", f"{metric} on {fold}"], rows))
    estimate, calibration = document["optimism"], document["calibration"]
    gap, before, after = estimate["optimism"], calibration["before"], calibration["after"]
    console.print(
        f"log loss {estimate['selected_on']:.4f} on the clips it was selected on; {fold} clips that "
        f"a selection did not see: {estimate['nested']:.4f}, so {gap['value']:+.4f} of optimism "
        f"(95 % interval {gap['low']:+.4f} to {gap['high']:+.4f}, {estimate['n_folds']} folds over "
        f"recordings)\ntemperature {document['temperature']:.3f} would change the calibration error "
        f"from {before['calibration_error']:.3f} to {after['calibration_error']:.3f} and the log "
        f"loss to {after['log_loss']:.4f}"
    )


def draw(store: LogitStore, options: EnsembleOptions, split: int, made: Chosen) -> Path:
    """Write the picture of one ensemble; where it is."""
    if options.plot is None:
        raise ValueError("no folder for pictures")
    document = store.read_ensemble(options.corpus, split, made.reference)
    title = f"{made.reference}, {options.corpus}, split {split}"
    place = options.plot.expanduser() / f"{options.corpus}-{split}-{made.reference}.svg"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(draw_ensemble(title, document, made.agreement_MM))
    return place


if __name__ == "__main__":
    run(main, EnsembleOptions)
