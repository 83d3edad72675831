"""Which scenes are mistaken for which, and whether systems know how often they are right.

Dimensions: P test clips of a split, K classes.
"""

from collections.abc import Callable, Iterator

import altair as alt
import numpy as np
import pyarrow as pa

from metrics import accuracy, bin_by_confidence, calibration_error, log_loss
from report.charts import (
    ROW_PX,
    add_menu,
    layer_charts,
    make_legend,
    make_reference,
    role_colour,
    role_dash,
)
from report.choice import ROLES, TAUGHT
from report.colours import shade
from report.featured import list_splits
from report.parts import Figure, Row, Section
from report.results import Results

MOST_NUMBERED_CLASSES = 16
"""With more classes, no cell is wide enough for a number."""


def build_mistakes(results: Results) -> Section:
    """Build the section of confusion matrices and reliability diagrams."""
    return Section(
        name="mistakes",
        title="Mistakes and confidence",
        text="A system that is 80 % sure should be right 80 % of the time: then its soft labels "
        "are true probabilities. The expected calibration error is the mean deviation from this over "
        "clips; the clips of all seeds are counted together.",
        figures=(_draw_confusion(results), _draw_reliability(results), _list_calibration(results)),
    )


def _make_table(
    results: Results, make_rows: Callable[[Results, np.ndarray, np.ndarray], Iterator[Row]]
) -> pa.Table:
    """Make the rows of each featured system from its logits [P, K] and labels [P] of all seeds."""
    return pa.Table.from_pylist(
        [
            {"split": str(split), "role": role, "system": system.name, **row}
            for split in list_splits(results)
            for role, system in results.featured[split].items()
            for row in make_rows(
                results,
                np.concatenate(list(results.read_logits(system))),
                np.tile(results.clips[split].labels, system.n_seeds),
            )
        ]
    )


def _draw_confusion(results: Results) -> Figure:
    table = _make_table(results, _count_confusions)
    who = [f"{row['role']}, split {row['split']}" for row in table.to_pylist()]
    table = table.append_column("who", pa.array(who, pa.string()))
    return Figure(
        name="confusion-matrix",
        title="Which scenes are mistaken for which",
        caption="A row is a scene; its cells show in percent of its clips which scene a system "
        "took them for. Correct answers are on the diagonal. The menu has the other systems and splits.",
        table=table,
        chart=_draw_matrix(table, len(results.corpus.scenes)),
    )


def _count_confusions(
    results: Results, logits_PK: np.ndarray, labels_P: np.ndarray
) -> Iterator[Row]:
    scenes = results.corpus.scenes
    answer_P = logits_PK.argmax(axis=1)
    clips_KK = np.bincount(labels_P * len(scenes) + answer_P, minlength=len(scenes) ** 2).reshape(
        len(scenes), -1
    )
    for (true, answer), clips in np.ndenumerate(clips_KK):
        if clips_KK[true].any():
            yield {
                "scene": scenes[true],
                "taken for": scenes[answer],
                "clips": int(clips),
                "share": 100 * float(clips / clips_KK[true].sum()),
            }


def _draw_matrix(table: pa.Table, n_classes: int) -> alt.LayerChart:
    base = alt.Chart().encode(
        x=alt.X("taken for:N", axis=alt.Axis(labelAngle=-45, labelOverlap=False)),
        y=alt.Y("scene:N"),
        tooltip=[
            "system:N",
            "scene:N",
            "taken for:N",
            alt.Tooltip("share:Q", title="% of the scene", format=".1f"),
            alt.Tooltip("clips:Q", format=","),
        ],
    )
    cells = base.mark_rect().encode(color=role_colour(), opacity=shade("share", 0, 100))
    figures = (
        base.mark_text()
        .encode(text=alt.Text("share:Q", format=".0f"))
        .transform_filter(f"datum.share >= 0.5 && {n_classes} <= {MOST_NUMBERED_CLASSES}")
    )
    who = table["who"].unique().to_pylist()
    first = next((each for each in who if each.startswith(TAUGHT)), who[0])
    chart = layer_charts(table, cells, figures).properties(
        width="container", height=alt.Step(ROW_PX)
    )
    return add_menu(chart, "who", who, first)


def _draw_reliability(results: Results) -> Figure:
    table = _make_table(results, _list_bins)
    return Figure(
        name="reliability",
        title="Sure and right",
        caption="A dot stands for the clips of which a system is about equally sure. Right: how "
        "often it is right on them; area: how many they are. Below the grey line, it is too sure.",
        table=table,
        chart=_draw_diagram(table),
    )


def _list_bins(results: Results, logits_PK: np.ndarray, labels_P: np.ndarray) -> Iterator[Row]:
    for each in bin_by_confidence(logits_PK, labels_P):
        yield {
            "sure up to": 100 * each.upper,
            "clips": each.n,
            "sure": 100 * each.confidence,
            "right": 100 * each.accuracy,
        }


def _draw_diagram(table: pa.Table) -> alt.LayerChart:
    percent = alt.Scale(domain=[0, 100])
    roles = table["role"].unique().to_pylist()
    legend = make_legend([role for role in ROLES if role in roles])
    base = alt.Chart().encode(
        x=alt.X(
            "sure:Q",
            title="how sure: mean of the largest probabilities, %",
            scale=percent,
            axis=alt.Axis(tickCount=6),
        ),
        y=alt.Y("right:Q", title="right, %", scale=percent),
        color=role_colour(legend),
    )
    perfect = make_reference().encode(
        x=alt.datum(0, scale=percent), y=alt.datum(0), x2=alt.datum(100), y2=alt.datum(100)
    )
    lines = base.mark_line(strokeWidth=1.5).encode(strokeDash=role_dash(legend))
    dots = base.mark_point(filled=True, opacity=0.8).encode(
        size=alt.Size("clips:Q", scale=alt.Scale(range=[8, 260]), legend=None),
        tooltip=[
            "role:N",
            "system:N",
            alt.Tooltip("sure:Q", title="sure, %", format=".1f"),
            alt.Tooltip("right:Q", title="right, %", format=".1f"),
            alt.Tooltip("clips:Q", format=","),
        ],
    )
    splits = table["split"].unique().to_pylist()
    chart = layer_charts(table, perfect, lines, dots).properties(width="container", height=380)
    return add_menu(chart, "split", splits, splits[0])


def _list_calibration(results: Results) -> Figure:
    return Figure(
        name="calibration-error",
        title="Expected calibration error",
        caption="All in percent, except the log loss, which is in nats.",
        table=_make_table(results, _measure_errors),
    )


def _measure_errors(results: Results, logits_PK: np.ndarray, labels_P: np.ndarray) -> Iterator[Row]:
    bins = bin_by_confidence(logits_PK, labels_P)
    yield {
        "calibration error": 100 * calibration_error(logits_PK, labels_P),
        "sure": 100 * sum(each.n * each.confidence for each in bins) / len(labels_P),
        "right": 100 * accuracy(logits_PK, labels_P),
        "log loss": log_loss(logits_PK, labels_P),
    }
