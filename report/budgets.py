"""Accuracy against cost: multiply-accumulates and bytes of parameters."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import altair as alt
import pyarrow as pa

from report.charts import add_menu
from report.colours import NEUTRAL, alarm_stroke, kind_colour
from report.costs import SystemCost
from report.featured import list_splits
from report.parts import Figure, Section
from report.results import JudgedSystem, Results
from report.summary import describe_intervals, describe_score, name_score, title_score
from students.complexity import BYTES, MAX_BYTES, MAX_MACS

_HEIGHT_PX = 340
_STUDENT_MARKS = [
    "triangle-up",
    "square",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Budget:
    """A kind of cost that is drawn against accuracy."""

    name: str
    column: str
    title: str
    read: Callable[[SystemCost], int | None]
    limit: float
    limit_title: str


_BUDGETS = (
    _Budget(
        name="macs",
        column="macs",
        title="multiply-accumulates per clip",
        read=lambda cost: cost.macs,
        limit=MAX_MACS,
        limit_title="challenge: 30 MMACs",
    ),
    _Budget(
        name="bytes",
        column="parameter_bytes",
        title="bytes of parameters",
        read=lambda cost: cost.parameter_bytes,
        # Most systems are judged in float32, but a device runs them in int8.
        limit=MAX_BYTES * BYTES["fp32"],
        limit_title="128 kB in int8",
    ),
)


def build_budgets(results: Results) -> Section:
    """Build the section on accuracy against what a system costs in use."""
    figures = [_build_figure(results, budget) for budget in _BUDGETS]
    return Section(
        name="budgets",
        title=f"{title_score(results.corpus)} against cost",
        text="The dashed steps are the Pareto front: no system of the same or lower cost is "
        "better. The shape of a student's mark shows its objective, in the words of --ways. A "
        "red ring marks a system for which test clips chose something.",
        figures=tuple(figures),
    )


def _build_figure(results: Results, budget: _Budget) -> Figure:
    known = [each for each in results.systems if budget.read(each.cost) is not None]
    n_unknown = len(results.systems) - len(known)
    fronts = {split: _find_front(known, split, budget) for split in list_splits(results)}
    rows = [
        {
            "split": str(each.split),
            "system": each.name,
            "kind": each.kind,
            "protocol": each.protocol,
            "objective": _name_shape(each),
            budget.column: budget.read(each.cost),
            "accuracy": 100 * each.summary.accuracy.value,
            "low": 100 * each.summary.accuracy.low,
            "high": 100 * each.summary.accuracy.high,
            "on_front": each in fronts[each.split],
        }
        for each in known
    ]
    table = pa.Table.from_pylist(rows)
    unknown = f" Not shown: {n_unknown} systems whose cost is not recorded." if n_unknown else ""
    return Figure(
        name=f"accuracy-by-{budget.name}",
        title=f"{title_score(results.corpus)} against {budget.title}",
        caption=f"{describe_score(results.corpus)} on test; a mark's interval is "
        f"{describe_intervals(results.corpus)}. The cost of an ensemble is the sum over its "
        f"members. The vertical line is the limit of DCASE task 1 ({budget.limit_title})."
        + unknown,
        table=table,
        chart=_draw(table, budget, name_score(results.corpus)) if rows else None,
    )


def _find_front(systems: Sequence[JudgedSystem], split: int, budget: _Budget) -> list[JudgedSystem]:
    """Return a split's honest systems that are better than all that cost the same or less."""

    def cost_and_error(system: JudgedSystem) -> tuple[int, float]:
        return budget.read(system.cost) or 0, -system.summary.accuracy.value

    front: list[JudgedSystem] = []
    honest = [each for each in systems if each.split == split and each.protocol == "honest"]
    for each in sorted(honest, key=cost_and_error):
        if not front or each.summary.accuracy.value > front[-1].summary.accuracy.value:
            front.append(each)
    return front


def _name_shape(system: JudgedSystem) -> str:
    """Return what the shape of a mark stands for: a student's objective, or the system's kind."""
    if system.kind != "student":
        return system.kind
    return system.objective or "student of another version"


def _draw(table: pa.Table, budget: _Budget, score: str) -> alt.TopLevelMixin:
    costs = table[budget.column].to_pylist()
    # A factor of two on both sides keeps the axis useful where all systems cost the same.
    domain = [min(*costs, budget.limit) / 2, max(*costs, budget.limit) * 2]
    accuracies = table["accuracy"].to_pylist()
    percents = [math.floor(min(accuracies)) - 1, math.ceil(max(accuracies)) + 1]
    base = alt.Chart(table).encode(
        x=alt.X(
            f"{budget.column}:Q",
            title=f"{budget.title}, logarithmic",
            scale=alt.Scale(type="log", domain=domain, nice=False),
            axis=alt.Axis(format="~s", tickCount=6, grid=False),
        ),
        y=alt.Y("accuracy:Q", title=f"{score}, %", scale=alt.Scale(domain=percents)),
    )
    front = base.transform_filter("datum.on_front").mark_line(
        interpolate="step-after", color=NEUTRAL, strokeDash=[4, 3]
    )
    systems = base.mark_point(size=90, filled=True, opacity=0.9, strokeWidth=2.5).encode(
        color=kind_colour(alt.Legend(orient="top", symbolOpacity=1)),
        shape=_make_shape(table),
        stroke=alarm_stroke(),
        tooltip=[
            "system:N",
            "objective:N",
            "protocol:N",
            alt.Tooltip("accuracy:Q", title=f"{score}, %", format=".2f"),
            alt.Tooltip("low:Q", title="95 % interval from", format=".1f"),
            alt.Tooltip("high:Q", title="to", format=".1f"),
            alt.Tooltip(f"{budget.column}:Q", title=budget.column.replace("_", " "), format=","),
        ],
    )
    limit = (
        alt.Chart(table)
        .transform_aggregate(systems="count()")
        .mark_rule(color=NEUTRAL)
        .encode(x=alt.datum(budget.limit))
    )
    splits = sorted(set(table["split"].to_pylist()), key=int, reverse=True)
    chart = alt.LayerChart(layer=[limit, front, systems])
    chart = chart.properties(width="container", height=_HEIGHT_PX)
    return add_menu(chart, "split", splits, splits[0])


def _make_shape(table: pa.Table) -> alt.Shape:
    kinds = {"teacher": "circle", "ensemble": "diamond"}
    objectives = sorted(set(table["objective"].to_pylist()) - kinds.keys())
    marks = {each: _STUDENT_MARKS[i % len(_STUDENT_MARKS)] for i, each in enumerate(objectives)}
    return alt.Shape(
        "objective:N",
        title="students by objective",
        scale=alt.Scale(domain=[*kinds, *marks], range=[*kinds.values(), *marks.values()]),
        legend=alt.Legend(
            orient="bottom", columns=1, values=list(marks), symbolSize=90, labelLimit=320
        ),
    )
