"""The leaderboard: a few systems at a glance, and the table of all."""

from dataclasses import asdict
from math import inf
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from report.choice import ALONE, MEDIAN
from report.colours import ALONE_COLOUR, KIND_COLOURS
from report.featured import list_splits
from report.page.render import render
from report.parts import Figure, Section
from report.results import JudgedSystem, Results, UnshownSystem
from report.summary import describe_intervals, describe_score, name_groups, name_score
from report.systems import SYSTEM_KINDS

NAME = "leaderboard"
MOST_NAMED = 12
"""At most this many systems of a kind and split that are left out are named on the page."""

SCHEMA = pa.schema(
    {
        "system": pa.string(),
        "kind": pa.string(),
        "split": pa.int64(),
        "protocol": pa.string(),
        "seeds": pa.int64(),
        "accuracy": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "seed_deviation": pa.float64(),
        "seen": pa.float64(),
        "unseen": pa.float64(),
        "log_loss": pa.float64(),
        "macs": pa.int64(),
        "parameter_bytes": pa.int64(),
        "ram": pa.int64(),
        "training_h": pa.float64(),
        "family": pa.string(),
        "objective": pa.string(),
        "taught_by": pa.string(),
    }
)
"""Accuracies in percent, log loss in nats; bytes in float32, or in int8 if trained in int8."""

_UNSHOWN_SCHEMA = pa.schema(
    {
        "system": pa.string(),
        "kind": pa.string(),
        "split": pa.int64(),
        "protocol": pa.string(),
        "select_loss": pa.float64(),
    }
)

_HEADERS: tuple[tuple[str, str, str], ...] = (
    ("Split", "split", "Percent of the training clips"),
    ("Accuracy %", "accuracy", "Macro average over scenes, with its 95 % interval"),
    ("Seen %", "seen", "On recording devices that are in the training clips"),
    ("Unseen %", "unseen", "On recording devices that are not in the training clips"),
    ("Log loss", "log_loss", "Mean cross entropy in nats"),
    ("MACs", "macs", "Multiply-accumulates for one clip"),
    ("Size", "parameter_bytes", "Bytes of parameters, as the system was judged"),
    ("RAM", "ram", "Bytes of RAM of a student on a device, in int8, by its memory plan"),
    ("Hours", "training_h", "Training time of one run"),
)


def build_ranking(results: Results) -> Section:
    """Build the section with the best of each kind at a glance and the others in tables."""
    if not results.systems:
        return Section(
            name=NAME,
            title="Leaderboard",
            text=f"The store has no logits of corpus {results.corpus.name} yet.",
        )
    rows = [_make_row(each) for each in _rank(results)]
    figure = Figure(
        name=NAME,
        title="All systems",
        caption=f"{describe_score(results.corpus)} on the test clips in percent, as a mean over seeds; the "
        "bar is its 95 % interval on a scale from 0 to 100, "
        f"{describe_intervals(results.corpus)}; ± is the standard deviation over seeds. Log loss in nats. MACs: multiply-accumulates per clip. Size: of the "
        "parameters as the system was judged (float32; int8 takes a quarter). RAM: what a student "
        "takes on a device in int8, the peak of the memory plan of its C program. The cost of an "
        "ensemble is the sum over its members. A dash: not recorded. Click on a header to sort.",
        table=pa.Table.from_pylist(rows, SCHEMA),
        html=_render_table(results),
    )
    return Section(
        name=NAME,
        title="Leaderboard",
        text=_describe(results) + _describe_unshown(results),
        html=_render_cards(results),
        figures=(figure, *([_list_unshown(results)] if results.unshown else [])),
    )


def _list_headers(results: Results) -> tuple[tuple[str, str, str], ...]:
    if not results.corpus.has_several_labels:
        return _HEADERS
    note = "Mean average precision over classes, with its 95 % interval"
    return tuple(
        (f"{name_score(results.corpus)} %", name, note) if name == "accuracy" else each
        for each in _HEADERS
        for name in (each[1],)
    )


