"""Accuracy on groups of clips: by recording device, seen in training or not, scene and city.

Dimensions: P test clips of a split, K classes; A seeds.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from audio.clips import UNKNOWN
from metrics import accuracy, bootstrap
from report.charts import (
    NAME_AXIS,
    ROW_PX,
    WORDS_BELOW_EACH_OTHER,
    add_menu,
    layer_charts,
    role_colour,
)
from report.choice import ROLES
from report.colours import shade
from report.device_networks import build_device_figures
from report.featured import describe_featured, list_splits
from report.parts import Figure, Section
from report.results import JudgedSystem, Results
from report.summary import JudgedClips, describe_intervals

SEEN, UNSEEN = "seen", "unseen"


def build_groups(results: Results) -> Section:
    """Build the section on the accuracy on parts of the test clips."""
    figures = [
        *build_device_figures(results),
        _draw_gap(results),
        _draw_groups(results, "recording device"),
        _draw_groups(results, "scene"),
    ]
    has_cities = np.unique(results.corpus.column("city")).tolist() != [UNKNOWN]
    if has_cities:
        figures.append(_draw_groups(results, "city"))
    text = (
        "A recording device is seen if it recorded some of the split's training clips. Accuracies "
        "are of clips pooled over seeds, with 95 % intervals "
        f"{describe_intervals(results.corpus)}."
        + ("" if has_cities else " The corpus does not name cities.")
    )
    return Section(
        name="groups",
        title="Recording devices, scenes and cities",
        text=f"{text}\n\n{describe_featured(results)}",
        figures=tuple(figure for figure in figures if figure.table.num_rows),
    )


def _draw_gap(results: Results) -> Figure:
    rows = [
        {
            "split": str(split),
            "role": role,
            "system": system.name,
            "recording devices": which,
            "accuracy": 100 * value,
        }
        for split in list_splits(results)
        for role, system in results.featured[split].items()
        for which, value in (
            (SEEN, system.summary.seen_accuracy),
            (UNSEEN, system.summary.unseen_accuracy),
        )
        if value is not None
    ]
    table = pa.Table.from_pylist(rows)
    return Figure(
        name="seen-and-unseen-recording-devices",
        title="The gap between seen and unseen recording devices",
        caption="One line for each system, from its accuracy on recording devices of the training "
        "clips (filled) to that on other devices (hollow). The longer the line, the more the "
        "system depends on the device.",
        table=table,
        chart=_make_gap_chart(table) if rows else None,
    )


def _make_gap_chart(table: pa.Table) -> alt.LayerChart:
    base = alt.Chart().encode(
        y=alt.Y("role:N", sort=list(ROLES), axis=NAME_AXIS),
        x=alt.X(
            "accuracy:Q",
            title="macro accuracy, %",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(tickCount=6),
        ),
        color=role_colour(),
    )
    lines = base.mark_line(strokeWidth=2, opacity=0.6).encode(detail="role:N")
    points = base.mark_point(size=110, strokeWidth=2, opacity=1).encode(
        fill=alt.condition(
            f"datum['recording devices'] == '{SEEN}'", role_colour(), alt.value(None)
        ),
        tooltip=[
            "system:N",
            "recording devices:N",
            alt.Tooltip("accuracy:Q", title="macro accuracy, %", format=".2f"),
        ],
    )
    splits = table["split"].unique().to_pylist()
    chart = layer_charts(table, lines, points).properties(
        width="container", height=alt.Step(ROW_PX + 8)
    )
    return add_menu(chart, "split", splits, splits[0])


def _draw_groups(results: Results, what: str) -> Figure:
    rows = [
        row
        for split in list_splits(results)
        for role, system in results.featured[split].items()
        for row in _list_groups(results, system, role, what)
    ]
    table = pa.Table.from_pylist(rows)
    return Figure(
        name=f"accuracy-by-{what.replace(' ', '-')}",
        title=f"Accuracy by {what}",
        caption=f"Share of correct clips in percent, one row for each {what}"
        + (
            "; unseen ones are not among the training clips." if what == "recording device" else "."
        ),
        table=table,
        chart=_make_heat_map(table, what) if rows else None,
    )


def _list_groups(
    results: Results, system: JudgedSystem, role: str, what: str
) -> Iterator[dict[str, Any]]:
    """Yield a row for each recording device, scene or city."""
    test = results.clips[system.split]
    logits_APK = list(results.read_logits(system))
    group_P = _find_group_of_clips(results, test, what)
    for group in np.unique(group_P):
        inside = group_P == group
        interval = _measure_accuracy([each[inside] for each in logits_APK], test, inside)
        yield {
            "split": str(system.split),
            "role": role,
            "system": system.name,
            what: group + _note_unseen(test, inside, what),
            "clips": int(inside.sum()),
            **interval,
        }


def _find_group_of_clips(results: Results, test: JudgedClips, what: str) -> np.ndarray:
    """Return the group of each test clip, [P]."""
    if what == "scene":
        return np.array(results.corpus.scenes)[test.labels]
    return test.cities if what == "city" else test.recording_devices


def _note_unseen(test: JudgedClips, inside: np.ndarray, what: str) -> str:
    unseen = what == "recording device" and not test.seen[inside].any()
    return f", {UNSEEN}" if unseen else ""


def _measure_accuracy(
    logits_APK: Sequence[np.ndarray], test: JudgedClips, inside: np.ndarray
) -> dict[str, float | None]:
    """Measure the percentage of correct clips of all seeds; one recording has no interval."""
    labels, groups = test.labels[inside], test.groups[inside]
    if len(np.unique(groups)) < 2:
        value = np.mean([accuracy(logits_PK, labels) for logits_PK in logits_APK])
        return {"accuracy": 100 * float(value), "low": None, "high": None}
    interval = bootstrap(logits_APK, labels, groups, metric="accuracy")
    values = (interval.value, interval.low, interval.high)
    return dict(zip(("accuracy", "low", "high"), (100 * each for each in values), strict=True))


def _make_heat_map(table: pa.Table, what: str) -> alt.LayerChart:
    base = alt.Chart().encode(
        x=alt.X("role:N", sort=list(ROLES), axis=WORDS_BELOW_EACH_OTHER),
        y=alt.Y(f"{what}:N", title=None, sort=_sort_groups(table, what)),
        tooltip=[
            "system:N",
            f"{what}:N",
            alt.Tooltip("accuracy:Q", title="accuracy, %", format=".2f"),
            alt.Tooltip("low:Q", title="95 % interval from", format=".1f"),
            alt.Tooltip("high:Q", title="to", format=".1f"),
            alt.Tooltip("clips:Q", format=","),
        ],
    )
    cells = base.mark_rect().encode(color=role_colour(), opacity=shade("accuracy", 0, 100))
    figures = base.mark_text().encode(text=alt.Text("accuracy:Q", format=".0f"))
    splits = table["split"].unique().to_pylist()
    chart = layer_charts(table, cells, figures).properties(
        width="container", height=alt.Step(ROW_PX)
    )
    return add_menu(chart, "split", splits, splits[0])


def _sort_groups(table: pa.Table, what: str) -> list[str] | alt.EncodingSortField:
    """Sort recording devices by name, the unseen ones last, and other groups by accuracy."""
    if what == "recording device":
        names = table[what].unique().to_pylist()
        return sorted(names, key=lambda name: (name.endswith(f", {UNSEEN}"), name))
    return alt.EncodingSortField("accuracy", op="mean", order="ascending")
