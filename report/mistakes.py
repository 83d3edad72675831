"""What systems take for what, and whether they know how often they are right.

Dimensions: P test clips of a split, K classes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from metrics import accuracy, calibration_error, confidence_bins, log_loss
from report.charts import ROW_PX, choosable, layered, legend_of, reference, role_colour, role_dash
from report.colours import shaded
from report.featured import ROLES, TAUGHT, featured, splits_of
from report.parts import Figure, Section
from report.results import Results

FIGURES_UP_TO = 16
"""Of more classes no cell is wide enough for a number."""

Rows = Iterator[dict[str, Any]]


def mistakes(results: Results) -> Section:
    """Confusion matrices and reliability diagrams."""
    return Section(
        name="mistakes",
        title="Mistakes and confidence",
        text="Whoever is 80 % sure should be right 80 % of the time: then soft labels say what they "
        "mean. The expected calibration error is how far that is off, as the mean over clips; the "
        "clips of all seeds are counted together.",
        figures=(_confusion(results), _reliability(results), _calibration(results)),
    )


def _table(
    results: Results, rows_of: Callable[[Results, np.ndarray, np.ndarray], Rows]
) -> pa.Table:
    """What each featured system's logits [P, K] and labels [P] of all seeds give."""
    return pa.Table.from_pylist(
        [
            {"split": str(split), "role": role, "system": system.name, **row}
            for split in splits_of(results)
            for role, system in featured(results, split).items()
            for row in rows_of(
                results,
                np.concatenate(list(results.logits(system))),
                np.tile(results.clips[split].labels, system.n_seeds),
            )
        ]
    )


def _confusion(results: Results) -> Figure:
    table = _table(results, _confusions)
    who = [f"{row['role']}, split {row['split']}" for row in table.to_pylist()]
    table = table.append_column("who", pa.array(who, pa.string()))
    return Figure(
        name="confusion-matrix",
        title="What is taken for what",
        caption="A row is a scene, and its cells say in percent of its clips what they were taken "
        "for; right ones lie on the diagonal. The menu has the other systems and splits.",
        table=table,
        chart=_matrix(table, len(results.corpus.scenes)),
    )


def _confusions(results: Results, logits_PK: np.ndarray, labels_P: np.ndarray) -> Rows:
    scenes = results.corpus.scenes
    said_P = logits_PK.argmax(axis=1)
    clips_KK = np.bincount(labels_P * len(scenes) + said_P, minlength=len(scenes) ** 2).reshape(
        len(scenes), -1
    )
    for (true, said), clips in np.ndenumerate(clips_KK):
        if clips_KK[true].any():
            yield {
                "scene": scenes[true],
                "taken for": scenes[said],
                "clips": int(clips),
                "share": 100 * float(clips / clips_KK[true].sum()),
            }


def _matrix(table: pa.Table, n_classes: int) -> alt.LayerChart:
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
    cells = base.mark_rect().encode(color=role_colour(), opacity=shaded("share", 0, 100))
    figures = (
        base.mark_text()
        .encode(text=alt.Text("share:Q", format=".0f"))
        .transform_filter(f"datum.share >= 0.5 && {n_classes} <= {FIGURES_UP_TO}")
    )
    who = table["who"].unique().to_pylist()
    first = next((each for each in who if each.startswith(TAUGHT)), who[0])
    chart = layered(table, cells, figures).properties(width="container", height=alt.Step(ROW_PX))
    return choosable(chart, "who", who, first)


def _reliability(results: Results) -> Figure:
    table = _table(results, _bins)
    return Figure(
        name="reliability",
        title="Sure and right",
        caption="A dot is the clips of which a system is about equally sure: right is how often it "
        "is right on them, and its area is how many they are. Below the grey line it is too sure.",
        table=table,
        chart=_diagram(table),
    )


def _bins(results: Results, logits_PK: np.ndarray, labels_P: np.ndarray) -> Rows:
    for each in confidence_bins(logits_PK, labels_P):
        yield {
            "sure up to": 100 * each.upper,
            "clips": each.n,
            "sure": 100 * each.confidence,
            "right": 100 * each.accuracy,
        }


def _diagram(table: pa.Table) -> alt.LayerChart:
    percent = alt.Scale(domain=[0, 100])
    roles = table["role"].unique().to_pylist()
    legend = legend_of([role for role in ROLES if role in roles])
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
    perfect = reference().encode(
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
    chart = layered(table, perfect, lines, dots).properties(width="container", height=380)
    return choosable(chart, "split", splits, splits[0])


def _calibration(results: Results) -> Figure:
    return Figure(
        name="calibration-error",
        title="Expected calibration error",
        caption="All in percent but the log loss, which is in nats.",
        table=_table(results, _errors),
    )


def _errors(results: Results, logits_PK: np.ndarray, labels_P: np.ndarray) -> Rows:
    bins = confidence_bins(logits_PK, labels_P)
    yield {
        "calibration error": 100 * calibration_error(logits_PK, labels_P),
        "sure": 100 * sum(each.n * each.confidence for each in bins) / len(labels_P),
        "right": 100 * accuracy(logits_PK, labels_P),
        "log loss": log_loss(logits_PK, labels_P),
    }