def _describe(results: Results) -> str:
    split = list_splits(results)[0]
    test = results.clips[split]
    return (
        f"At a glance: split {split}, on {len(test.rows)} test clips from "
        f"{len(set(test.groups))} {name_groups(has_sources=test.has_sources)}. These systems were chosen by their log loss on "
        "the select clips, or by their role; test clips did not choose them."
    )


def _describe_unshown(results: Results) -> str:
    """Return a paragraph on the systems that are not shown; it is empty if all are."""
    if not results.unshown:
        return ""
    n_all = len(results.systems) + len(results.unshown)
    return (
        "\n\nShown are the systems with a role and, of each split, the best teachers, ensembles, students "
        "alone and taught students, by their log loss on the select clips. Left out are "
        f"{len(results.unshown):,} of {n_all:,} systems, which the list below names; with a larger "
        "--most, jobs/report.py shows them."
    )


def _list_unshown(results: Results) -> Figure:
    unshown = sorted(results.unshown, key=lambda each: (-each.split, each.kind, _get_loss(each)))
    groups: dict[tuple[int, str], list[str]] = {}
    for each in unshown:
        groups.setdefault((each.split, each.kind), []).append(each.system)
    return Figure(
        name="left-out",
        title="Systems that are left out",
        caption="They are not judged on the test clips: with them the page would be too long to "
        "read. The best are named first, by their log loss on the select clips; the CSV file has all "
        "of them, with this loss in nats (of an ensemble, on clips that no selection saw).",
        table=pa.Table.from_pylist([asdict(each) for each in unshown], _UNSHOWN_SCHEMA),
        html=render("left_out.html", groups=groups, most_named=MOST_NAMED),
    )


def _get_loss(system: UnshownSystem) -> float:
    return inf if system.select_loss is None else system.select_loss


def _rank(results: Results) -> list[JudgedSystem]:
    """Sort systems of all kinds: the largest split first, within it the most accurate first."""
    return sorted(results.systems, key=lambda each: (-each.split, -each.summary.accuracy.value))


def _make_row(system: JudgedSystem) -> dict[str, Any]:
    summary, cost = system.summary, system.cost
    return {
        "system": system.name,
        "kind": system.kind,
        "split": system.split,
        "protocol": system.protocol,
        "seeds": system.n_seeds,
        "accuracy": 100 * summary.accuracy.value,
        "low": 100 * summary.accuracy.low,
        "high": 100 * summary.accuracy.high,
        "seed_deviation": _scale(100, summary.seed_deviation),
        "seen": _scale(100, summary.seen_accuracy),
        "unseen": _scale(100, summary.unseen_accuracy),
        "log_loss": summary.log_loss,
        "macs": cost.macs,
        "parameter_bytes": cost.parameter_bytes,
        "ram": cost.ram,
        "training_h": _scale(1 / 3600, cost.training_s),
        "family": system.family,
        "objective": system.objective,
        "taught_by": system.taught_by,
    }


def _scale(factor: float, figure: float | None) -> float | None:
    return None if figure is None else factor * figure


def _render_cards(results: Results) -> Markup:
    shown = results.featured[list_splits(results)[0]]
    cards = {role: system for role, system in shown.items() if role != MEDIAN}
    return render(
        "cards.html", cards=cards, alone=ALONE, colours=KIND_COLOURS, alone_colour=ALONE_COLOUR
    )


def _render_table(results: Results) -> Markup:
    return render(
        "leaderboard.html",
        name=NAME,
        systems=[(system, _make_row(system)) for system in _rank(results)],
        headers=_list_headers(results),
        kinds=[kind for kind in SYSTEM_KINDS if results.list_systems(kind)],
        splits=list_splits(results),
        colours=KIND_COLOURS,
    )
