"""What teachers gave students: each way to learn against the same student alone.

Dimensions: P test clips of a split, K classes; A seeds.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from metrics import macro_accuracy
from report.charts import NAMES, choosable, layered, reference
from report.colours import KINDS
from report.featured import by_select_loss
from report.parts import Figure, Section
from report.results import Judged, Results
from report.summary import compared

NAME, TITLE = "distillation", "What distillation gave"
ALL, UNSEEN = "all", "unseen recording devices"
MEAN = "mean over seeds"
OFFSET_PX = 18
"""Height of one of the two lines of a way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pupils:
    """One student model on one split: alone, and taught."""

    alone: Judged
    taught: tuple[Judged, ...]

    @property
    def name(self) -> str:
        return f"{self.alone.name}, split {self.alone.split}"


def distillation(results: Results) -> Section:
    """Paired differences of accuracy, with intervals over recordings."""
    groups = _groups(results)
    rows = [row for group in groups for way in group.taught for row in _gains(results, group, way)]
    if not rows:
        text = "No student has learnt both alone and from teachers, with a seed in common."
        return Section(name=NAME, title=TITLE, text=text)
    table = pa.Table.from_pylist(rows)
    figure = Figure(
        name="gains-of-distillation",
        title="Taught students against the same student alone",
        caption="Macro accuracy less that of the student alone, in points. The large dot is the "
        "mean over seeds with its 95 % interval over recordings: it tells a gain from luck where it "
        "does not hold 0. Small dots are single seeds. Filled: all test clips; hollow: those of "
        "recording devices that the training clips lack.",
        table=table,
        chart=_chart(table),
    )
    text = "\n\n".join(_said(group, rows) for group in groups)
    return Section(name=NAME, title=TITLE, text=text, figures=(figure,))


def _groups(results: Results) -> list[_Pupils]:
    """Models that learnt both ways, those of the largest split first."""
    models: dict[str, list[Judged]] = {}
    for system in results.of_kind("student"):
        # Logits that others published tell no model: there is nothing to compare them with.
        if "model" in system.recipe:
            told = [system.split, system.recipe["model"], system.recipe["arguments"]]
            int8 = "quantisation" in system.records[0]
            models.setdefault(json.dumps([*told, int8], sort_keys=True), []).append(system)
    groups = []
    for students in models.values():
        alone = by_select_loss(results, [each for each in students if each.taught_by is None])
        taught = [each for each in students if each.taught_by is not None]
        if alone and taught:
            groups.append(_Pupils(alone=alone[0], taught=tuple(taught)))
    return sorted(groups, key=lambda group: (-group.alone.split, group.name))


def _gains(results: Results, group: _Pupils, way: Judged) -> Iterator[dict[str, Any]]:
    """Rows of the mean and of each seed, on all clips and on those of unseen devices."""
    test = results.clips[way.split]
    first, second = _of_common_seeds(results, group.alone, way)
    for clips, unseen_only in ((ALL, False), (UNSEEN, True)):
        inside = ~test.seen if unseen_only else np.ones_like(test.seen)
        if not first or len(np.unique(test.recordings[inside])) < 2:
            continue
        pair = (list(first.values()), list(second.values()))
        gain = compared(test, *pair, unseen_only=unseen_only).difference
        common = {
            "against": group.name,
            "way": way.name,
            "clips": clips,
        }
        yield common | {
            "what": MEAN,
            "gain": 100 * gain.value,
            "low": 100 * gain.low,
            "high": 100 * gain.high,
        }
        labels = test.labels[inside]
        for seed in first:
            worth = [macro_accuracy(each[seed][inside], labels) for each in (first, second)]
            points = 100 * (worth[1] - worth[0])
            yield common | {"what": f"seed {seed}", "gain": points, "low": None, "high": None}


def _of_common_seeds(
    results: Results, first: Judged, second: Judged
) -> tuple[dict[int | None, np.ndarray], dict[int | None, np.ndarray]]:
    """Logits [P, K] of each system by seed, of the seeds that both have."""
    both = [
        dict(zip(system.seeds, results.logits(system), strict=True)) for system in (first, second)
    ]
    seeds = [seed for seed in both[0] if seed in both[1]]
    return {seed: both[0][seed] for seed in seeds}, {seed: both[1][seed] for seed in seeds}


def _said(group: _Pupils, rows: list[dict[str, Any]]) -> str:
    means = [row for row in rows if row["against"] == group.name and row["what"] == MEAN]
    overall = [row for row in means if row["clips"] == ALL]
    sure = [row for row in overall if row["low"] > 0 or row["high"] < 0]
    return (
        f"Against {group.name}: {len(overall)} way(s) to be taught. "
        + (f"The interval leaves out 0 for {len(sure)}: " if sure else "No interval leaves out 0")
        + "; ".join(
            f"{row['way']} {row['gain']:+.1f} points ({row['low']:+.1f} to {row['high']:+.1f})"
            for row in sure
        )
        + "."
    )


def _chart(table: pa.Table) -> alt.LayerChart:
    colour = KINDS["student"]
    offset = alt.YOffset("clips:N", sort=[ALL, UNSEEN], scale=alt.Scale(paddingOuter=0.2))
    base = alt.Chart().encode(
        y=alt.Y("way:N", sort=None, axis=NAMES),
        yOffset=offset,
        x=alt.X("gain:Q", title="gain in points"),
        tooltip=[
            "way:N",
            "clips:N",
            "what:N",
            alt.Tooltip("gain:Q", format="+.2f"),
            alt.Tooltip("low:Q", title="95 % interval from", format="+.2f"),
            alt.Tooltip("high:Q", title="to", format="+.2f"),
        ],
    )
    filled = alt.condition(f"datum.clips == '{ALL}'", alt.value(colour), alt.value(None))
    nothing = reference().encode(x=alt.datum(0))
    of_mean, of_seed = f"datum.what == '{MEAN}'", f"datum.what != '{MEAN}'"
    intervals = base.mark_rule(color=colour, strokeWidth=3, opacity=0.4).encode(
        x="low:Q", x2="high:Q"
    )
    means = base.mark_point(size=100, color=colour, opacity=1, strokeWidth=2).encode(fill=filled)
    seeds = base.mark_point(size=22, color=colour, opacity=0.9, strokeWidth=1).encode(fill=filled)
    chart = layered(
        table,
        nothing,
        intervals.transform_filter(of_mean),
        seeds.transform_filter(of_seed),
        means.transform_filter(of_mean),
    ).properties(width="container", height=alt.Step(OFFSET_PX))
    against = table["against"].unique().to_pylist()
    return choosable(chart, "against", against, against[0])
