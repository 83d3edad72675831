"""Where systems are right: by recording device, seen in training or not, by scene and by city.

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
    NAMES,
    ROW_PX,
    WORDS_BELOW_EACH_OTHER,
    choosable,
    layered,
    role_colour,
)
from report.colours import shaded
from report.featured import ROLES, featured, splits_of, who_is_who
from report.parts import Figure, Section
from report.results import Judged, Results
from report.summary import JudgedClips

SEEN, UNSEEN = "seen", "unseen"


def groups(results: Results) -> Section:
    """Accuracy on parts of the test clips."""
    figures = [_gap(results), _by(results, "recording device"), _by(results, "scene")]
    told = np.unique(results.corpus.column("city")).tolist() != [UNKNOWN]
    if told:
        figures.append(_by(results, "city"))
    text = (
        "A recording device is seen if the split's training clips have it. Accuracies are of clips "
        "pooled over seeds, with 95 % intervals over recordings."
        + ("" if told else " The corpus tells no cities.")
    )
    return Section(
        name="groups",
        title="Recording devices, scenes and cities",
        text=f"{text}\n\n{who_is_who(results)}",
        figures=tuple(figure for figure in figures if figure.table.num_rows),
    )


def _gap(results: Results) -> Figure:
    rows = [
        {
            "split": str(split),
            "role": role,
            "system": system.name,
            "recording devices": which,
            "accuracy": 100 * value,
        }
        for split in splits_of(results)
        for role, system in featured(results, split).items()
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
        caption="A line a system: filled on recording devices that the training clips have, hollow "
        "on those that they lack. The longer the line, the more a system depends on the device.",
        table=table,
        chart=_gap_chart(table) if rows else None,
    )


def _gap_chart(table: pa.Table) -> alt.LayerChart:
    base = alt.Chart().encode(
        y=alt.Y("role:N", sort=list(ROLES), axis=NAMES),
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
    chart = layered(table, lines, points).properties(width="container", height=alt.Step(ROW_PX + 8))
    return choosable(chart, "split", splits, splits[0])


def _by(results: Results, what: str) -> Figure:
    rows = [
        row
        for split in splits_of(results)
        for role, system in featured(results, split).items()
        for row in _rows(results, system, role, what)
    ]
    table = pa.Table.from_pylist(rows)
    return Figure(
        name=f"accuracy-by-{what.replace(' ', '-')}",
        title=f"Accuracy by {what}",
        caption=f"Share of right clips in percent, a row a {what}"
        + (
            "; unseen ones are not among the training clips." if what == "recording device" else "."
        ),
        table=table,
        chart=_heat_map(table, what) if rows else None,
    )


def _rows(results: Results, system: Judged, role: str, what: str) -> Iterator[dict[str, Any]]:
    """A row a recording device, scene or city."""
    test = results.clips[system.split]
    logits_APK = list(results.logits(system))
    of_clip = _groups(results, test, what)
    for group in np.unique(of_clip):
        inside = of_clip == group
        interval = _accuracy([each[inside] for each in logits_APK], test, inside)
        yield {
            "split": str(system.split),
            "role": role,
            "system": system.name,
            what: group + _note(test, inside, what),
            "clips": int(inside.sum()),
            **interval,
        }


def _groups(results: Results, test: JudgedClips, what: str) -> np.ndarray:
    """The group of each test clip, [P]."""
    if what == "scene":
        return np.array(results.corpus.scenes)[test.labels]
    return test.cities if what == "city" else test.recording_devices


def _note(test: JudgedClips, inside: np.ndarray, what: str) -> str:
    unseen = what == "recording device" and not test.seen[inside].any()
    return f", {UNSEEN}" if unseen else ""


def _accuracy(
    logits_APK: Sequence[np.ndarray], test: JudgedClips, inside: np.ndarray
) -> dict[str, float | None]:
    """Share of right clips in percent, of all seeds together; no interval of a lone recording."""
    n_seeds = len(logits_APK)
    logits, labels = np.concatenate(logits_APK), np.tile(test.labels[inside], n_seeds)
    recordings = np.tile(test.recordings[inside], n_seeds)
    if len(np.unique(recordings)) < 2:
        return {"accuracy": 100 * accuracy(logits, labels), "low": None, "high": None}
    interval = bootstrap(logits, labels, recordings, figure="accuracy")
    values = (interval.value, interval.low, interval.high)
    return dict(zip(("accuracy", "low", "high"), (100 * each for each in values), strict=True))


def _heat_map(table: pa.Table, what: str) -> alt.LayerChart:
    base = alt.Chart().encode(
        x=alt.X("role:N", sort=list(ROLES), axis=WORDS_BELOW_EACH_OTHER),
        y=alt.Y(f"{what}:N", title=None, sort=_order(table, what)),
        tooltip=[
            "system:N",
            f"{what}:N",
            alt.Tooltip("accuracy:Q", title="accuracy, %", format=".2f"),
            alt.Tooltip("low:Q", title="95 % interval from", format=".1f"),
            alt.Tooltip("high:Q", title="to", format=".1f"),
            alt.Tooltip("clips:Q", format=","),
        ],
    )
    cells = base.mark_rect().encode(color=role_colour(), opacity=shaded("accuracy", 0, 100))
    figures = base.mark_text().encode(text=alt.Text("accuracy:Q", format=".0f"))
    splits = table["split"].unique().to_pylist()
    chart = layered(table, cells, figures).properties(width="container", height=alt.Step(ROW_PX))
    return choosable(chart, "split", splits, splits[0])


def _order(table: pa.Table, what: str) -> list[str] | alt.EncodingSortField:
    """Recording devices by name, the unseen ones last; all else with the hardest first."""
    if what == "recording device":
        names = table[what].unique().to_pylist()
        return sorted(names, key=lambda name: (name.endswith(f", {UNSEEN}"), name))
    return alt.EncodingSortField("accuracy", op="mean", order="ascending")
