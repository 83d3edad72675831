"""Which ensembles a command asks to select: from its options to tasks, checked before any work."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from audio.parts import OUT_OF_FOLD
from ensemble.options import MeanSpace, SelectionMetric
from jobs.plan.options import AttemptOptions, Splits, parse_splits
from jobs.schedule.task import Task
from jobs.worker.select import ReadCandidates, SelectEnsemble, SelectionSettings
from logit_store import LogitKey, LogitStore, QueryFailed, strip_fingerprint
from logit_store.clips_table import has_several_labels
from terminal.console import UserError, console, progress_bar
from terminal.tables import build_table, format_count
from terminal.values import Check, Count, Name, NewFolder, NewName, Text, whole
from training import Protocol
from training.recipe import find_judging_fold

SPACES: tuple[MeanSpace, ...] = ("logits", "probabilities")
MOST_NAMED = 5
"""At most this many candidates are named in an error."""


def _split_words(averages: Sequence[str]) -> set[str]:
    return {word for words in averages for word in words.split(",")}


def _find_fault_of_average(averages: Sequence[str]) -> str | None:
    words = _split_words(averages)
    return None if words and words <= set(SPACES) else f"expected {' or '.join(SPACES)}"


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(AttemptOptions):
    """Options of the command."""

    splits: Splits = ("all",)
    """Splits to select for; all means those that have candidates in the store."""
    query: Text | None = None
    """Which members are candidates: one SQL expression over the columns of the view `members`, like
    "family != 'passt' and log_loss_select < 1.5"; all teachers if not given."""
    name: NewName = "stepwise"
    """Name of the ensemble; with several averages or replacements, these are added to it."""
    average: Annotated[tuple[str, ...], Check(_find_fault_of_average)] = ("logits",)
    """What is averaged: logits, probabilities, or both, one ensemble each."""
    replacement: Literal["without", "with", "both"] = "without"
    """with: a member may be added several times, which is its weight (Caruana et al. 2004)."""
    metric: SelectionMetric = "log_loss"
    """What each addition has to improve; mean_average_precision is for clips with several labels."""
    max_members: Count | None = None
    """Largest number of members."""
    patience: Annotated[int, whole(0, 1_000_000)] = 0
    """Number of additions without a gain before the selection ends; the best ensemble is kept."""
    bags: Annotated[int, whole(0, 10_000)] = 0
    """Number of random halves of the recordings to select on; the weights are the mean over them."""
    weights: Literal["counts", "convex"] = "counts"
    """Weights of the members: how often each was added, or those with the lowest log loss."""
    calibrate: bool = False
    """Divide each member's logits by its own temperature first."""
    require: tuple[Name, ...] = ()
    """Members that are in from the start, by their names with or without fingerprint."""
    forbid: tuple[Name, ...] = ()
    """Members that are left out."""
    protocol: Protocol = "honest"
    """published: select among teachers trained by that protocol, on the test clips, as publications
    do; only to compare with them."""
    judge: Literal["select", "out-of-fold"] = "select"
    """Clips that members are selected on; out-of-fold: those of fit too, which takes candidates that
    jobs/teachers.py has trained with --cross-fit."""
    plot: NewFolder | None = None
    """Folder for a picture (SVG) of each ensemble: its path, who agrees with whom, the weights."""


