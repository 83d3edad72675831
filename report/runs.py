"""How runs learnt, and how long they took."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from logit_store import LogitKey, LogitStore
from report.charts import NAMES, ROW_PX, choosable, legend_of
from report.colours import ALONE_COLOUR, KINDS
from report.featured import ALONE, TAUGHT, featured, splits_of
from report.honesty import UNKNOWN, machine_of
from report.parts import Figure, Section
from report.results import Judged, Results
from training.member import record_object
from training.recipe import judging_fold

POINTS = 4000
"""Of all curves together, at most."""
MOST_OF_A_CURVE = 60
LEARNERS = {
    "teacher": KINDS["teacher"],
    ALONE: ALONE_COLOUR,
    TAUGHT: KINDS["student"],
}
READ_AT_ONCE = 16
"""Records, for a store that answers slowly."""
BARS = 30
"""Of what took longest; the table has the rest."""

Row = dict[str, Any]
History = list[dict[str, float]]


def runs(results: Results) -> Section:
    """Learning curves, and what runs cost."""
    learners = [system for system in results.systems if not system.reference]
    told = _histories(results.store, learners)
    learnt = [system for system in learners if any(key in told for key in system.keys)]
    hours = _hours(learners)
    figures = [_curves(results, learnt, told)] if learnt else []
    lost = len(learners) - len(learnt)
    text = (
        f"{sum(len(system.keys) for system in learners):,} runs of {len(learners):,} teachers and "
        "students. Prices are not recorded with runs, so that costs are time."
        + (
            f" {lost} of these left no curve here: imported, or their records are gone."
            if lost
            else ""
        )
    )
    return Section(
        name="runs",
        title="Learning curves and cost",
        text=text,
        figures=(*figures, *([hours] if hours.table.num_rows else [])),
    )


def _histories(store: LogitStore, systems: list[Judged]) -> dict[LogitKey, History]:
    """Figures of each run's epochs; runs without a record are left out."""
    runs_of = [(system.kind, key) for system in systems for key in system.keys]
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        found = pool.map(lambda run: _history(store, *run), runs_of)
        return {key: history for (_, key), history in zip(runs_of, found, strict=True) if history}


def _history(store: LogitStore, kind: str, key: LogitKey) -> History:
    name = record_object(kind, key.member)
    return json.loads(store.read_object(name))["history"] if store.has_object(name) else []


def _curves(results: Results, learnt: list[Judged], told: Mapping[LogitKey, History]) -> Figure:
    few = max(2, min(MOST_OF_A_CURVE, POINTS // len(learnt)))
    roles = {
        id(system): role
        for split in splits_of(results)
        for role, system in featured(results, split).items()
    }
    rows = [
        row for system in learnt for row in _curve(system, roles.get(id(system), ""), told, few)
    ]
    table = pa.Table.from_pylist(rows)
    lines = (
        alt.Chart(table)
        .mark_line()
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickCount=6)),
            y=alt.Y(
                "log loss:Q",
                title="log loss, nats",
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(tickCount=6),
            ),
            color=_learner_colour(table),
            detail="system:N",
            strokeDash=alt.StrokeDash(
                "judged on:N",
                scale=alt.Scale(domain=["select", "test"], range=[[1, 0], [4, 3]]),
                legend=None,
            ),
            opacity=alt.condition("datum.role != ''", alt.value(1), alt.value(0.5)),
            strokeWidth=alt.condition("datum.role != ''", alt.value(2.5), alt.value(1)),
            tooltip=[
                "system:N",
                "role:N",
                "epoch:Q",
                alt.Tooltip("log loss:Q", format=".4f"),
                alt.Tooltip("training loss:Q", format=".4f"),
                "judged on:N",
                alt.Tooltip("seeds:Q"),
            ],
        )
    )
    splits = [str(split) for split in splits_of(results)]
    chart = lines.properties(width="container", height=360)
    return Figure(
        name="learning-curves",
        title="How they learnt",
        caption="A line a teacher or student, the mean over its seeds: log loss after each epoch on "
        "clips that it does not learn from. Thick lines are the systems shown above; dashed ones "
        "were judged on test clips, as published.",
        table=table,
        chart=choosable(chart, "split", splits, splits[0]),
    )


