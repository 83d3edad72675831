"""How ensembles grew, how far their losses are to be believed, and who is in them.

Dimensions: M members of an ensemble, N clips that it was selected on, K classes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from logit_store import LogitKey
from report.charts import NAMES, ROW_PX, Chart, choosable, layered, legend_of
from report.colours import KINDS, shaded
from report.featured import ENSEMBLE, featured, splits_of
from report.parts import Figure, Section
from report.results import Judged, Results

MOST_MEMBERS = 24
"""Those that count most; of more, nobody could read who agrees with whom."""
FIGURES_UP_TO = 12
"""Cells of more members are too narrow for a number."""
CLAIMED, NESTED, TEST = "clips it was selected on", "clips that no selection saw", "test clips"

Row = dict[str, Any]


def ensembles(results: Results) -> Section:
    """The ensembles of a store, in pictures."""
    found = results.of_kind("ensemble")
    chosen = [
        shown[ENSEMBLE]
        for split in splits_of(results)
        if ENSEMBLE in (shown := featured(results, split))
    ]
    left_out = [f"Left out: {reason}." for reason in results.left_out]
    if not found:
        text = "There is no ensemble yet: python jobs/ensemble.py selects one."
        return Section(name="ensembles", title="Ensembles", text="\n\n".join([text, *left_out]))
    return Section(
        name="ensembles",
        title="Ensembles",
        text="\n\n".join([*map(_said, chosen), *left_out]),
        figures=(
            _path(results, chosen),
            _optimism(found),
            _weights(results, chosen),
            _agreement(results, chosen),
        ),
    )


def _said(ensemble: Judged) -> str:
    document = ensemble.document
    estimate = document["optimism"]
    return (
        f"Split {ensemble.split}: {ensemble.reference} took {len(document['members'])} of "
        f"{len(document['candidates'])} candidates. Its log loss is {estimate['selected_on']:.3f} "
        f"on the {document['clips']} {document['fold']} clips that it was selected on, "
        f"{estimate['nested']:.3f} where each is judged by a selection that did not see it "
        f"(optimism {estimate['optimism']['value']:+.3f}, 95 % interval "
        f"{estimate['optimism']['low']:+.3f} to {estimate['optimism']['high']:+.3f}), and "
        f"{ensemble.summary.log_loss:.3f} on the test clips."
    )


def _who(ensemble: Judged) -> str:
    return f"{ensemble.reference}, split {ensemble.split}"


def _names(results: Results, split: int) -> dict[str, str]:
    """What people call each member of the store that learnt a split."""
    return {
        key.member: system.name + (f", seed {seed}" if system.n_seeds > 1 else "")
        for system in results.systems
        if system.split == split and not system.reference
        for key, seed in zip(system.keys, system.seeds, strict=True)
    }


def _path(results: Results, chosen: list[Judged]) -> Figure:
    rows = [row for ensemble in chosen for row in _steps(results, ensemble)]
    table = pa.Table.from_pylist(rows)
    steps = alt.Y(
        "added:N",
        sort=alt.EncodingSortField("step", op="min"),
        axis=NAMES,
    )
    base = alt.Chart().encode(
        y=steps,
        x=alt.X(
            "loss:Q",
            title="loss of the ensemble so far",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(tickCount=6),
        ),
        order="step:Q",
        tooltip=["member:N", alt.Tooltip("loss:Q", format=".4f"), "metric:N", "judged on:N"],
    )
    colour = KINDS["ensemble"]
    points = base.mark_point(color=colour, filled=True, size=60)
    return Figure(
        name="path-of-losses",
        title="How the ensemble grew",
        caption="From top to bottom the members in the order in which they were added, and the "
        "ensemble's loss with them: less is better.",
        table=table,
        chart=_sized(layered(table, base.mark_line(color=colour), points), rows),
    )


def _steps(results: Results, ensemble: Judged) -> Iterator[Row]:
    names = _names(results, ensemble.split)
    document = ensemble.document
    steps = zip(document["order"], document["losses"], strict=True)
    for step, (member, loss) in enumerate(steps, start=1):
        name = names.get(member, member)
        yield {
            "ensemble": _who(ensemble),
            "step": step,
            "added": f"{step}. {name}",
            "member": member,
            "loss": loss,
            "metric": document["settings"]["metric"].replace("_", " "),
            "judged on": document["fold"],
        }


def _sized(chart: Chart, rows: list[Row]) -> Chart:
    who = list(dict.fromkeys(row["ensemble"] for row in rows))
    sized = chart.properties(width="container", height=alt.Step(ROW_PX))
    return choosable(sized, "ensemble", who, who[0])


def _optimism(found: tuple[Judged, ...]) -> Figure:
    rows = [row for ensemble in found for row in _judgements(ensemble)]
    table = pa.Table.from_pylist(rows)
    base = alt.Chart().encode(
        y=alt.Y("ensemble:N", axis=NAMES, sort=None),
        x=alt.X(
            "log loss:Q",
            title="log loss, nats",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(tickCount=6),
        ),
        color=alt.value(KINDS["ensemble"]),
    )
    kinds = [CLAIMED, NESTED, TEST]
    intervals = base.mark_rule(strokeWidth=2, opacity=0.6).encode(x="low:Q", x2="high:Q")
    points = base.mark_point(size=90, strokeWidth=2, opacity=1).encode(
        shape=alt.Shape(
            "judged on:N",
            title=None,
            scale=alt.Scale(domain=kinds, range=["circle", "square", "cross"]),
            legend=legend_of(kinds, on_a_phone=1),
        ),
        tooltip=["ensemble:N", "judged on:N", alt.Tooltip("log loss:Q", format=".4f")],
    )
    return Figure(
        name="optimism",
        title="How far a selection's loss is to be believed",
        caption="On the clips that it was selected on an ensemble looks too good; a nested "
        "selection judges each of them by an ensemble that did not see it. The line is the 95 % "
        "interval of that over recordings. Test clips may be harder or easier than these.",
        table=table,
        chart=layered(table, intervals, points).properties(
            width="container", height=alt.Step(ROW_PX)
        ),
    )


def _judgements(ensemble: Judged) -> Iterator[Row]:
    estimate: Mapping[str, Any] = ensemble.document["optimism"]
    claimed, gap = estimate["selected_on"], estimate["optimism"]
    interval = {"low": claimed + gap["low"], "high": claimed + gap["high"]}
    for judged_on, loss, ends in (
        (CLAIMED, claimed, {"low": None, "high": None}),
        (NESTED, estimate["nested"], interval),
        (TEST, ensemble.summary.log_loss, {"low": None, "high": None}),
    ):
        yield {"ensemble": _who(ensemble), "judged on": judged_on, "log loss": loss, **ends}


def _weights(results: Results, chosen: list[Judged]) -> Figure:
    rows = [
        {
            "ensemble": _who(ensemble),
            "member": _names(results, ensemble.split).get(member["member"], member["member"]),
            "weight": member["weight"],
            "temperature": member["temperature"],
            "logits": member["hash"],
        }
        for ensemble in chosen
        for member in ensemble.document["members"]
    ]
    table = pa.Table.from_pylist(rows)
    bars = (
        alt.Chart(table)
        .mark_bar(color=KINDS["teacher"])
        .encode(
            y=alt.Y("member:N", sort="-x", axis=NAMES),
            x=alt.X("weight:Q", title="weight", axis=alt.Axis(tickCount=6)),
            tooltip=[
                "member:N",
                alt.Tooltip("weight:Q", format=".4f"),
                alt.Tooltip("temperature:Q", format=".3f"),
                alt.Tooltip("logits:N", title="hash of its logits"),
            ],
        )
    )
    return Figure(
        name="weights",
        title="How much each member counts",
        caption="Weights of an ensemble sum to 1.",
        table=table,
        chart=_sized(bars, rows),
    )


def _agreement(results: Results, chosen: list[Judged]) -> Figure:
    rows = [row for ensemble in chosen for row in _pairs(results, ensemble)]
    table = pa.Table.from_pylist(rows)
    lowest = min(row["agreement"] for row in rows)
    base = alt.Chart().encode(
        x=alt.X("number:O", title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("member:N", sort=None, axis=NAMES),
        tooltip=[
            "member:N",
            "other:N",
            alt.Tooltip("agreement:Q", title="same answer, % of clips", format=".1f"),
        ],
    )
    cells = base.mark_rect(color=KINDS["teacher"]).encode(
        opacity=shaded("agreement", min(lowest, 99) - 1, 100)
    )
    figures = (
        base.mark_text()
        .encode(text=alt.Text("agreement:Q", format=".0f"))
        .transform_filter(f"datum.members <= {FIGURES_UP_TO}")
    )
    return Figure(
        name="agreement",
        title="Who agrees with whom",
        caption="In percent of the clips that the ensemble was selected on: how often two members "
        f"give the same answer, right or wrong. Columns are numbered as rows are. At most the {MOST_MEMBERS} that count most.",
        table=table,
        chart=_sized(layered(table, cells, figures), rows),
    )


def _pairs(results: Results, ensemble: Judged) -> Iterator[Row]:
    members = sorted(ensemble.document["members"], key=lambda member: -member["weight"])
    keys = [
        LogitKey(results.corpus.name, ensemble.split, member["member"])
        for member in members[:MOST_MEMBERS]
    ]
    rows_N = results.corpus.rows(ensemble.split, ensemble.document["fold"])
    said_MN = results.store.read(keys, rows_N).argmax(axis=2)
    names = _names(results, ensemble.split)
    labels = [
        f"{number}. {names.get(key.member, key.member)}" for number, key in enumerate(keys, start=1)
    ]
    for (first, second), share in np.ndenumerate(
        np.stack([(said_MN == said_N).mean(axis=1) for said_N in said_MN])
    ):
        yield {
            "ensemble": _who(ensemble),
            "member": labels[first],
            "other": labels[second],
            "number": second + 1,
            "agreement": 100 * float(share),
            "members": len(keys),
        }