def parse_settings(options: EnsembleOptions) -> dict[str, SelectionSettings]:
    """Return the settings of each ensemble of a split, by its name."""
    spaces = [space for space in SPACES if space in _split_words(options.average)]
    ways = ("without", "with") if options.replacement == "both" else (options.replacement,)
    common = SelectionSettings(
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


def find_candidates(options: EnsembleOptions, store: LogitStore) -> dict[int, tuple[str, ...]]:
    """Return the candidates of each split; splits without any are left out.

    Raises:
        UserError: there are none, or none in a split that the options name; or the query is not one
            expression over the columns of the view `members`.
    """
    splits = parse_splits(options.splits)
    condition = parse_condition(options.query) if options.query else "kind = 'teacher'"
    with progress_bar() as bar:
        bar.add_task("members", total=None)
        rows = _find_members(options, store, condition)
    candidates = {
        split: tuple(
            row["member"]
            for row in rows
            if row["split"] == split and not _is_one_of(row["member"], options.forbid)
        )
        for split in splits
    }
    empty = [split for split in splits if not candidates[split]]
    candidates = {split: members for split, members in candidates.items() if members}
    if not candidates or (empty and "all" not in options.splits):
        raise UserError(_describe_lack(options, store, empty))
    for (split, members), name in itertools.product(candidates.items(), options.require):
        if not any(_is_one_of(member, [name]) for member in members):
            raise UserError(f"--require {name}: no candidate of split {split} has this name")
    _check_metric(options, store)
    if options.judge == "out-of-fold":
        _check_cross_fitted(options, store, candidates)
    return candidates


def _check_metric(options: EnsembleOptions, store: LogitStore) -> None:
    """Make sure that the clips have such a metric, and say where no bound saves tries.

    Raises:
        UserError: they have not.
    """
    metric, several = options.metric, has_several_labels(store.read_clips(options.corpus))
    if several and metric == "macro_accuracy":
        raise UserError(
            f"--metric {metric}: clips of corpus {options.corpus} have several labels or none: take "
            "log_loss or mean_average_precision"
        )
    if metric != "mean_average_precision":
        return
    if not several:
        raise UserError(
            f"--metric {metric}: clips of corpus {options.corpus} have one label each: take log_loss or "
            "macro_accuracy"
        )
    if options.bags:
        raise UserError(
            f"--bags {options.bags}: a half may lack a class, so not with --metric {metric}"
        )
    console.print(
        "the mAP is convex in nothing that is averaged: no bound holds, and each candidate is tried in each "
        "step; log_loss prunes exactly"
    )


def _check_cross_fitted(
    options: EnsembleOptions, store: LogitStore, candidates: Mapping[int, Sequence[str]]
) -> None:
    """Make sure that no candidate has learnt the `fit` clips that it is judged on.

    Raises:
        UserError: one has, or does not say that it has not; or test clips are to judge.
    """
    if options.protocol != "honest":
        raise UserError(
            f"--judge out-of-fold: with --protocol {options.protocol} the test clips judge: leave one of "
            "the two out"
        )
    keys = [
        LogitKey(options.corpus, split, member)
        for split, members in candidates.items()
        for member in members
    ]
    footers = store.read_footers(keys)
    plain = [key.member for key in keys if not footers[key].record.get("cross_fit")]
    if plain:
        more = f" and {len(plain) - MOST_NAMED} more" if len(plain) > MOST_NAMED else ""
        raise UserError(
            f"--judge out-of-fold: {', '.join(plain[:MOST_NAMED])}{more} may have learnt the fit clips "
            "that would judge: train them with python jobs/teachers.py --cross-fit 5, or leave them out "
            "with --forbid or --query"
        )


def _find_members(
    options: EnsembleOptions, store: LogitStore, condition: str
) -> list[dict[str, Any]]:
    """Return split and name of the members that fulfil a condition.

    Raises:
        UserError: DuckDB refuses the condition that the options give.
    """
    try:
        return store.sql(
            "select split, member from members where view = 0 "
            f"and corpus = '{options.corpus}' and protocol = '{options.protocol}' and {condition}"
        ).to_pylist()
    except QueryFailed as error:
        if options.query is None:
            raise
        # The rest is an excerpt of the query.
        reason = " ".join(error.reason.partition("\n\nLINE ")[0].split())
        columns = ", ".join(store.members().column_names)
        raise UserError(
            f"--query {options.query}: {reason}; expected columns: {columns}"
        ) from error


def _describe_lack(options: EnsembleOptions, store: LogitStore, splits: Sequence[int]) -> str:
    """Return why some splits have no candidate: the options leave none, or there is no member."""
    asked = f" for split {list(splits)}" if "all" not in options.splits else ""
    of_corpus = f"of corpus {options.corpus} ({options.protocol} protocol){asked}"
    n = sum(row["split"] in splits for row in _find_members(options, store, "true"))
    given = [f"--query {options.query}"] if options.query else []
    given += [f"--forbid {' '.join(options.forbid)}"] if options.forbid else []
    if n and given:
        return (
            f"{store.address} has {format_count(n, 'member')} {of_corpus}, but {' and '.join(given)} "
            f"leaves none: python -m logit_store ls --store {store.address} shows their scores"
        )
    return f"{store.address} has no teachers {of_corpus}: run python jobs/teachers.py first"


def parse_condition(query: str) -> str:
    """Return the condition of a query on `members`, in brackets.

    Raises:
        UserError: the query is not one expression.
    """
    # Imports DuckDB, which only SQL needs.
    from logit_store.sql_text import check_expression

    try:
        check_expression(query)
    except QueryFailed as error:
        raise UserError(
            f"--query {query}: {error.reason}; expected one expression over the columns of the view "
            "members, without subqueries, for example \"family != 'passt' and split = 25\""
        ) from error
    # Brackets on lines of their own, as it was checked, because it may end with a comment.
    return f"(\n{query}\n)"


def _is_one_of(member: str, names: Sequence[str]) -> bool:
    """Return whether one of these is the member's name, with or without its fingerprint."""
    return member in names or strip_fingerprint(member) in names


def plan_selections(
    options: EnsembleOptions,
    store: LogitStore,
    split: int,
    members: Sequence[str],
    variants: Mapping[str, SelectionSettings],
) -> list[Task[SelectEnsemble]]:
    """Return the selections of one split's ensembles; a task's result is `NAME@HASH`.

    The candidates' logits are read once for all of them.
    """
    candidates = find_input(options, store, split, members)
    required = tuple(member for member in members if _is_one_of(member, options.require))
    return [
        Task(
            f"ensemble {name} split {split}",
            SelectEnsemble(
                input=candidates, name=name, settings=replace(settings, required=required)
            ),
        )
        for name, settings in variants.items()
    ]


def find_input(
    options: EnsembleOptions, store: LogitStore, split: int, members: Sequence[str]
) -> ReadCandidates:
    """Return the work that reads the logits of a split's candidates on the judging fold."""
    return ReadCandidates(
        store=store.address,
        corpus=options.corpus,
        split=split,
        members=tuple(members),
        fold=OUT_OF_FOLD if options.judge == "out-of-fold" else find_judging_fold(options.protocol),
    )


def show_ensemble(store: LogitStore, corpus: str, split: int, reference: str) -> None:
    """Print the losses of one ensemble as members were added, and how reliable its loss is."""
    document = store.ensembles.read(corpus, split, reference)
    fold, metric = document["fold"], document["settings"]["metric"].replace("_", " ")
    steps = zip(document["order"], document["losses"], strict=True)
    rows = [[member, f"{loss:.4f}"] for member, loss in steps]
    of_candidates = format_count(len(document["candidates"]), "candidate")
    console.print(f"{reference}, split {split}, of {of_candidates}:", markup=False)
    console.print(build_table(["member added", f"{metric} on {fold}"], rows))
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
