"""What students gained from teachers: each way to learn against the same student alone.

Dimensions: P test clips of a split, K classes; A seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from metrics import main_score
from report.charts import NAME_AXIS, add_menu, layer_charts, make_reference
from report.colours import KIND_COLOURS
from report.parts import Figure, Section
from report.results import JudgedSystem, Results
from report.summary import (
    TOO_FEW_SEEDS,
    JudgedClips,
    compare_logits,
    describe_intervals,
    describe_score,
    has_verdict,
)
from report.systems import identify_network
from terminal.tables import format_count

NAME, TITLE = "distillation", "What distillation gave"
ALL, UNSEEN = "all", "unseen recording devices"
MEAN = "mean over seeds"
OFFSET_PX = 18
"""Height of each of the two lines of a way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pupils:
    """One student model on one split: trained on labels alone, and taught."""

    alone: JudgedSystem
    taught: tuple[JudgedSystem, ...]

    @property
    def name(self) -> str:
        return f"{self.alone.name}, split {self.alone.split}"


def build_distillation(results: Results) -> Section:
    """Build the section of paired differences of accuracy, with intervals over recordings and seeds."""
    groups = _find_pupils(results)
    rows = [row for group in groups for row in _measure_ways(results, group)]
    if not rows:
        text = "No student model was trained both alone and by teachers with the same seed."
        return Section(name=NAME, title=TITLE, text=text)
    table = pa.Table.from_pylist(rows)
    figure = Figure(
        name="gains-of-distillation",
        title="Taught students against the same student alone",
        caption=f"{describe_score(results.corpus)} minus that of the student alone, in points. The large dot is the "
        "mean over seeds with its 95 % interval "
        f"{describe_intervals(results.corpus)}; where an interval over seeds does not contain 0, "
        "the gain is more than chance; fewer seeds are too few to tell. Small dots are single seeds. Filled dots: all test "
        "clips; hollow dots: clips of recording devices that are not in the training clips.",
        table=table,
        chart=_draw(table),
    )
    text = "\n\n".join(_describe(group, rows) for group in groups)
    return Section(name=NAME, title=TITLE, text=text, figures=(figure,))


def _find_pupils(results: Results) -> list[_Pupils]:
    """Return the models that were trained both ways, those of the largest split first."""
    models: dict[tuple[int, str], list[JudgedSystem]] = {}
    for system in results.list_systems("student"):
        network = identify_network(system.recipe, system.records[0])
        if network is not None:
            models.setdefault((system.split, network), []).append(system)
    groups = []
    for students in models.values():
        alone = [each for each in students if each.taught_by is None]
        taught = [each for each in students if each.taught_by is not None]
        if alone and taught:
            best = min(alone, key=lambda each: each.select_loss)
            groups.append(_Pupils(alone=best, taught=tuple(taught)))
    return sorted(groups, key=lambda group: (-group.alone.split, group.name))


def _measure_ways(results: Results, group: _Pupils) -> Iterator[dict[str, Any]]:
    """Yield the rows of all ways; the student alone is read once."""
    alone = dict(zip(group.alone.seeds, results.read_logits(group.alone), strict=True))
    for way in group.taught:
        taught = dict(zip(way.seeds, results.read_logits(way), strict=True))
        seeds = [seed for seed in alone if seed in taught]
        pair = ({seed: each[seed] for seed in seeds} for each in (alone, taught))
        yield from _measure_gains(results.clips[way.split], group.name, way.name, *pair)


