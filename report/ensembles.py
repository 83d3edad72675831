"""How ensembles grew, how far their losses can be trusted, and which members they have.

Dimensions: M members of an ensemble, N clips that it was selected on, K classes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from audio.clips import Corpus
from audio.parts import OUT_OF_FOLD, find_judging_rows
from logit_store import LogitKey
from report.charts import NAME_AXIS, ROW_PX, Chart, add_menu, layer_charts, make_legend
from report.choice import ENSEMBLE
from report.colours import KIND_COLOURS, shade
from report.ensemble_picture import MOST_NUMBERED_MEMBERS
from report.featured import list_splits
from report.parts import Figure, Row, Section
from report.results import JudgedSystem, Results
from terminal.tables import format_count

MOST_MEMBERS = 24
"""Members in the agreement chart, those of the largest weights; with more it is unreadable."""
CLAIMED, NESTED, TEST = "clips it was selected on", "clips that no selection saw", "test clips"


def build_ensembles(results: Results) -> Section:
    """Build the section on the ensembles of a store."""
    every = results.list_systems("ensemble")
    chosen = [
        shown[ENSEMBLE]
        for split in list_splits(results)
        if ENSEMBLE in (shown := results.featured[split])
    ]
    left_out = [f"Left out: {reason}." for reason in results.left_out]
    if not every:
        text = "There is no ensemble yet: `python jobs/ensemble.py` selects one."
        return Section(name="ensembles", title="Ensembles", text="\n\n".join([text, *left_out]))
    return Section(
        name="ensembles",
        title="Ensembles",
        text="\n\n".join([*map(_describe, chosen), *left_out]),
        figures=(
            _draw_path(results, chosen),
            _draw_optimism(every),
            _draw_weights(results, chosen),
            _draw_agreement(results, chosen),
        ),
    )


def _describe(ensemble: JudgedSystem) -> str:
    document = ensemble.document
    estimate = document["optimism"]
    is_out_of_fold = document["fold"] == OUT_OF_FOLD
    out_of_fold = " (of fit by models that did not learn them)" if is_out_of_fold else ""
    return (
        f"Split {ensemble.split}: {ensemble.reference} took {len(document['members'])} of "
        f"{format_count(len(document['candidates']), 'candidate')}. Its log loss is {estimate['selected_on']:.3f} "
        f"on the {document['clips']} {document['fold']} clips that it was selected on{out_of_fold}, "
        f"{estimate['nested']:.3f} where each clip is judged by a selection that did not see it "
        f"(optimism {estimate['optimism']['value']:+.3f}, 95 % interval "
        f"{estimate['optimism']['low']:+.3f} to {estimate['optimism']['high']:+.3f}), and "
        f"{ensemble.summary.log_loss:.3f} on the test clips."
    )


def _name_with_split(ensemble: JudgedSystem) -> str:
    return f"{ensemble.reference}, split {ensemble.split}"


def _name_members(results: Results, split: int) -> dict[str, str]:
    """Return the displayed name of each member of the store that was trained on a split."""
    return {
        key.member: system.name + (f", seed {seed}" if system.n_seeds > 1 else "")
        for system in results.systems
        if system.split == split and not system.reference
        for key, seed in zip(system.keys, system.seeds, strict=True)
    }


def _draw_path(results: Results, chosen: list[JudgedSystem]) -> Figure:
    rows = [row for ensemble in chosen for row in _list_steps(results, ensemble)]
    table = pa.Table.from_pylist(rows)
    steps = alt.Y(
        "added:N",
        sort=alt.EncodingSortField("step", op="min"),
        axis=NAME_AXIS,
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
    colour = KIND_COLOURS["ensemble"]
    points = base.mark_point(color=colour, filled=True, size=60)
    return Figure(
        name="path-of-losses",
        title="How the ensemble grew",
        caption="From top to bottom, the members in the order in which they were added, and the "
        "ensemble's loss after each addition: lower is better.",
        table=table,
        chart=_set_size(layer_charts(table, base.mark_line(color=colour), points), rows),
    )


def _list_steps(results: Results, ensemble: JudgedSystem) -> Iterator[Row]:
    names = _name_members(results, ensemble.split)
    document = ensemble.document
    steps = zip(document["order"], document["losses"], strict=True)
    for step, (member, loss) in enumerate(steps, start=1):
        name = names.get(member, member)
        yield {
            "ensemble": _name_with_split(ensemble),
            "step": step,
            "added": f"{step}. {name}",
            "member": member,
            "loss": loss,
            "metric": document["settings"]["metric"].replace("_", " "),
            "judged on": document["fold"],
        }


def _set_size(chart: Chart, rows: list[Row]) -> Chart:
    who = list(dict.fromkeys(row["ensemble"] for row in rows))
    sized = chart.properties(width="container", height=alt.Step(ROW_PX))
    return add_menu(sized, "ensemble", who, who[0])


def _draw_optimism(every: tuple[JudgedSystem, ...]) -> Figure:
    rows = [row for ensemble in every for row in _list_losses(ensemble)]
    table = pa.Table.from_pylist(rows)
    base = alt.Chart().encode(
        y=alt.Y("ensemble:N", axis=NAME_AXIS, sort=None),
        x=alt.X(
            "log loss:Q",
            title="log loss, nats",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(tickCount=6),
        ),
        color=alt.value(KIND_COLOURS["ensemble"]),
    )
    kinds = [CLAIMED, NESTED, TEST]
    intervals = base.mark_rule(strokeWidth=2, opacity=0.6).encode(x="low:Q", x2="high:Q")
    points = base.mark_point(size=90, strokeWidth=2, opacity=1).encode(
        shape=alt.Shape(
            "judged on:N",
            title=None,
            scale=alt.Scale(domain=kinds, range=["circle", "square", "cross"]),
            legend=make_legend(kinds, on_a_phone=1),
        ),
        tooltip=["ensemble:N", "judged on:N", alt.Tooltip("log loss:Q", format=".4f")],
    )
    return Figure(
        name="optimism",
        title="How far a selection's loss can be trusted",
        caption="An ensemble looks too good on the clips that it was selected on. A nested "
        "selection judges each of these clips by an ensemble that did not see it; the line is its "
        "95 % interval over recordings. Test clips may be harder or easier than these.",
        table=table,
        chart=layer_charts(table, intervals, points).properties(
            width="container", height=alt.Step(ROW_PX)
        ),
    )


def _list_losses(ensemble: JudgedSystem) -> Iterator[Row]:
    estimate: Mapping[str, Any] = ensemble.document["optimism"]
    claimed, gap = estimate["selected_on"], estimate["optimism"]
    interval = {"low": claimed + gap["low"], "high": claimed + gap["high"]}
    for judged_on, loss, ends in (
        (CLAIMED, claimed, {"low": None, "high": None}),
        (NESTED, estimate["nested"], interval),
        (TEST, ensemble.summary.log_loss, {"low": None, "high": None}),
    ):
        yield {
            "ensemble": _name_with_split(ensemble),
            "judged on": judged_on,
            "log loss": loss,
            **ends,
        }


def _draw_weights(results: Results, chosen: list[JudgedSystem]) -> Figure:
    rows = [
        {
            "ensemble": _name_with_split(ensemble),
            "member": _name_members(results, ensemble.split).get(
                member["member"], member["member"]
            ),
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
        .mark_bar(color=KIND_COLOURS["teacher"])
        .encode(
            y=alt.Y("member:N", sort="-x", axis=NAME_AXIS),
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
        caption="The weights of an ensemble sum to 1.",
        table=table,
        chart=_set_size(bars, rows),
    )


def _draw_agreement(results: Results, chosen: list[JudgedSystem]) -> Figure:
    rows = [row for ensemble in chosen for row in _list_pairs(results, ensemble)]
    table = pa.Table.from_pylist(rows)
    lowest = min(row["agreement"] for row in rows)
    base = alt.Chart().encode(
        x=alt.X("number:O", title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("member:N", sort=None, axis=NAME_AXIS),
        tooltip=[
            "member:N",
            "other:N",
            alt.Tooltip("agreement:Q", title="same answer, % of clips", format=".1f"),
        ],
    )
    cells = base.mark_rect(color=KIND_COLOURS["teacher"]).encode(
        opacity=shade("agreement", min(lowest, 99) - 1, 100)
    )
    figures = (
        base.mark_text()
        .encode(text=alt.Text("agreement:Q", format=".0f"))
        .transform_filter(f"datum.members <= {MOST_NUMBERED_MEMBERS}")
    )
    return Figure(
        name="agreement",
        title="Which members agree",
        caption="How often two members give the same answer, right or wrong, in percent of the "
        "clips (of several labels, of clips and classes) that the ensemble was selected on. Columns have the numbers of the rows. At most the "
        f"{MOST_MEMBERS} members of the largest weights are shown.",
        table=table,
        chart=_set_size(layer_charts(table, cells, figures), rows),
    )


def find_answers(logits_MNK: np.ndarray, corpus: Corpus) -> np.ndarray:
    """Return what each member answers: the class of each clip [M, N], or yes and no [M, N * K]."""
    if corpus.has_several_labels:
        return (logits_MNK > 0).reshape(len(logits_MNK), -1)
    return logits_MNK.argmax(axis=2)


def _list_pairs(results: Results, ensemble: JudgedSystem) -> Iterator[Row]:
    members = sorted(ensemble.document["members"], key=lambda member: -member["weight"])
    keys = [
        LogitKey(results.corpus.name, ensemble.split, member["member"])
        for member in members[:MOST_MEMBERS]
    ]
    fold = ensemble.document["fold"]
    rows_N = find_judging_rows(results.corpus.table, ensemble.split, fold)
    answers_MN = find_answers(results.store.read(keys, rows_N), results.corpus)
    names = _name_members(results, ensemble.split)
    labels = [
        f"{number}. {names.get(key.member, key.member)}" for number, key in enumerate(keys, start=1)
    ]
    for (first, second), share in np.ndenumerate(
        np.stack([(answers_MN == answers_N).mean(axis=1) for answers_N in answers_MN])
    ):
        yield {
            "ensemble": _name_with_split(ensemble),
            "member": labels[first],
            "other": labels[second],
            "number": second + 1,
            "agreement": 100 * float(share),
            "members": len(keys),
        }
