"""How well each class is found in clips that may have several labels.

Dimensions: P test clips of a split, K classes; A seeds.
"""

from collections.abc import Iterator

import altair as alt
import numpy as np
import pyarrow as pa

from metrics import average_precisions, bootstrap, log_loss
from report.charts import ROW_PX, WORDS_BELOW_EACH_OTHER, add_menu, layer_charts, role_colour
from report.choice import ROLES
from report.colours import shade
from report.device_networks import build_device_figures
from report.featured import describe_featured, list_splits
from report.parts import Figure, Row, Section
from report.results import JudgedSystem, Results
from report.summary import describe_intervals


def build_classes(results: Results) -> Section:
    """Build the section on the average precision of each class."""
    rows = [
        row
        for split in list_splits(results)
        for role, system in results.featured[split].items()
        for row in _list_classes(results, system, role)
    ]
    table = pa.Table.from_pylist(rows)
    figure = Figure(
        name="precision-by-class",
        title="Average precision by class",
        caption="In percent, one row for each class that occurs among the test clips. Chance: the share "
        "of clips that have the class, which is the average precision of clips in random order. Intervals "
        "count a draw without the class as 0. Log loss in nats.",
        table=table,
        chart=_make_heat_map(table) if rows else None,
    )
    text = (
        "A clip may have several labels or none, so each class is judged by itself: by how many of the "
        "clips that a system is surest of have it. The table has 95 % intervals "
        f"{describe_intervals(results.corpus)}. Confusions, groups of clips and clips to listen to are "
        "for corpora with one label a clip, and are left out here."
    )
    return Section(
        name="classes",
        title="Classes",
        text=f"{text}\n\n{describe_featured(results)}",
        figures=(figure, *build_device_figures(results)) if rows else (),
    )


def _list_classes(results: Results, system: JudgedSystem, role: str) -> Iterator[Row]:
    test, logits_APK = results.clips[system.split], list(results.read_logits(system))
    precision_AK = np.array([average_precisions(each, test.labels) for each in logits_APK])
    for k, name in enumerate(results.corpus.scenes):
        targets_P1 = test.labels[:, [k]]
        if not targets_P1.any():
            continue
        of_class_AP1 = [logits_PK[:, [k]] for logits_PK in logits_APK]
        interval = bootstrap(of_class_AP1, targets_P1, test.groups, metric="mean_average_precision")
        yield {
            "split": str(system.split),
            "role": role,
            "system": system.name,
            "class": name,
            "clips": int(targets_P1.sum()),
            "precision": 100 * float(precision_AK[:, k].mean()),
            "low": 100 * interval.low,
            "high": 100 * interval.high,
            "chance": 100 * float(targets_P1.mean()),
            "log loss": float(np.mean([log_loss(each, targets_P1) for each in of_class_AP1])),
        }


def _make_heat_map(table: pa.Table) -> alt.LayerChart:
    base = alt.Chart().encode(
        x=alt.X("role:N", sort=list(ROLES), axis=WORDS_BELOW_EACH_OTHER),
        y=alt.Y(
            "class:N",
            title=None,
            sort=alt.EncodingSortField("precision", op="mean", order="ascending"),
        ),
        tooltip=[
            "system:N",
            "class:N",
            alt.Tooltip("precision:Q", title="average precision, %", format=".1f"),
            alt.Tooltip("low:Q", title="95 % interval from", format=".1f"),
            alt.Tooltip("high:Q", title="to", format=".1f"),
            alt.Tooltip("chance:Q", title="chance, %", format=".1f"),
            alt.Tooltip("clips:Q", format=","),
        ],
    )
    cells = base.mark_rect().encode(color=role_colour(), opacity=shade("precision", 0, 100))
    figures = base.mark_text().encode(text=alt.Text("precision:Q", format=".0f"))
    splits = table["split"].unique().to_pylist()
    chart = layer_charts(table, cells, figures).properties(
        width="container", height=alt.Step(ROW_PX)
    )
    return add_menu(chart, "split", splits, splits[0])