def _curve(
    system: Judged, role: str, told: Mapping[LogitKey, History], points: int
) -> Iterator[Row]:
    """At most so many points of a system's curve, the first and the last epoch among them."""
    histories = [told[key] for key in system.keys if key in told]
    by_epoch: dict[int, list[Mapping[str, float]]] = {}
    for figures in (figures for history in histories for figures in history):
        by_epoch.setdefault(int(figures["epoch"]), []).append(figures)
    epochs = sorted(by_epoch)
    fold = judging_fold(system.records[0]["protocol"])
    for position in np.unique(np.linspace(0, len(epochs) - 1, points).round().astype(int)):
        of_seeds = by_epoch[epochs[position]]
        yield {
            "split": str(system.split),
            "system": system.name,
            "learner": _learner(system),
            "role": role,
            "epoch": epochs[position],
            "seeds": len(of_seeds),
            "judged on": fold,
            "log loss": fmean(each[f"{fold}_log_loss"] for each in of_seeds),
            "training loss": fmean(each["loss"] for each in of_seeds),
        }


def _hours(learners: list[Judged]) -> Figure:
    """Time of all splits and seeds together."""
    spent: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for system in learners:
        known = [record for record in system.records if "training_s" in record]
        if known:
            spent.setdefault((_learner(system), system.name), []).extend(known)
    seconds = {name: sum(each["training_s"] for each in run) for name, run in spent.items()}
    unit, unit_s = ("hours", 3600) if sum(seconds.values()) >= 3600 else ("minutes", 60)
    order = sorted(spent, key=lambda name: -seconds[name])
    table = pa.Table.from_pylist(
        [
            {
                "place": place,
                "system": system,
                "learner": learner,
                "runs": len(spent[learner, system]),
                unit: seconds[learner, system] / unit_s,
                f"{unit} a run": seconds[learner, system] / unit_s / len(spent[learner, system]),
                "machine": ", ".join(
                    sorted({machine_of(each) or UNKNOWN for each in spent[learner, system]})
                ),
            }
            for place, (learner, system) in enumerate(order, start=1)
        ]
    )
    return Figure(
        name="training-time",
        title="What it cost to learn",
        caption=f"{unit.capitalize()} of learning, of all splits and seeds of a system together, on "
        f"the machine that the table names: {sum(seconds.values()) / unit_s:,.1f} {unit} in all.",
        table=table,
        chart=_bars(table, unit) if spent else None,
    )


def _learner(system: Judged) -> str:
    """Which of `LEARNERS` a system is."""
    if system.kind == "teacher":
        return "teacher"
    return ALONE if system.taught_by is None else TAUGHT


def _learner_colour(table: pa.Table) -> alt.Color:
    there = table["learner"].unique().to_pylist()
    legend = legend_of([learner for learner in LEARNERS if learner in there], on_a_phone=1)
    scale = alt.Scale(domain=list(LEARNERS), range=list(LEARNERS.values()))
    return alt.Color("learner:N", title=None, scale=scale, legend=legend)


def _bars(table: pa.Table, unit: str) -> alt.Chart:
    bars = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            y=alt.Y("system:N", sort=None, axis=NAMES),
            x=alt.X(f"{unit}:Q", title=f"{unit} of learning", axis=alt.Axis(tickCount=6)),
            color=_learner_colour(table),
            tooltip=[
                "system:N",
                "runs:Q",
                alt.Tooltip(f"{unit}:Q", format=",.2f"),
                alt.Tooltip(f"{unit} a run:Q", format=",.3f"),
                "machine:N",
            ],
        )
    )
    return bars.transform_filter(f"datum.place <= {BARS}").properties(
        width="container", height=alt.Step(ROW_PX)
    )