def _measure_gains(
    test: JudgedClips,
    against: str,
    way: str,
    first: Mapping[int | None, np.ndarray],
    second: Mapping[int | None, np.ndarray],
) -> Iterator[dict[str, Any]]:
    """Yield rows for the mean and for each seed, on all clips and on those of unseen devices.

    The logits [P, K] of both are of the same seeds.
    """
    for clips, unseen_only in ((ALL, False), (UNSEEN, True)):
        inside = ~test.seen if unseen_only else np.ones_like(test.seen)
        if not first or len(np.unique(test.groups[inside])) < 2:
            continue
        pair = (list(first.values()), list(second.values()))
        gain = compare_logits(test, *pair, unseen_only=unseen_only).difference
        common = {
            "against": against,
            "way": way,
            "clips": clips,
        }
        yield common | {
            "what": MEAN,
            "gain": 100 * gain.value,
            "low": 100 * gain.low,
            "high": 100 * gain.high,
            "seeds": len(first),
            "interval over": test.name_drawn(len(first)),
        }
        labels = test.labels[inside]
        for seed in first:
            accuracies = [main_score(each[seed][inside], labels) for each in (first, second)]
            points = 100 * (accuracies[1] - accuracies[0])
            yield common | {
                "what": f"seed {seed}",
                "gain": points,
                "low": None,
                "high": None,
                "seeds": 1,
                "interval over": None,
            }


def _describe(group: _Pupils, rows: list[dict[str, Any]]) -> str:
    means = [row for row in rows if row["against"] == group.name and row["what"] == MEAN]
    overall = [row for row in means if row["clips"] == ALL]
    judged = [row for row in overall if has_verdict(row["seeds"])]
    clear = [row for row in judged if row["low"] > 0 or row["high"] < 0]
    sentences = [f"Against {group.name}: {format_count(len(overall), 'way')} of distillation."]
    if judged:
        said = f"The interval excludes 0 for {len(clear)}: " if clear else "No interval excludes 0"
        sentences.append(f"{said}{_list_gains(clear)}.")
    if untold := [row for row in overall if row not in judged]:
        sentences.append(f"{TOO_FEW_SEEDS.capitalize()}: {_list_gains(untold)}.")
    return " ".join(sentences)


def _list_gains(rows: Sequence[dict[str, Any]]) -> str:
    return "; ".join(
        f"{row['way']} {row['gain']:+.1f} points ({row['low']:+.1f} to {row['high']:+.1f} over "
        f"{row['interval over']})"
        for row in rows
    )


def _draw(table: pa.Table) -> alt.LayerChart:
    colour = KIND_COLOURS["student"]
    offset = alt.YOffset("clips:N", sort=[ALL, UNSEEN], scale=alt.Scale(paddingOuter=0.2))
    base = alt.Chart().encode(
        y=alt.Y("way:N", sort=None, axis=NAME_AXIS),
        yOffset=offset,
        x=alt.X("gain:Q", title="gain in points"),
        tooltip=[
            "way:N",
            "clips:N",
            "what:N",
            alt.Tooltip("gain:Q", format="+.2f"),
            alt.Tooltip("low:Q", title="95 % interval from", format="+.2f"),
            alt.Tooltip("high:Q", title="to", format="+.2f"),
            "interval over:N",
        ],
    )
    filled = alt.condition(f"datum.clips == '{ALL}'", alt.value(colour), alt.value(None))
    nothing = make_reference().encode(x=alt.datum(0))
    of_mean, of_seed = f"datum.what == '{MEAN}'", f"datum.what != '{MEAN}'"
    intervals = base.mark_rule(color=colour, strokeWidth=3, opacity=0.4).encode(
        x="low:Q", x2="high:Q"
    )
    means = base.mark_point(size=100, color=colour, opacity=1, strokeWidth=2).encode(fill=filled)
    seeds = base.mark_point(size=22, color=colour, opacity=0.9, strokeWidth=1).encode(fill=filled)
    chart = layer_charts(
        table,
        nothing,
        intervals.transform_filter(of_mean),
        seeds.transform_filter(of_seed),
        means.transform_filter(of_mean),
    ).properties(width="container", height=alt.Step(OFFSET_PX))
    against = table["against"].unique().to_pylist()
    return add_menu(chart, "against", against, against[0])
