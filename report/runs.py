"""How the training of runs went, and how long it took."""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from logit_store import DamagedFile, LogitKey, LogitStore
from report.charts import NAME_AXIS, ROW_PX, add_menu, make_legend
from report.choice import ALONE, TAUGHT
from report.colours import ALONE_COLOUR, KIND_COLOURS
from report.featured import list_splits
from report.honesty import NOT_RECORDED, name_machine
from report.parts import Figure, Row, Section
from report.results import JudgedSystem, Results
from training.keys import locate_record
from training.recipe import find_judging_fold

logger = logging.getLogger(__name__)

POINTS = 4000
"""At most this many points in all curves together."""
MOST_OF_A_CURVE = 60
LEARNERS = {
    "teacher": KIND_COLOURS["teacher"],
    ALONE: ALONE_COLOUR,
    TAUGHT: KIND_COLOURS["student"],
}
RECORDS_AT_ONCE = 16
"""Records that are read at the same time, as a store may answer slowly."""
BARS = 30
"""Systems in the chart of training time, the longest first; the table has all."""

History = list[dict[str, float]]


def build_runs(results: Results) -> Section:
    """Build the section on learning curves and the cost of runs."""
    learners = [system for system in results.systems if not system.reference]
    histories = _read_histories(results.store, learners)
    with_curve = [each for each in learners if any(key in histories for key in each.keys)]
    hours = _draw_hours(learners)
    figures = [_draw_curves(results, with_curve, histories)] if with_curve else []
    n_without = len(learners) - len(with_curve)
    text = (
        f"{sum(len(system.keys) for system in learners):,} runs of {len(learners):,} teachers and "
        "students. Runs have no recorded prices, so costs are times."
        + (
            f" {n_without} of these have no curve: probes, imported, or without their records."
            if n_without
            else ""
        )
    )
    return Section(
        name="runs",
        title="Learning curves and cost",
        text=text,
        figures=(*figures, *([hours] if hours.table.num_rows else [])),
    )


def _read_histories(store: LogitStore, systems: list[JudgedSystem]) -> dict[LogitKey, History]:
    """Read the metrics of each run's epochs; runs without a record are left out."""
    runs_of = [(system.kind, key) for system in systems for key in system.keys]
    with ThreadPoolExecutor(RECORDS_AT_ONCE) as pool:
        histories = pool.map(lambda run: _read_history(store, *run), runs_of)
        return {key: each for (_, key), each in zip(runs_of, histories, strict=True) if each}


def _read_history(store: LogitStore, kind: str, key: LogitKey) -> History:
    name = locate_record(kind, key.member)
    if name not in store.objects:
        return []
    try:
        return store.objects.read_json(name).get("history", [])
    except DamagedFile as error:
        logger.warning("a learning curve is left out: %s", error)
        return []


def _draw_lines(table: pa.Table) -> alt.Chart:
    """Draw a line for each system, the featured ones stronger, those judged on test dashed."""
    return (
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
            color=_make_learner_colour(table),
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


def _draw_curves(
    results: Results, systems: list[JudgedSystem], histories: Mapping[LogitKey, History]
) -> Figure:
    few = max(2, min(MOST_OF_A_CURVE, POINTS // len(systems)))
    roles = {
        id(system): role
        for split in list_splits(results)
        for role, system in results.featured[split].items()
    }
    rows = [
        row
        for system in systems
        for row in _list_points(system, roles.get(id(system), ""), histories, few)
    ]
    table = pa.Table.from_pylist(rows)
    lines = _draw_lines(table)
    splits = [str(split) for split in list_splits(results)]
    chart = lines.properties(width="container", height=360)
    return Figure(
        name="learning-curves",
        title="Learning curves",
        caption="One line for each teacher or student, the mean over its seeds: the log loss after "
        "each epoch on clips that are not used for training. Thick lines are the systems shown "
        "above; dashed ones were judged on test clips, as published.",
        table=table,
        chart=add_menu(chart, "split", splits, splits[0]),
    )


def _list_points(
    system: JudgedSystem, role: str, histories: Mapping[LogitKey, History], most: int
) -> Iterator[Row]:
    """Yield at most `most` points of a system's curve, with the first and the last epoch."""
    of_seeds = [histories[key] for key in system.keys if key in histories]
    by_epoch: dict[int, list[Mapping[str, float]]] = {}
    for metrics in (metrics for history in of_seeds for metrics in history):
        by_epoch.setdefault(int(metrics["epoch"]), []).append(metrics)
    epochs = sorted(by_epoch)
    fold = find_judging_fold(system.records[0]["protocol"])
    for position in np.unique(np.linspace(0, len(epochs) - 1, most).round().astype(int)):
        in_epoch = by_epoch[epochs[position]]
        yield {
            "split": str(system.split),
            "system": system.name,
            "learner": _name_learner(system),
            "role": role,
            "epoch": epochs[position],
            "seeds": len(in_epoch),
            "judged on": fold,
            "log loss": fmean(each[f"{fold}_log_loss"] for each in in_epoch),
            "training loss": fmean(each["loss"] for each in in_epoch),
        }


def _draw_hours(learners: list[JudgedSystem]) -> Figure:
    """Draw the training time of all splits and seeds together."""
    spent: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for system in learners:
        known = [record for record in system.records if "training_s" in record]
        if known:
            spent.setdefault((_name_learner(system), system.name), []).extend(known)
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
                    sorted({name_machine(each) or NOT_RECORDED for each in spent[learner, system]})
                ),
            }
            for place, (learner, system) in enumerate(order, start=1)
        ]
    )
    return Figure(
        name="training-time",
        title="Training time",
        caption=f"{unit.capitalize()} of training for all splits and seeds of a system together, "
        f"on the machine that the table names: {sum(seconds.values()) / unit_s:,.1f} {unit} in all.",
        table=table,
        chart=_draw_bars(table, unit) if spent else None,
    )


def _name_learner(system: JudgedSystem) -> str:
    """Return which of `LEARNERS` a system is."""
    if system.kind == "teacher":
        return "teacher"
    return ALONE if system.taught_by is None else TAUGHT


def _make_learner_colour(table: pa.Table) -> alt.Color:
    present = table["learner"].unique().to_pylist()
    legend = make_legend([learner for learner in LEARNERS if learner in present], on_a_phone=1)
    scale = alt.Scale(domain=list(LEARNERS), range=list(LEARNERS.values()))
    return alt.Color("learner:N", title=None, scale=scale, legend=legend)


def _draw_bars(table: pa.Table, unit: str) -> alt.Chart:
    bars = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            y=alt.Y("system:N", sort=None, axis=NAME_AXIS),
            x=alt.X(f"{unit}:Q", title=f"{unit} of training", axis=alt.Axis(tickCount=6)),
            color=_make_learner_colour(table),
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
