"""Accuracy against the share of the training clips that systems were trained on."""

from typing import Any

import altair as alt
import pyarrow as pa

from report.colours import NEUTRAL, alarm_stroke, kind_colour
from report.parts import Figure, Section
from report.published import has_published, read_published
from report.results import JudgedSystem, Results
from report.summary import describe_intervals, describe_score, name_score, title_score

_SCHEMA = pa.schema(
    {
        "system": pa.string(),
        "kind": pa.string(),
        "protocol": pa.string(),
        "split": pa.int64(),
        "accuracy": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "source": pa.string(),
    }
)
"""Accuracies in percent; the source is null for systems of this store."""
_DASHES = [[6, 3], [2, 3], [8, 3, 2, 3], [1, 2], [10, 4], [3, 2], [5, 5], [12, 2]]
_HEIGHT_PX = 380
_FEW = 12
"""With more systems, the teachers' intervals would hide the rest; the table has them."""


def build_split_sizes(results: Results) -> Section:
    """Build the section on how much accuracy grows with the training clips."""
    with_references = has_published(results.corpus)
    references = _list_references(drawn_only=False) if with_references else []
    drawn = _list_references(drawn_only=True) if with_references else []
    own = [_make_row(each) for each in results.systems]
    table = pa.Table.from_pylist(own + references, _SCHEMA)
    references_text = (
        "Grey dashed lines and points are published figures on the same test clips, the table has more of "
        "them; most of these systems were chosen on these clips. Figures on the challenge's evaluation set, which "
        "has other cities and devices, are no bar for them and are not here."
        if references
        else "Published figures are for TAU 2022 Mobile, so none is shown for this corpus."
    )
    figure = Figure(
        name="accuracy-by-split",
        title=f"{title_score(results.corpus)} for each split",
        caption=f"{describe_score(results.corpus)} on test against the percentage of the training clips that "
        "a system was trained on. Each system has a dot with its 95 % interval "
        f"{describe_intervals(results.corpus)}, and a line from split to split, which is thin for teachers. A red ring: test clips chose something. "
        + references_text,
        table=table,
        chart=_draw(pa.Table.from_pylist(own + drawn, _SCHEMA), name_score(results.corpus))
        if own + drawn
        else None,
    )
    return Section(
        name="split-sizes",
        title=f"{title_score(results.corpus)} against split size",
        figures=(figure,),
    )


def _list_references(*, drawn_only: bool) -> list[dict[str, Any]]:
    return [
        {
            "system": each.system,
            "kind": each.kind,
            "split": each.split,
            "accuracy": each.accuracy,
            "source": each.source,
        }
        for each in read_published("development")
        if each.in_chart or not drawn_only
    ]


def _make_row(system: JudgedSystem) -> dict[str, Any]:
    accuracy = system.summary.accuracy
    return {
        "system": system.name,
        "kind": system.kind,
        "protocol": system.protocol,
        "split": system.split,
        "accuracy": 100 * accuracy.value,
        "low": 100 * accuracy.low,
        "high": 100 * accuracy.high,
    }


def _draw(table: pa.Table, score: str) -> alt.LayerChart:
    rows = table.to_pylist()
    ours = list(dict.fromkeys(row["system"] for row in rows if row["source"] is None))
    published = list(dict.fromkeys(row["system"] for row in rows if row["source"] is not None))
    base = alt.Chart(table).encode(
        # Each split has about twice the clips of the one before, so this is almost logarithmic.
        x=alt.X("split:O", title="training clips, %", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("accuracy:Q", title=f"{score}, %", scale=alt.Scale(zero=False)),
        tooltip=[
            "system:N",
            "kind:N",
            "protocol:N",
            alt.Tooltip("split:O", title="split, %"),
            alt.Tooltip("accuracy:Q", title=f"{score}, %", format=".2f"),
            alt.Tooltip("low:Q", title="95 % interval from", format=".1f"),
            alt.Tooltip("high:Q", title="to", format=".1f"),
            "source:N",
        ],
    )
    layers = [_draw_systems(base.transform_filter("!isValid(datum.source)"), ours)]
    if published:
        layers.insert(
            0, _draw_references(base.transform_filter("isValid(datum.source)"), published)
        )
    return alt.LayerChart(layer=layers).properties(width="container", height=_HEIGHT_PX)


def _draw_systems(base: alt.Chart, names: list[str]) -> alt.LayerChart:
    """Draw a line and dots for each system, side by side within a split, with intervals."""
    beside = base.encode(
        xOffset=alt.XOffset("system:N", scale=alt.Scale(domain=names, paddingOuter=1)),
        color=kind_colour(alt.Legend(orient="top", symbolOpacity=1)),
        detail="system:N",
    )
    is_teacher = alt.datum.kind == "teacher"
    bars = beside.mark_rule(strokeWidth=2, opacity=0.3).encode(y="low:Q", y2="high:Q")
    if len(names) > _FEW:
        bars = bars.transform_filter("datum.kind != 'teacher'")
    lines = beside.mark_line().encode(
        strokeWidth=alt.condition(is_teacher, alt.value(1), alt.value(2)),
        strokeOpacity=alt.condition(is_teacher, alt.value(0.4), alt.value(0.8)),
    )
    points = beside.mark_point(filled=True, opacity=1, strokeWidth=2).encode(
        size=alt.condition(is_teacher, alt.value(25), alt.value(60)), stroke=alarm_stroke()
    )
    return alt.LayerChart(layer=[bars, lines, points])


def _draw_references(base: alt.Chart, names: list[str]) -> alt.LayerChart:
    """Draw published figures as thin dashed lines."""
    lines = base.mark_line(color=NEUTRAL, strokeWidth=1.5).encode(
        strokeDash=alt.StrokeDash(
            "system:N",
            title="published",
            scale=alt.Scale(domain=names, range=_DASHES),
            legend=alt.Legend(orient="bottom", columns=1, labelLimit=320),
        )
    )
    points = base.mark_point(color=NEUTRAL, size=25, opacity=0.8).encode(detail="system:N")
    return alt.LayerChart(layer=[lines, points])
